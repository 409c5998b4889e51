"""The real indexer on the real engine, with an embedder that costs nothing.

python -m small_index DATA FOLDER|- [STEP] brings the index in DATA up to date with a folder, or
with the texts that are given as JSON, and is killed before that step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import count
from pathlib import Path

import numpy as np

from backend.catalog import Catalog, Record
from backend.embedding.bm25 import query_vector
from backend.errors import UnknownCollection
from backend.indexer import Indexer
from backend.ingestion.collection import Opened
from backend.ingestion.files import Skipped, SourceFile
from backend.ingestion.sources.folder import Folder
from backend.ingestion.sources.origin import NOWHERE, Origin
from backend.ingestion.sources.source import Source
from backend.ledger import Ledger
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


@dataclass(frozen=True)
class EdgeStores:
    """Qdrant Edge beside the ledger."""

    catalog: Catalog

    def create(self, name: str, generation: str, identity: IndexIdentity) -> ChunkStore:
        return EdgeStore.create(self.catalog.index_folder(name, generation), **_OPTIONS)

    def open(self, name: str, generation: str, identity: IndexIdentity) -> ChunkStore:
        return EdgeStore.open(self.catalog.index_folder(name, generation), **_OPTIONS)


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
            self.store = EdgeStores(self.catalog).open("c", generation, identity)
        except UnknownCollection:
            pass

    def update(
        self, *sources: Source, on_progress: Callable[[IndexProgress], None] = lambda p: None
    ) -> IndexReport:
        self.models.embedded.clear()
        stores = EdgeStores(self.catalog)
        indexer = Indexer(self.catalog, stores, self.models, self.models, self.identity)
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


@dataclass
class Listed:
    """A source whose stamps are given, and which notes what is read of it."""

    texts: dict[str, tuple[str, str]]
    """Path to stamp and text."""
    id: str = "list:a"
    package: str = "a"

    def __post_init__(self) -> None:
        self.read: list[str] = []

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        for path, (stamp, text) in self.texts.items():
            yield SourceFile(path, len(text), partial(self._read, path, text), stamp=stamp)

    def origin(self, digests: dict[str, str]) -> Origin:
        self.digests = digests
        return NOWHERE

    def _read(self, path: str, text: str) -> bytes:
        self.read.append(path)
        return text.encode()


STEPS = (
    *((Ledger, name) for name in ("leave", "keep", "begin", "finish", "forget", "settle")),
    *((EdgeStore, name) for name in ("upsert", "delete", "flush", "optimize")),
    (Catalog, "commit"),
)
"""All that changes what lies on disk."""


def kill_before_step(number: int) -> None:
    """End this process like kill -9 does before the given one of its steps, counted from 0."""
    counted = count()

    def patch(owner: type, name: str) -> None:
        step = getattr(owner, name)

        def counting(*arguments: object, **options: object) -> object:
            if next(counted) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)

        setattr(owner, name, counting)

    for owner, name in STEPS:
        patch(owner, name)


if __name__ == "__main__":
    data, given = sys.argv[1:3]
    source: Source = Folder(Path(given)) if given != "-" else Listed(json.load(sys.stdin))
    if len(sys.argv) > 3:
        kill_before_step(int(sys.argv[3]))
    SmallIndex(Path(data)).update(source, on_progress=lambda p: print(p.phase, flush=True))
