"""What an evaluation compares: the ways of searching one open index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from backend.build import (
    Models,
    build_pipeline,
    configured_fusion,
    load_reranker,
    load_scorer,
    scratch_store,
)
from backend.config import Settings
from backend.evaluation.experiment import System
from backend.evaluation.measures import DEPTH
from backend.pipeline import SearchPipeline
from backend.query import MAX_BUDGET_MS, make_query
from backend.ranking.stage import SIGNAL_NAMES
from backend.store.protocol import ChunkStore
from backend.store.quantization import BITS
from backend.timing import Step
from backend.types import IndexIdentity, QuantizationMode, Query

SHOWN = 10
"""Hits that users ask for unless they say otherwise."""
BM25_ONLY = 1000.0
"""Cosine per point of BM25: a thousand leave the cosine without a say."""


class Bench:
    """Makes the systems and indexes of an evaluation.

    Its reranker is one of its own, whose memory of scores begins empty, so that times are true.
    """

    modes: Mapping[QuantizationMode, float] = BITS

    def __init__(
        self, settings: Settings, models: Models, store: ChunkStore, identity: IndexIdentity
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._fusion = configured_fusion(settings)
        reranker = load_reranker(settings)
        scorer = load_scorer(settings, reranker)
        self._models = replace(models, reranker=reranker, scorer=scorer)
        self._embed = cache(build_pipeline(self._models, store, identity).embed)
        self.store = store

    def close(self) -> None:
        """Give back the reranker's threads."""
        self._models.reranker.close()

    def query(self, text: str, *, rerank: bool) -> Query:
        """A query as users ask it, without a limit of time, and with `DEPTH` hits of the first
        stage if that is all."""
        return make_query(
            text,
            collection="",
            settings=self._settings,
            top_k=SHOWN if rerank else DEPTH,
            rerank=rerank,
            budget_ms=MAX_BUDGET_MS,
        )

    def systems(self) -> Sequence[System]:
        """What to compare, each one a step beyond the one before."""
        dense = self.dense_only(self.store)
        bm25 = self.store.searched_with(fusion=replace(self._fusion, bm25_weight=BM25_ONLY))
        whole = self.pipeline(self.store)
        return [
            System(name="dense", pipeline=self.pipeline(dense, without_signals=SIGNAL_NAMES)),
            System(name="BM25", pipeline=self.pipeline(bm25, without_signals=SIGNAL_NAMES)),
            System(name="hybrid", pipeline=self.pipeline(self.store, without_signals=SIGNAL_NAMES)),
            System(name="+ signals", pipeline=whole),
            System(name="+ reranker", pipeline=whole, rerank=True),
        ]

    def copy(self, folder: Path, mode: QuantizationMode) -> ChunkStore:
        """Make an empty index with another quantization."""
        return scratch_store(self._settings.model_copy(update={"quantization": mode}), folder)

    def pipeline(self, store: ChunkStore, *, without_signals: Iterable[str] = ()) -> SearchPipeline:
        """A search over such an index; each query is embedded once for all of them."""
        pipeline = build_pipeline(
            self._models, store, self._identity, without_signals=without_signals
        )
        return replace(pipeline, embed=Step("embed", self._embed))

    def dense_only(self, store: ChunkStore) -> ChunkStore:
        """Such an index, searched by vectors alone."""
        return store.searched_with(fusion=replace(self._fusion, bm25_weight=0.0))
