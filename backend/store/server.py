"""One index on a Qdrant server or cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from loguru import logger
from qdrant_client import QdrantClient, models

from backend.errors import IndexDamaged, SearchError, StoreUnavailable
from backend.store.connection import QdrantServer
from backend.store.payload import accepted, from_payload, payload
from backend.store.protocol import FACETS, Vocabulary, check_vectors
from backend.types import (
    Chunk,
    ChunkId,
    Entries,
    Filters,
    FloatArray,
    Fusion,
    Located,
    Quantization,
    QuantizationMode,
    ScoredChunk,
    SparseVector,
)

DENSE, BM25 = "dense", "bm25"
INDEXING_THRESHOLD_KB = 1
"""Below the server's own 10 MB a segment stays unquantized; documentation sets are smaller."""
WHILE_FILLING_KB = 0
"""No indexing: what is written in bulk would be indexed again and again."""
_HNSW_M, _HNSW_EF_CONSTRUCT = 16, 100
_FULL_SCAN_THRESHOLD_KB = 10_000
REQUEST_BYTES = 8_000_000
"""Of an upsert as JSON, a quarter of what a server takes by default."""
_BYTES_PER_NUMBER, _BYTES_PER_CHUNK = 22, 16_000
OPTIMIZE_WAIT_S = 600.0
"""Seconds to wait for the server's optimizers. They go on by themselves, and searches too."""
_POLL_S = 0.1
_CALM_POLLS = 3
"""Looks in a row that must find the optimizers idle: they take a moment to begin."""
_MAX_FACETS = 1_000
_MAX_VALUES = 1_000_000
_MAX_IN_A_FILE = 10_000
_VALUES_LAST_S = 30.0
"""Seconds that the values of a field are remembered: other machines may write to the server."""
Value = TypeVar("Value")


class ServerStore:
    """One collection of the server. Safe to use from many threads and machines.

    Unlike an index in process, a step of `upsert` that also removes is two operations here, one
    after the other: a search that comes between them sees both what was and what is.

    Args:
        server: Where the collection is.
        name: What the server calls it.
        dimension: Of the dense vectors.
        quantization: How they are compressed, and how a search makes up for it.
        fusion: How both scores become one.
    """

    def __init__(
        self,
        server: QdrantServer,
        name: str,
        *,
        dimension: int,
        quantization: Quantization,
        fusion: Fusion,
    ) -> None:
        self._server, self._name, self._dimension = server, name, dimension
        self._quantization, self._fusion = quantization, fusion
        self._values: dict[Vocabulary, tuple[float, tuple[str, ...]]] = {}

    @classmethod
    def create(
        cls,
        server: QdrantServer,
        name: str,
        *,
        dimension: int,
        quantization: Quantization,
        fusion: Fusion,
        metadata: Mapping[str, Any] | None = None,
        shards: int | None = None,
        replicas: int | None = None,
    ) -> ServerStore:
        """Make an empty collection.

        Args:
            server: Where to.
            name: What the server is to call it.
            dimension: Of the dense vectors.
            quantization: How they are compressed.
            fusion: How both scores become one.
            metadata: Kept with the collection for whoever opens it.
            shards: Shards that it is divided into; None leaves that to the server.
            replicas: Copies of each shard; None leaves that to the server.

        Raises:
            StoreError: The server cannot be reached or refuses.
        """
        store = cls(server, name, dimension=dimension, quantization=quantization, fusion=fusion)
        store._create(dict(metadata or {}), shards, replicas)
        return store

    @classmethod
    def open(
        cls,
        server: QdrantServer,
        name: str,
        *,
        dimension: int,
        quantization: Quantization,
        fusion: Fusion,
    ) -> ServerStore:
        """Open a collection that was made before.

        Raises:
            IndexDamaged: The server does not have it, or not in this form.
            StoreError: The server cannot be reached or refuses.
        """
        store = cls(server, name, dimension=dimension, quantization=quantization, fusion=fusion)
        vectors = store._info().config.params.vectors
        held = vectors.get(DENSE) if isinstance(vectors, dict) else None
        if held is None or held.size != dimension:
            raise IndexDamaged(
                f"The collection {name} on {server.url} does not hold vectors of dimension"
                f" {dimension}.",
                fix="Index the collection again.",
            )
        return store

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
            models.PointStruct(
                id=chunk.id, vector=_vectors(vector, terms), payload=payload(chunk, packed)
            )
            for chunk, vector, terms, packed in zip(
                chunks, dense.tolist(), sparse, tokens, strict=True
            )
        ]
        step = max(REQUEST_BYTES // (_BYTES_PER_CHUNK + _BYTES_PER_NUMBER * self._dimension), 1)
        for start in range(0, len(points), step):
            self._upsert(points[start : start + step])
        self.delete(set(remove).difference(chunk.id for chunk in chunks))

    def delete(self, ids: Collection[ChunkId]) -> None:
        if ids:
            gone = models.PointIdsList(points=list(ids))
            self._write(lambda client: client.delete(self._name, gone, wait=True))

    def flush(self) -> None:
        """The server has written what it has acknowledged."""

    def optimize(self) -> None:
        self._server.ask(
            lambda client: client.update_collection(
                self._name,
                optimizers_config=models.OptimizersConfigDiff(
                    indexing_threshold=INDEXING_THRESHOLD_KB
                ),
            )
        )
        deadline, calm = time.monotonic() + OPTIMIZE_WAIT_S, 0
        while calm < _CALM_POLLS:
            time.sleep(_POLL_S)
            status = self._info().status
            if status == models.CollectionStatus.RED:
                raise StoreUnavailable(
                    f"The Qdrant server at {self._server.url} fails to optimize {self._name}.",
                    fix="Its log says why; often its disk or memory is full.",
                )
            calm = calm + 1 if status == models.CollectionStatus.GREEN else 0
            if time.monotonic() > deadline:
                logger.warning("{name} is still being optimized by the server", name=self._name)
                return

    def search(self, located: Located) -> list[ScoredChunk]:
        lists: list[models.Prefetch] = []
        terms: list[models.Expression] = []
        condition = self._filter(located.filters)
        if located.sparse.indices:
            weight = self._fusion.bm25_weight
            terms.append(models.MultExpression(mult=[f"$score[{len(lists)}]", weight]))
            lists.append(
                models.Prefetch(
                    query=models.SparseVector(
                        indices=located.sparse.indices, values=located.sparse.values
                    ),
                    using=BM25,
                    limit=self._fusion.depth,
                    filter=condition,
                )
            )
        if located.dense is not None:
            terms.append(f"$score[{len(lists)}]")
            lists.append(
                models.Prefetch(
                    query=located.dense.tolist(),
                    using=DENSE,
                    limit=self._fusion.depth,
                    filter=condition,
                    params=self._params,
                )
            )
        if not lists:
            return []
        fused = models.FormulaQuery(
            formula=models.SumExpression(sum=terms),
            defaults={f"$score[{i}]": 0.0 for i in range(len(lists))},
        )
        answer = self._server.ask(
            lambda client: client.query_points(
                self._name, query=fused, prefetch=lists, limit=located.limit, with_payload=True
            )
        )
        return [_scored(point) for point in answer.points]

    def searched_with(
        self, *, fusion: Fusion | None = None, rescore: bool | None = None
    ) -> ServerStore:
        other = copy(self)
        other._fusion = fusion or self._fusion
        if rescore is not None:
            other._quantization = replace(self._quantization, rescore=rescore)
        return other

    def entries(self, batch: int = 512) -> Iterator[Entries]:
        offset: models.ExtendedPointId | None = None
        while True:
            records, offset = self._page(offset, batch)
            if records:
                yield _entries(records)
            if offset is None:
                return

    def vectors(self, ids: Sequence[ChunkId]) -> Mapping[ChunkId, FloatArray]:
        if not ids:
            return {}
        records = self._server.ask(
            lambda client: client.retrieve(
                self._name, list(ids), with_payload=False, with_vectors=[DENSE]
            )
        )
        return {
            ChunkId(str(record.id)): np.asarray(record.vector[DENSE], np.float32)
            for record in records
            if isinstance(record.vector, dict) and DENSE in record.vector
        }

    def facets(self) -> Mapping[str, Mapping[str, int]]:
        return {field: self._facet(field, limit=_MAX_FACETS) for field in FACETS}

    def distinct(self, field: Vocabulary) -> tuple[str, ...]:
        read_at, values = self._values.get(field, (-_VALUES_LAST_S, ()))
        if time.monotonic() - read_at > _VALUES_LAST_S:
            values = tuple(self._facet(field, limit=_MAX_VALUES, exact=False))
            self._values[field] = (time.monotonic(), values)
        return values

    def at(self, path: str, line: int) -> Sequence[Chunk]:
        # Lines have no index, and a server in strict mode refuses to filter by what has none.
        here = models.Filter(
            must=[models.FieldCondition(key="path", match=models.MatchValue(value=path))]
        )
        records, _ = self._server.ask(
            lambda client: client.scroll(self._name, scroll_filter=here, limit=_MAX_IN_A_FILE)
        )
        chunks = [_chunk(record)[0] for record in records]
        return [chunk for chunk in chunks if chunk.start_line <= line <= chunk.end_line]

    def __len__(self) -> int:
        return self._server.ask(lambda client: client.count(self._name, exact=True)).count

    @property
    def quantized(self) -> int:
        """Vectors that are searched by their index and codes, as the server estimates."""
        return self._info().indexed_vectors_count or 0

    def close(self) -> None:
        """Nothing is held: connections belong to the server, which outlives its collections."""

    @property
    def _params(self) -> models.SearchParams:
        return models.SearchParams(
            quantization=models.QuantizationSearchParams(
                ignore=self._quantization.mode == "none",
                rescore=self._quantization.rescore,
                oversampling=self._quantization.oversampling,
            )
        )

    def _filter(self, filters: Filters) -> models.Filter | None:
        """The server's form of filters; patterns become the paths that they match."""
        must: list[models.Condition] = [
            models.FieldCondition(key=field, match=models.MatchAny(any=values))
            for field, values in accepted(filters, lambda: self.distinct("path")).items()
        ]
        if filters.path_prefix:
            prefix = models.MatchPrefix(prefix=filters.path_prefix)
            must.append(models.FieldCondition(key="path", match=prefix))
        if filters.ids:
            must.append(models.HasIdCondition(has_id=list(filters.ids)))
        return models.Filter(must=must) if must else None

    def _info(self) -> models.CollectionInfo:
        return self._server.ask(lambda client: client.get_collection(self._name))

    def _create(self, metadata: dict[str, Any], shards: int | None, replicas: int | None) -> None:
        self._server.ask(
            lambda client: client.create_collection(
                self._name,
                vectors_config={
                    DENSE: models.VectorParams(
                        size=self._dimension,
                        distance=models.Distance.COSINE,
                        quantization_config=server_config(self._quantization.mode),
                    )
                },
                sparse_vectors_config={
                    BM25: models.SparseVectorParams(modifier=models.Modifier.IDF)
                },
                hnsw_config=models.HnswConfigDiff(
                    m=_HNSW_M,
                    ef_construct=_HNSW_EF_CONSTRUCT,
                    full_scan_threshold=_FULL_SCAN_THRESHOLD_KB,
                ),
                optimizers_config=models.OptimizersConfigDiff(indexing_threshold=WHILE_FILLING_KB),
                shard_number=shards,
                replication_factor=replicas,
                metadata=metadata or None,
            )
        )
        try:
            for field in (*FACETS, "path", "symbol"):
                self._index(field, prefix=field == "path")
        except SearchError:
            self._server.ask(lambda client: client.delete_collection(self._name))
            raise

    def _index(self, field: str, *, prefix: bool) -> None:
        schema = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=prefix)
        self._write(
            lambda client: client.create_payload_index(
                self._name, field, field_schema=schema, wait=True
            )
        )

    def _upsert(self, points: Sequence[models.PointStruct]) -> None:
        self._write(lambda client: client.upsert(self._name, list(points), wait=True))

    def _page(
        self, offset: models.ExtendedPointId | None, size: int
    ) -> tuple[list[models.Record], Any]:
        return self._server.ask(
            lambda client: client.scroll(
                self._name,
                offset=offset,
                limit=size,
                with_payload=True,
                with_vectors=[DENSE, BM25],
            )
        )

    def _facet(self, field: str, *, limit: int, exact: bool = True) -> Mapping[str, int]:
        answer = self._server.ask(
            lambda client: client.facet(self._name, field, limit=limit, exact=exact)
        )
        return {str(hit.value): hit.count for hit in answer.hits}

    def _write(self, request: Callable[[QdrantClient], models.UpdateResult]) -> None:
        """Make a change, and see that it was made."""
        self._values.clear()
        result = self._server.ask(request)
        if result.status == models.UpdateStatus.WAIT_TIMEOUT:
            raise StoreUnavailable(
                f"The Qdrant server at {self._server.url} did not finish writing in time.",
                fix="Give it time to catch up, then index again: it goes on from there.",
            )


def server_config(mode: QuantizationMode) -> models.QuantizationConfig | None:
    """The server's configuration of a mode; codes are kept in memory."""
    pinned = models.Memory.PINNED
    if mode == "scalar":
        return models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(
                type=models.ScalarType.INT8, quantile=0.99, memory=pinned
            )
        )
    if mode == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(memory=pinned))
    if mode == "binary+scalar":
        encoding = models.BinaryQuantizationQueryEncoding.SCALAR8BITS
        config = models.BinaryQuantizationConfig(query_encoding=encoding, memory=pinned)
        return models.BinaryQuantization(binary=config)
    if mode == "turbo4":
        bits = models.TurboQuantBitSize.BITS4
        return models.TurboQuantization(
            turbo=models.TurboQuantQuantizationConfig(bits=bits, memory=pinned)
        )
    return None


def _vectors(dense: list[float], terms: SparseVector) -> dict[str, Any]:
    """A chunk without a searchable word has no BM25 vector."""
    vectors: dict[str, Any] = {DENSE: dense}
    if terms.indices:
        vectors[BM25] = models.SparseVector(indices=terms.indices, values=terms.values)
    return vectors


def _scored(point: models.ScoredPoint) -> ScoredChunk:
    chunk, tokens = _chunk(point)
    return ScoredChunk(chunk=chunk, score=point.score, tokens=tokens)


def _chunk(point: models.ScoredPoint | models.Record) -> tuple[Chunk, bytes]:
    try:
        return from_payload(point.id, point.payload)
    except (KeyError, TypeError, ValueError) as exc:
        raise IndexDamaged(
            f"Point {point.id} on the Qdrant server is not a chunk.",
            fix="Index the collection again, and let nothing else write to it.",
        ) from exc


def _entries(records: Sequence[models.Record]) -> Entries:
    chunks, tokens = zip(*map(_chunk, records), strict=True)
    dense, sparse = [], []
    for record in records:
        named: Any = record.vector
        dense.append(named[DENSE])
        terms = named.get(BM25)
        sparse.append(
            SparseVector(list(terms.indices), list(terms.values)) if terms else SparseVector([], [])
        )
    return Entries(chunks=chunks, dense=np.asarray(dense, np.float32), sparse=sparse, tokens=tokens)
