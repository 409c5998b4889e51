"""An exact store in plain numpy: the oracle that tests and benchmarks compare engines with."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy

import numpy as np

from backend.globs import matching
from backend.store.protocol import FACETS, Vocabulary, check_vectors
from backend.types import (
    Chunk,
    ChunkId,
    Entries,
    Filters,
    FloatArray,
    Fusion,
    Located,
    ScoredChunk,
    SparseVector,
)


class ExactStore:
    """Scores every chunk on every query, in the arithmetic that the engine documents."""

    def __init__(self, *, dimension: int, fusion: Fusion) -> None:
        self._dimension = dimension
        self._fusion = fusion
        self._chunks: dict[ChunkId, Chunk] = {}
        self._tokens: dict[ChunkId, bytes] = {}
        self._dense: dict[ChunkId, FloatArray] = {}
        self._sparse: dict[ChunkId, dict[int, float]] = {}
        self._turn = threading.RLock()

    def upsert(
        self,
        chunks: Sequence[Chunk],
        dense: FloatArray,
        sparse: Sequence[SparseVector],
        tokens: Sequence[bytes],
        *,
        remove: Collection[ChunkId] = (),
    ) -> None:
        check_vectors(dense, count=len(chunks), dimension=self._dimension)
        with self._turn:
            self.delete(remove)
            for chunk, vector, terms, packed in zip(chunks, dense, sparse, tokens, strict=True):
                self._chunks[chunk.id] = chunk
                self._tokens[chunk.id] = packed
                self._dense[chunk.id] = vector
                self._sparse[chunk.id] = dict(zip(terms.indices, terms.values, strict=True))

    def delete(self, ids: Collection[ChunkId]) -> None:
        with self._turn:
            for id in ids:
                for held in (self._chunks, self._tokens, self._dense, self._sparse):
                    held.pop(id, None)

    def flush(self) -> None:
        """Nothing is on disk."""

    def optimize(self) -> None:
        """Nothing to build: every search is exact."""

    def search(self, located: Located) -> list[ScoredChunk]:
        with self._turn:
            return self._search(located)

    def _search(self, located: Located) -> list[ScoredChunk]:
        allowed = [id for id, chunk in self._chunks.items() if _passes(chunk, located.filters)]
        if not allowed:
            return []
        dense: dict[ChunkId, float] = {}
        if located.dense is not None:
            cosines = np.stack([self._dense[id] for id in allowed]) @ located.dense
            dense = {id: float(score) for id, score in zip(allowed, cosines, strict=True)}
        bm25 = {id: score for id in allowed if (score := self._bm25(id, located.sparse)) > 0}
        fused: dict[ChunkId, float] = {}
        for scores, weight in ((dense, 1.0), (bm25, self._fusion.bm25_weight)):
            for id in sorted(scores, key=lambda id: -scores[id])[: self._fusion.depth]:
                fused[id] = fused.get(id, 0.0) + weight * scores[id]
        best = sorted(fused, key=lambda id: -fused[id])[: located.limit]
        return [
            ScoredChunk(chunk=self._chunks[id], score=fused[id], tokens=self._tokens[id])
            for id in best
        ]

    def searched_with(
        self, *, fusion: Fusion | None = None, rescore: bool | None = None
    ) -> ExactStore:
        other = copy(self)
        other._fusion = fusion or self._fusion
        return other

    def entries(self, batch: int = 512) -> Iterator[Entries]:
        ids = sorted(self._chunks)
        for start in range(0, len(ids), batch):
            part = ids[start : start + batch]
            yield Entries(
                chunks=[self._chunks[id] for id in part],
                dense=np.stack([self._dense[id] for id in part]),
                sparse=[
                    SparseVector(list(self._sparse[id]), list(self._sparse[id].values()))
                    for id in part
                ],
                tokens=[self._tokens[id] for id in part],
            )

    def vectors(self, ids: Sequence[ChunkId]) -> Mapping[ChunkId, FloatArray]:
        return {id: self._dense[id] for id in ids if id in self._dense}

    def facets(self) -> Mapping[str, Mapping[str, int]]:
        return {
            field: dict(
                Counter(getattr(chunk, field) for chunk in self._chunks.values()).most_common()
            )
            for field in FACETS
        }

    def distinct(self, field: Vocabulary) -> tuple[str, ...]:
        return tuple({getattr(chunk, field) for chunk in self._chunks.values()})

    def at(self, path: str, line: int) -> Sequence[Chunk]:
        return [
            chunk
            for chunk in self._chunks.values()
            if chunk.path == path and chunk.start_line <= line <= chunk.end_line
        ]

    def __len__(self) -> int:
        return len(self._chunks)

    def close(self) -> None:
        """Nothing is held."""

    def _bm25(self, id: ChunkId, query: SparseVector) -> float:
        document = self._sparse[id]
        return sum(
            weight * document[term] * self._idf(term)
            for term, weight in zip(query.indices, query.values, strict=True)
            if term in document
        )

    def _idf(self, term: int) -> float:
        """Qdrant's formula: ln(1 + (N - df + 0.5) / (df + 0.5))."""
        holders = sum(term in document for document in self._sparse.values())
        return math.log(1 + (len(self._sparse) - holders + 0.5) / (holders + 0.5))


def _passes(chunk: Chunk, filters: Filters) -> bool:
    return (
        (not filters.packages or chunk.package in filters.packages)
        and (not filters.languages or chunk.language in filters.languages)
        and (not filters.kinds or chunk.kind in filters.kinds)
        and (not filters.sources or chunk.source in filters.sources)
        and (not filters.paths or matching(filters.paths, [chunk.path]) != [])
        and chunk.path.startswith(filters.path_prefix)
        and (not filters.ids or chunk.id in filters.ids)
    )
