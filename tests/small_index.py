"""The real indexer on the real engine, with an embedder that costs nothing.

python -m small_index DATA FOLDER brings the index in DATA up to date with FOLDER.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from backend.catalog import Catalog, Record
from backend.embedding.bm25 import query_vector
from backend.errors import UnknownCollection
from backend.indexer import Indexer
from backend.ingestion.collection import Opened
from backend.ingestion.sources.folder import Folder
from backend.ingestion.sources.source import Source
from backend.store.edge import EdgeStore
from backend.store.protocol import ChunkStore
from backend.types import (
    Chunk,
    Filters,
    FloatArray,
    Fusion,
    IndexIdentity,
    IndexProgress,
    IndexReport,
    Located,
    Quantization,
)

DIMENSION = 32
IDENTITY = IndexIdentity(
    **{"model": "hash", "dimension": DIMENSION, "pooling": "", "query_prefix": "", "chunker": "1"},
    **{"document_prefix": "", "document_precision": "", "sparse": "", "tokens": ""},
    quantization="turbo4",
)


class HashEmbedder:
    """Gives every text a vector of its own, and counts."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed_documents(self, texts: Sequence[str]) -> FloatArray:
        self.embedded += texts
        return np.array([vector(text) for text in texts], np.float32)

    def tokenize(self, passages: Sequence[str]) -> Sequence[bytes]:
        return [passage.encode()[:8] for passage in passages]


def vector(text: str) -> FloatArray:
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    drawn = np.random.default_rng(seed).normal(size=DIMENSION)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


class EdgeStores:
    def create(self, folder: Path) -> ChunkStore:
        return EdgeStore.create(folder, **_OPTIONS)

    def open(self, folder: Path) -> ChunkStore:
        return EdgeStore.open(folder, **_OPTIONS)


_OPTIONS = {
    "dimension": DIMENSION,
    "quantization": Quantization(mode="turbo4", rescore=True, oversampling=3.0),
    "fusion": Fusion(bm25_weight=0.05, depth=1000),
}


class SmallIndex:
    """One collection in a folder, opened as after a start."""

    def __init__(self, data: Path, *, identity: IndexIdentity = IDENTITY) -> None:
        self.catalog = Catalog(data)
        self.models = HashEmbedder()
        self.identity = identity
        self.store: ChunkStore | None = None
        try:
            generation = self.catalog.record("c").generation
            self.store = EdgeStores().open(self.catalog.index_folder("c", generation))
        except UnknownCollection:
            pass

    def update(
        self, *sources: Source, on_progress: Callable[[IndexProgress], None] = lambda p: None
    ) -> IndexReport:
        self.models.embedded.clear()
        indexer = Indexer(self.catalog, EdgeStores(), self.models, self.models, self.identity)
        report = indexer.index(
            "c",
            [Opened(source) for source in sources],
            description="",
            current=self.store,
            publish=self._publish,
            on_progress=on_progress,
        )
        self.catalog.discard_earlier("c")
        return report

    def chunks(self) -> list[Chunk]:
        """Everything, by id."""
        return [chunk for part in self._open.entries() for chunk in part.chunks]

    def contents(self) -> list[tuple[Chunk, bytes, bytes]]:
        """Everything that matters to a search, by id: chunk, tokens, vector."""
        return [
            (chunk, tokens, np.round(dense, 5).tobytes())
            for part in self._open.entries()
            for chunk, tokens, dense in zip(part.chunks, part.tokens, part.dense, strict=True)
        ]

    def search(self, text: str, limit: int = 1000) -> list[Chunk]:
        terms = query_vector(text)
        located = Located(dense=vector(text), sparse=terms, filters=Filters(), limit=limit)
        return [hit.chunk for hit in self._open.search(located)]

    def close(self) -> None:
        if self.store is not None:
            self.store.close()

    @property
    def _open(self) -> ChunkStore:
        assert self.store is not None
        return self.store

    def _publish(self, record: Record, store: ChunkStore) -> None:
        self.catalog.commit("c", record)
        self.store = store


if __name__ == "__main__":
    SmallIndex(Path(sys.argv[1])).update(
        Folder(Path(sys.argv[2])), on_progress=lambda p: print(p.phase, flush=True)
    )
