"""Qdrant Edge: Qdrant's engine in this process, on a folder."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import qdrant_edge as qe

from backend.errors import DataFolderBusy, DataFolderUnusable, IndexDamaged
from backend.store.access import Access
from backend.store.payload import accepted, from_payload, payload
from backend.store.protocol import FACETS, Vocabulary, check_vectors
from backend.store.quantization import edge_config
from backend.types import (
    Chunk,
    ChunkId,
    Entries,
    Filters,
    FloatArray,
    Fusion,
    Located,
    Quantization,
    ScoredChunk,
    SparseVector,
)

DENSE, BM25 = "dense", "bm25"
INDEXING_THRESHOLD_KB = 1
"""Below the engine's own 10 MB a segment stays unquantized; documentation sets are smaller."""
_HNSW_M, _HNSW_EF_CONSTRUCT = 16, 100
_FULL_SCAN_THRESHOLD_KB = 10_000
_SEGMENTS = 4
"""A small update becomes a small segment, and a fifth segment is merged with the smallest others,
so that an update costs what it changes: with one segment, 20 new chunks among 100,000 would index
all of them again, for more than a minute."""
RESERVE_BYTES = 100_000_000
"""Free space that a write leaves on the disk. The engine maps its files into memory: when a page of
one finds no room, the system ends the process rather than telling it."""
_MAX_FACETS = 1_000
_MAX_VALUES = 1_000_000
"""Above the number of files and symbols that a collection on one machine has."""
_HOLLOW = qe.Filter(must=[qe.IsEmptyCondition("path")])
_STORED = qe.Filter(must_not=[qe.IsEmptyCondition("path")])


class EdgeStore:
    """One index in one folder. Searches may run side by side, and beside the one who writes."""

    def __init__(
        self,
        shard: qe.EdgeShard,
        folder: Path,
        *,
        dimension: int,
        quantization: Quantization,
        fusion: Fusion,
    ) -> None:
        self._shard = shard
        self._folder = folder
        self._access = Access()
        self._dimension = dimension
        self._fusion = fusion
        self._quantization = quantization
        codes = qe.QuantizationSearchParams(
            ignore=quantization.mode == "none",
            rescore=quantization.rescore,
            oversampling=quantization.oversampling,
        )
        self._params = qe.SearchParams(quantization=codes)
        self._values: dict[Vocabulary, tuple[str, ...]] = {}

    @classmethod
    def create(
        cls, folder: Path, *, dimension: int, quantization: Quantization, fusion: Fusion
    ) -> EdgeStore:
        """Make an empty index in a folder that does not hold one.

        Raises:
            DataFolderUnusable: The folder cannot be written.
        """
        config = qe.EdgeConfig(
            vectors={
                DENSE: qe.EdgeVectorParams(
                    size=dimension,
                    distance=qe.Distance.Cosine,
                    quantization_config=edge_config(quantization.mode),
                )
            },
            sparse_vectors={BM25: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)},
            hnsw_config=qe.HnswIndexConfig(
                m=_HNSW_M,
                ef_construct=_HNSW_EF_CONSTRUCT,
                full_scan_threshold=_FULL_SCAN_THRESHOLD_KB,
            ),
            optimizers=qe.EdgeOptimizersConfig(
                indexing_threshold=INDEXING_THRESHOLD_KB, default_segment_number=_SEGMENTS
            ),
        )
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            shard = qe.EdgeShard.create(str(folder), config)
            _index_fields(shard)
        return cls(shard, folder, dimension=dimension, quantization=quantization, fusion=fusion)

    @classmethod
    def open(
        cls, folder: Path, *, dimension: int, quantization: Quantization, fusion: Fusion
    ) -> EdgeStore:
        """Open an index that was made before.

        Raises:
            DataFolderBusy: Another process has it open.
            IndexDamaged: Its files are missing or cannot be read.
        """
        try:
            shard = qe.EdgeShard.load(str(folder))
            _index_fields(shard)  # An earlier version may have made fewer.
        except Exception as exc:  # The engine raises bare Exception.
            if "WouldBlock" in str(exc):
                raise DataFolderBusy(
                    f"{folder} is open in another process.",
                    fix="Use the running app's address, or stop it first.",
                ) from exc
            raise IndexDamaged(
                f"The index in {folder} cannot be read: {exc}.", fix="Index the collection again."
            ) from exc
        return cls(shard, folder, dimension=dimension, quantization=quantization, fusion=fusion)

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
        points = [
            qe.Point(
                id=chunk.id,
                vector={DENSE: vector, BM25: qe.SparseVector(terms.indices, terms.values)},
                payload=payload(chunk, packed),
            )
            for chunk, vector, terms, packed in zip(
                chunks, dense.tolist(), sparse, tokens, strict=True
            )
        ]
        gone = set(remove).difference(chunk.id for chunk in chunks)
        # A hollow point, without vectors and payload, is found by nothing. So one operation, which
        # the engine's log holds whole or not at all, does both; the second one only tidies up.
        points += [qe.Point(id=id, vector={}, payload={}) for id in gone]
        with _writing(self._folder), self._access.alone():
            self._values.clear()
            if points:
                self._shard.update(qe.UpdateOperation.upsert_points(points))
            if gone:
                self._shard.update(qe.UpdateOperation.delete_points(list(gone)))

    def delete(self, ids: Collection[ChunkId]) -> None:
        with _writing(self._folder), self._access.alone():
            self._values.clear()
            if ids:
                self._shard.update(qe.UpdateOperation.delete_points(list(ids)))

    def flush(self) -> None:
        with _writing(self._folder):
            self._shard.flush()

    def optimize(self) -> None:
        with _writing(self._folder):
            if self._shard.count(qe.CountRequest(filter=_HOLLOW)):  # Left by a process killed.
                self._shard.update(qe.UpdateOperation.delete_points_by_filter(_HOLLOW))
            self._shard.optimize()
            self._shard.flush()

    def search(self, located: Located) -> list[ScoredChunk]:
        condition = self._filter(located.filters)
        terms = qe.SparseVector(located.sparse.indices, located.sparse.values)
        lists = [
            qe.Prefetch(
                query=qe.Query.Nearest(terms, using=BM25),
                limit=self._fusion.depth,
                filter=condition,
            )
        ]
        bm25 = [
            qe.Expression.Variable("$score[0]"),
            qe.Expression.Constant(self._fusion.bm25_weight),
        ]
        fused = qe.Expression.Mult(bm25)
        if located.dense is not None:
            lists.append(
                qe.Prefetch(
                    query=qe.Query.Nearest(located.dense.tolist(), using=DENSE),
                    limit=self._fusion.depth,
                    params=self._params,
                    filter=condition,
                )
            )
            fused = qe.Expression.Sum([fused, qe.Expression.Variable("$score[1]")])
        request = qe.QueryRequest(
            prefetches=lists,
            query=qe.Formula(fused, defaults={"$score[0]": 0.0, "$score[1]": 0.0}),
            limit=located.limit,
        )
        with self._access.shared():
            scores = {point.id: point.score for point in self._shard.query(request)}
            # By id the engine reads what the hits hold in half the time that a query takes for it.
            records = self._shard.retrieve(list(scores), with_payload=True, with_vector=False)
        found = {record.id: from_payload(record.id, record.payload) for record in records}
        return [
            ScoredChunk(chunk=found[id][0], score=score, tokens=found[id][1])
            for id, score in scores.items()
        ]

    def _filter(self, filters: Filters) -> qe.Filter | None:
        """The engine's form of filters; patterns become the paths that they match."""
        must: list[qe.ConditionType] = [
            qe.FieldCondition(key=field, match=qe.MatchAny(any=values))
            for field, values in accepted(filters, lambda: self.distinct("path")).items()
        ]
        if filters.path_prefix:
            must.append(qe.FieldCondition(key="path", match=qe.MatchPrefix(filters.path_prefix)))
        if filters.ids:
            must.append(qe.HasIdCondition(set(filters.ids)))
        return qe.Filter(must=must) if must else None

    def searched_with(
        self, *, fusion: Fusion | None = None, rescore: bool | None = None
    ) -> EdgeStore:
        quantization = self._quantization
        if rescore is not None:
            quantization = replace(quantization, rescore=rescore)
        other = EdgeStore(
            self._shard,
            self._folder,
            dimension=self._dimension,
            quantization=quantization,
            fusion=fusion or self._fusion,
        )
        other._access = self._access
        other._values = self._values
        return other

    def entries(self, batch: int = 512) -> Iterator[Entries]:
        offset: qe.PointId | None = None
        while True:
            request = qe.ScrollRequest(
                offset=offset,
                limit=batch,
                filter=_STORED,
                with_payload=True,
                with_vector=[DENSE, BM25],
            )
            with self._access.shared():
                records, offset = self._shard.scroll(request)
            if records:
                yield _entries(records)
            if offset is None:
                return

    def vectors(self, ids: Sequence[ChunkId]) -> Mapping[ChunkId, FloatArray]:
        with self._access.shared():
            records = self._shard.retrieve(list(ids), with_payload=False, with_vector=[DENSE])
        found: dict[ChunkId, FloatArray] = {}
        for record in records:
            named = cast(dict[str, list[float]], record.vector)
            if DENSE in named:
                found[ChunkId(str(record.id))] = np.asarray(named[DENSE], np.float32)
        return found

    def facets(self) -> Mapping[str, Mapping[str, int]]:
        return {
            field: {
                str(hit.value): hit.count
                for hit in self._shard.facet(
                    qe.FacetRequest(key=field, limit=_MAX_FACETS, exact=True)
                ).hits
            }
            for field in FACETS
        }

    def distinct(self, field: Vocabulary) -> tuple[str, ...]:
        with self._access.shared():
            if field not in self._values:
                request = qe.FacetRequest(key=field, limit=_MAX_VALUES, exact=False)
                hits = self._shard.facet(request).hits
                self._values[field] = tuple(str(hit.value) for hit in hits)
            return self._values[field]

    def at(self, path: str, line: int) -> Sequence[Chunk]:
        conditions: list[qe.ConditionType] = [
            qe.FieldCondition(key="path", match=qe.MatchValue(path)),
            qe.FieldCondition(key="start_line", range=qe.RangeFloat(lte=line)),
            qe.FieldCondition(key="end_line", range=qe.RangeFloat(gte=line)),
        ]
        request = qe.ScrollRequest(filter=qe.Filter(must=conditions), limit=100, with_payload=True)
        with self._access.shared():
            records, _ = self._shard.scroll(request)
        return [from_payload(record.id, record.payload)[0] for record in records]

    def __len__(self) -> int:
        return self._shard.count(qe.CountRequest(filter=_STORED))

    @property
    def quantized(self) -> int:
        """Dense vectors that are searched by their index and codes, not by scanning originals."""
        return self._shard.info().indexed_vectors_count

    def close(self) -> None:
        with self._access.alone():
            self._shard.close()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Refuse to begin without room, and name what usually stands behind a failed write."""
    try:
        place = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(place).free
        if free < RESERVE_BYTES:
            raise DataFolderUnusable(
                f"The disk of {folder} is full: {free / 1e6:.0f} MB are left.",
                fix=f"Free at least {RESERVE_BYTES / 1e6:.0f} MB, or move the data folder. What"
                " was indexed before can still be searched.",
            )
        yield
    except DataFolderUnusable:
        raise
    except Exception as exc:  # The engine raises bare Exception.
        raise DataFolderUnusable(
            f"The index cannot be written: {exc}.",
            fix="Check the data folder's permissions and the free disk space.",
        ) from exc


def _index_fields(shard: qe.EdgeShard) -> None:
    """Make the payload indexes that filters and `distinct` need; those there are stay."""
    for field in (*FACETS, "path", "symbol"):
        index = qe.KeywordIndexParams(prefix=field == "path")
        shard.update(qe.UpdateOperation.create_field_index(field, index))


def _entries(records: Sequence[qe.Record]) -> Entries:
    chunks, tokens = zip(*(from_payload(one.id, one.payload) for one in records), strict=True)
    dense, sparse = [], []
    for record in records:
        named = cast(dict[str, Any], record.vector)
        dense.append(named[DENSE])
        sparse.append(SparseVector(list(named[BM25].indices), list(named[BM25].values)))
    return Entries(chunks=chunks, dense=np.asarray(dense, np.float32), sparse=sparse, tokens=tokens)
