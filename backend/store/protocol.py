"""What every store does. One contract suite runs over all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np

from backend.errors import InvalidVector
from backend.types import (
    Chunk,
    ChunkId,
    Entries,
    FloatArray,
    Fusion,
    Located,
    ScoredChunk,
    SparseVector,
)

FACETS = ("package", "language", "kind", "source")
"""Fields that filters match whole; `path` is matched by prefix and by patterns."""
Vocabulary = Literal["path", "symbol"]
"""Fields whose values can be listed."""


class ChunkStore(Protocol):
    """The chunks of one index with a dense and a BM25 vector each."""

    def upsert(
        self,
        chunks: Sequence[Chunk],
        dense: FloatArray,
        sparse: Sequence[SparseVector],
        tokens: Sequence[bytes],
        *,
        remove: Collection[ChunkId] = (),
    ) -> None:
        """Insert or replace chunks by id, and remove others, in one step.

        A search beside it sees all of the step or nothing; so does whoever opens the index after
        this process was killed.

        Args:
            chunks: n chunks.
            dense: Unit-norm vectors, shape (n, dimension).
            sparse: n BM25 document vectors.
            tokens: What the reranker's tokenizer made of n passages; kept as it is.
            remove: Ids to remove; one that is not stored, or that is among `chunks`, stays so.

        Raises:
            InvalidVector: A vector is not finite, or the shape is wrong. Nothing is written.
            DataFolderUnusable: It cannot be written. What was there before is still searched.
        """
        ...

    def delete(self, ids: Collection[ChunkId]) -> None:
        """Remove chunks by id, in one step; ids that are not stored do no harm.

        Raises:
            DataFolderUnusable: It cannot be written.
        """
        ...

    def flush(self) -> None:
        """Make everything written so far outlast a power cut.

        Raises:
            DataFolderUnusable: It cannot be written.
        """
        ...

    def optimize(self) -> None:
        """Index and quantize what was written since, merge what lies scattered, and flush.

        Costs what was written since, not what the index holds, save that every so often all of it
        is due. Searches go on meanwhile.

        Raises:
            DataFolderUnusable: It cannot be written. What was there before is still searched.
        """
        ...

    def search(self, located: Located) -> list[ScoredChunk]:
        """Fuse dense and BM25 hits that pass the filters; best first, at most `located.limit`.

        Without a dense vector the BM25 hits alone, with the scores that they have in the fusion.
        """
        ...

    def searched_with(
        self, *, fusion: Fusion | None = None, rescore: bool | None = None
    ) -> ChunkStore:
        """The same index, searched in another way. It lives as long as this one, which is closed
        by whoever opened it."""
        ...

    def entries(self, batch: int = 512) -> Iterator[Entries]:
        """All that is stored, some chunks at a time, in the order of their ids."""
        ...

    def vectors(self, ids: Sequence[ChunkId]) -> Mapping[ChunkId, FloatArray]:
        """The dense vectors of those ids that are stored."""
        ...

    def facets(self) -> Mapping[str, Mapping[str, int]]:
        """For each field of `FACETS`, its values with the number of chunks, most frequent first."""
        ...

    def distinct(self, field: Vocabulary) -> tuple[str, ...]:
        """Every value of a field, in no order; the same tuple until something is written."""
        ...

    def at(self, path: str, line: int) -> Sequence[Chunk]:
        """The chunks of files of this path that hold the line: one for each source with it."""
        ...

    def __len__(self) -> int:
        """Number of chunks."""
        ...

    def close(self) -> None:
        """Release files and memory; the store cannot be used afterwards."""
        ...


def check_vectors(dense: FloatArray, *, count: int, dimension: int) -> None:
    """Refuse what a store would keep silently and never find again.

    Raises:
        InvalidVector: The shape is not (count, dimension), or a value is NaN or infinite.
    """
    if dense.shape != (count, dimension):
        raise InvalidVector(
            f"Expected vectors of shape {(count, dimension)}, got {dense.shape}.",
            fix="Index with the model that the collection was made with.",
        )
    if not np.isfinite(dense).all():
        raise InvalidVector(
            "A vector holds NaN or infinite values.", fix="Check the embedding model's files."
        )
