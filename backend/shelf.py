"""The models that can be named, as command line and page show them: what is ready, what fits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal
from uuid import uuid4

import numpy as np

from backend.build import (
    configured_catalogue,
    configured_export,
    load_cross_encoder,
    local_embedder,
    model_folders,
)
from backend.config import Settings
from backend.embedding.protocol import Embedder
from backend.errors import ModelUnavailable
from backend.inference.processor import free_memory
from backend.models.catalogue import ModelCard, Precision
from backend.models.hub import Hub, OnFile
from backend.models.prepare import find_prepared, precisions_of, prepare
from backend.reranking.stage import PairScorer
from backend.types import Chunk, ChunkId, ScoredChunk

State = Literal["ready", "to fetch", "by endpoint"]

_QUERY = "send a failed request again, waiting longer each time"
_RELATED = '''def retry(call, attempts=5):
    """Repeat a call that failed, with a pause that doubles."""
    for attempt in range(attempts):
        time.sleep(2 ** attempt)'''
_UNRELATED = '''def darken(color, amount):
    """Make a colour darker by a share of its brightness."""
    return tuple(int(part * (1 - amount)) for part in color)'''
_LENGTHS = (5, 20, 60)
"""Words of the texts that are timed: a name, a question, a chunk's worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """A model and what can be done with it on this machine."""

    card: ModelCard
    state: State
    in_use: bool
    """Whether the settings name it."""
    precision: str
    """Of queries, and of documents if that differs."""
    revision: str
    origin: str
    """How its files came about; empty while there are none."""
    memory_mb: int
    """Of the files that lie ready, else as the catalogue expects; 0 where nothing is said."""
    fits: bool | None
    """Whether that much memory is free; None where the system does not tell."""
    query_ms: float
    measured: bool
    """Whether the time was measured here; else the catalogue expects it of two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at, and what was found."""

    name: str
    passed: bool
    found: str


def overview(settings: Settings) -> list[ModelStatus]:
    """All models of the catalogue, in its order. Nothing is loaded and nobody asked."""
    free = free_memory()
    return [_status(card, settings, free) for card in configured_catalogue(settings).cards]


def prepare_model(
    id: str,
    settings: Settings,
    *,
    precision: Precision | None = None,
    optimum: bool = False,
    on_file: OnFile = lambda name, size: None,
) -> ModelStatus:
    """Fetch and convert a model, load it once, and measure its time.

    Args:
        id: A model of the catalogue.
        settings: Where it goes, and which hub is asked.
        precision: Instead of what the catalogue says.
        optimum: Whether an architecture of which no graph is known here may be converted by
            optimum, for which an environment with torch is made.
        on_file: Told of every file that is fetched.

    Raises:
        UnknownModel: The catalogue has none of that id.
        ModelUnavailable: It cannot be fetched or converted, does not run here, or does not fit.
    """
    card = configured_catalogue(settings).card(id)
    if not card.local:
        raise ModelUnavailable(
            f"{card.id} is served by an endpoint only; there is nothing to prepare.",
            fix="Name who serves it in RANKSCOPE_RERANKER_PROVIDER.",
        )
    if not card.bundled:
        prepared = prepare(
            card,
            model_folders(settings),
            precision=precision,
            hub=Hub(settings.hub_endpoint),
            export=configured_export(settings) if optimum else None,
            on_file=on_file,
        )
        if card.kind == "embedding":
            local_embedder(prepared, settings)
    return _status(card, settings, free_memory(), precision=precision)


def check_model(id: str, settings: Settings, *, precision: Precision | None = None) -> list[Check]:
    """Load a model and see whether it does what it is for.

    Raises:
        UnknownModel: The catalogue has none of that id.
        ModelUnavailable: It is not ready, or cannot be loaded.
    """
    card = configured_catalogue(settings).card(id)
    if card.kind == "embedding":
        prepared = prepare(card, model_folders(settings), precision=precision)
        return _check_embedder(local_embedder(prepared, settings))
    scorer = load_cross_encoder(card, settings)
    try:
        near, far = (_logit(scorer, text) for text in (_RELATED, _UNRELATED))
    finally:
        scorer.close()
    return [_preference(near, far)]


def time_model(
    id: str, settings: Settings, *, precision: Precision | None = None, rounds: int = 7
) -> dict[int, float]:
    """Milliseconds of a query, or of a pair, by the number of its words; medians.

    Raises:
        UnknownModel: The catalogue has none of that id.
        ModelUnavailable: It is not ready, or cannot be loaded.
    """
    card = configured_catalogue(settings).card(id)
    words = f"{_RELATED} {_UNRELATED}".split() * 3
    texts = {length: " ".join(words[:length]) for length in _LENGTHS}
    if card.kind == "embedding":
        prepared = prepare(card, model_folders(settings), precision=precision)
        embedder = local_embedder(prepared, settings)
        return {n: _median_ms(embedder.embed_query, text, rounds) for n, text in texts.items()}
    scorer = load_cross_encoder(card, settings)
    try:
        ask = partial(_logit, scorer)
        return {n: _median_ms(ask, text, rounds) for n, text in texts.items()}
    finally:
        scorer.close()


def _status(
    card: ModelCard, settings: Settings, free: int | None, *, precision: Precision | None = None
) -> ModelStatus:
    in_use = card.id in (settings.embedder, settings.reranker)
    if precision is None and card.id == settings.embedder:
        precision = settings.embedder_precision
    query, document = precisions_of(card, precision)
    prepared = (
        None if card.bundled else find_prepared(card, model_folders(settings), precision=precision)
    )
    state: State = "ready" if prepared or card.bundled else "to fetch"
    memory = card.memory_mb
    if prepared is not None and card.kind == "embedding":
        memory = max(1, round(prepared.needs_bytes(query) / 1e6))
    measured = prepared.measured if prepared is not None else None
    return ModelStatus(
        card=card,
        state=state if card.local else "by endpoint",
        in_use=in_use,
        precision=" / ".join(dict.fromkeys((query, document))) if card.local else "",
        revision=prepared.revision if prepared else card.revision,
        origin=prepared.origin if prepared else "comes along" if card.bundled else "",
        memory_mb=memory,
        fits=None if free is None or not memory else memory * 1e6 < free,
        query_ms=measured.query_ms if measured else card.query_ms,
        measured=measured is not None,
    )


def _check_embedder(embedder: Embedder) -> list[Check]:
    asked, again = embedder.embed_query(_QUERY), embedder.embed_query(_QUERY)
    near, far = embedder.embed_documents([_RELATED, _UNRELATED])
    norm = float(np.linalg.norm(asked))
    same = float(asked @ again)
    closer = float(asked @ near), float(asked @ far)
    dimension = embedder.card.dimension
    return [
        Check(name="dimension", passed=asked.shape == (dimension,), found=f"{asked.size}"),
        Check(name="unit norm", passed=abs(norm - 1) < 1e-3, found=f"{norm:.4f}"),
        Check(name="same text, same vector", passed=same > 0.9999, found=f"{same:.6f}"),
        _preference(*closer),
    ]


def _preference(near: float, far: float) -> Check:
    return Check(name="prefers what is related", passed=near > far, found=f"{near:.3f} > {far:.3f}")


def _logit(scorer: PairScorer, text: str) -> float:
    """Score a text against the query, as if it had never been seen."""
    chunk = Chunk(
        id=ChunkId(str(uuid4())),
        source="",
        path="example.py",
        start_line=1,
        end_line=1,
        language="python",
        symbol="",
        kind="function",
        text=text,
        package="",
    )
    (score,) = scorer.score(_QUERY, [ScoredChunk(chunk=chunk, score=0.0)], budget_ms=60_000).scores
    return float("nan") if score is None else score


def _median_ms(work: Callable[[str], object], text: str, rounds: int) -> float:
    work(text)
    spent = []
    for _ in range(rounds):
        started = time.perf_counter()
        work(text)
        spent.append((time.perf_counter() - started) * 1000)
    return statistics.median(spent)
