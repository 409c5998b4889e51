"""Runs the queries of a labelled set through every system and quantization mode."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from backend.errors import InvalidLabels, InvalidQuery
from backend.evaluation.intervals import Bootstrap
from backend.evaluation.labels import LabelledQuery, LabelledSet, Target
from backend.evaluation.measures import DEPTH, NDCG, Scores, first_answer, score
from backend.evaluation.report import (
    Case,
    Evaluation,
    ModeResult,
    RerankEffect,
    SystemResult,
)
from backend.pipeline import SearchPipeline
from backend.store.protocol import ChunkStore
from backend.types import (
    Chunk,
    ChunkId,
    FloatArray,
    IndexIdentity,
    Located,
    QuantizationMode,
    Query,
    SearchResponse,
)

CASES = 5
"""Best and worst queries that the report lists."""
_SAME = 1e-9
"""nDCG@10 that differs by less has not changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One way of searching a collection."""

    name: str
    pipeline: SearchPipeline
    rerank: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationProgress:
    """Where an evaluation stands; the same numbers for page, CLI and API."""

    done: int
    total: int
    """Searches."""
    message: str


OnProgress = Callable[[EvaluationProgress], None]


class Bench(Protocol):
    """Makes what an evaluation compares, over one open index."""

    @property
    def store(self) -> ChunkStore: ...

    @property
    def modes(self) -> Mapping[QuantizationMode, float]:
        """Quantization modes with their bits a dimension."""
        ...

    def query(self, text: str, *, rerank: bool) -> Query:
        """A query as users ask it, without a limit of time, and with `DEPTH` hits of the first
        stage if that is all."""
        ...

    def systems(self) -> Sequence[System]:
        """What to compare, each one a step beyond the one before."""
        ...

    def copy(self, folder: Path, mode: QuantizationMode) -> ChunkStore:
        """Make an empty index with another quantization."""
        ...

    def pipeline(self, store: ChunkStore) -> SearchPipeline:
        """A search over such an index."""
        ...

    def dense_only(self, store: ChunkStore) -> ChunkStore:
        """Such an index, searched by vectors alone."""
        ...


@dataclass
class _Run:
    """What one system answered."""

    rankings: dict[str, Sequence[Chunk]] = field(default_factory=dict)
    timings: dict[str, list[float]] = field(default_factory=dict)

    def add(
        self,
        query: LabelledQuery,
        response: SearchResponse,
        below: Sequence[Chunk],
        embedding_ms: dict[str, float],
    ) -> None:
        """Keep an answer and what comes `below` it if that is not in it.

        The time of an embedding is that of the first system that needed it.
        """
        ordered = [hit.chunk for hit in sorted(response.candidates, key=lambda hit: hit.rank)]
        seen = {chunk.id for chunk in ordered}
        ordered += [chunk for chunk in below if chunk.id not in seen]
        self.rankings[query.id] = ordered[:DEPTH]
        spent = {stage: ms for stage, ms in response.timings.items() if stage != "total"}
        spent["embed"] = embedding_ms.setdefault(query.id, spent["embed"])
        for stage, ms in {**spent, "total": sum(spent.values())}.items():
            self.timings.setdefault(stage, []).append(ms)

    @property
    def median_ms(self) -> dict[str, float]:
        return {stage: statistics.median(spent) for stage, spent in self.timings.items()}


@dataclass
class _Searches:
    """Counts searches and says so, and knows what embedding each query took."""

    total: int
    on_progress: OnProgress
    done: int = 0
    embedding_ms: dict[str, float] = field(default_factory=dict)

    def say(self, message: str, *, steps: int = 0) -> None:
        self.done += steps
        self.on_progress(EvaluationProgress(done=self.done, total=self.total, message=message))


def evaluate(
    bench: Bench,
    labels: LabelledSet,
    *,
    collection: str,
    identity: IndexIdentity,
    scratch: Path,
    quantization: bool,
    seed: int,
    on_progress: OnProgress,
) -> Evaluation:
    """Compare the systems, and if asked the quantization modes, on a labelled set.

    Args:
        bench: Makes the systems.
        labels: Queries and what answers them.
        collection, identity: What is being searched, for the report.
        scratch: Folder for indexes that live only while they are measured.
        quantization: Whether to make such indexes and compare the modes.
        seed: Decides the resamples, and with the index all figures but times.
        on_progress: Called before each search; what it raises ends the evaluation.

    Raises:
        InvalidLabels: No target of the set lies in the collection, or a query cannot be asked.
    """
    started = time.monotonic()
    known = _known_targets(bench.store, labels)
    queries, notes = _present(labels, known)
    _check(bench, queries)
    systems = bench.systems()
    rounds = len(systems) + (2 * len(bench.modes) - 1 if quantization else 0)
    searches = _Searches(rounds * len(queries), on_progress)
    bootstrap = Bootstrap(len(queries), seed=seed)
    runs: list[_Run] = []
    for system in systems:
        runs.append(_run(bench, system, queries, searches, below=runs[-1] if runs else None))
    scores = [score(run.rankings, queries) for run in runs]
    results = [
        _result(system, run, scores[i], scores[i - 1] if i else None, queries, bootstrap)
        for i, (system, run) in enumerate(zip(systems, runs, strict=True))
    ]
    effect = None
    if len(systems) > 1 and systems[-1].rerank:
        effect = _effect(queries, runs[-2:], scores[-2:])
    modes: list[ModeResult] = []
    if quantization:
        modes = _modes(bench, queries, bootstrap, scratch, searches)
    return Evaluation(
        collection=collection,
        labels=labels.name,
        chunks=len(bench.store),
        queries=len(queries),
        categories=dict(sorted(Counter(q.category for q in queries if q.category).items())),
        model=identity.model,
        quantization=identity.quantization,
        seed=seed,
        notes=(*labels.notes, *notes),
        systems=tuple(results),
        modes=tuple(modes),
        reranking=effect,
        seconds=time.monotonic() - started,
    )


def _known_targets(store: ChunkStore, labels: LabelledSet) -> set[Target]:
    """Targets that at least one chunk of the index matches."""
    waiting: dict[str, set[Target]] = {}
    for query in labels.queries:
        for target in query.targets:
            waiting.setdefault(target.path, set()).add(target)
    known: set[Target] = set()
    for entries in store.entries():
        for chunk in entries.chunks:
            known |= {target for target in waiting.get(chunk.path, ()) if target.matches(chunk)}
    return known


def _present(labels: LabelledSet, known: set[Target]) -> tuple[list[LabelledQuery], list[str]]:
    """Queries with a target in the collection, and notes on those that are stale.

    A stale target of a query that keeps others still counts: its answer is not to be had.
    """
    targets = [target for query in labels.queries for target in query.targets]
    stale = sum(target not in known for target in targets)
    queries = [query for query in labels.queries if known & {*query.targets}]
    if not queries:
        raise InvalidLabels(
            f"None of the {len(targets):,} targets of {labels.name} lies in this collection.",
            fix="Choose the collection that the set was made for.",
        )
    notes = []
    if stale:
        notes.append(
            f"{stale} of {len(targets):,} targets do not exist in this collection; they count as"
            " not found."
        )
    if gone := len(labels.queries) - len(queries):
        notes.append(f"{gone} queries have no target left in it and were left out.")
    return queries, notes


def _check(bench: Bench, queries: Sequence[LabelledQuery]) -> None:
    """Refuse a set with a query that no search takes before the others are asked."""
    for query in queries:
        try:
            bench.query(query.text, rerank=False)
        except InvalidQuery as exc:
            raise InvalidLabels(f"Query {query.id!r}: {exc.message}", fix=exc.fix) from exc


def _run(
    bench: Bench,
    system: System,
    queries: Sequence[LabelledQuery],
    searches: _Searches,
    below: _Run | None = None,
) -> _Run:
    """Ask one system everything.

    A reranker sees fewer candidates than the measures: the others keep the order that they have
    `below`, in the row before.
    """
    run = _Run()
    for number, query in enumerate(queries, start=1):
        searches.say(f"{system.name}: query {number} of {len(queries)}", steps=int(number > 1))
        asked = bench.query(query.text, rerank=system.rerank)
        rest = below.rankings[query.id] if below is not None and system.rerank else ()
        run.add(query, system.pipeline.search(asked), rest, searches.embedding_ms)
    searches.say(f"{system.name}: done", steps=1)
    return run


def _result(
    system: System,
    run: _Run,
    scores: Scores,
    before: Scores | None,
    queries: Sequence[LabelledQuery],
    bootstrap: Bootstrap,
) -> SystemResult:
    now = scores[NDCG]
    gains = None if before is None else [now[q.id] - before[NDCG][q.id] for q in queries]
    by_category: dict[str, list[float]] = {}
    for query in queries:
        by_category.setdefault(query.category, []).append(now[query.id])
    by_category.pop("", None)
    return SystemResult(
        name=system.name,
        means={name: statistics.fmean(values.values()) for name, values in scores.items()},
        interval=bootstrap.interval([now[query.id] for query in queries]),
        gain=None if gains is None else bootstrap.interval(gains),
        categories={name: statistics.fmean(v) for name, v in sorted(by_category.items())},
        median_ms=run.median_ms,
    )


def _effect(
    queries: Sequence[LabelledQuery], runs: Sequence[_Run], scores: Sequence[Scores]
) -> RerankEffect:
    """Compare the last two systems query by query."""
    cases = [
        Case(
            id=query.id,
            query=query.text,
            category=query.category,
            rank_before=first_answer(runs[0].rankings[query.id], query.targets),
            rank_after=first_answer(runs[1].rankings[query.id], query.targets),
            ndcg_before=scores[0][NDCG][query.id],
            ndcg_after=scores[1][NDCG][query.id],
        )
        for query in queries
    ]
    helped = sorted((c for c in cases if c.gain > _SAME), key=lambda c: (-c.gain, c.id))
    hurt = sorted((c for c in cases if c.gain < -_SAME), key=lambda c: (c.gain, c.id))
    return RerankEffect(
        helped=len(helped),
        hurt=len(hurt),
        unchanged=len(cases) - len(helped) - len(hurt),
        best=tuple(helped[:CASES]),
        worst=tuple(hurt[:CASES]),
    )


def _modes(
    bench: Bench,
    queries: Sequence[LabelledQuery],
    bootstrap: Bootstrap,
    scratch: Path,
    searches: _Searches,
) -> list[ModeResult]:
    """Copy the index, vectors and all, into each mode; search it with and without rescoring."""
    pipeline = bench.pipeline(bench.store)
    located = [pipeline.embed(bench.query(query.text, rerank=False)) for query in queries]
    nearest = _nearest(
        bench.store, np.stack([one.dense for one in located if one.dense is not None])
    )
    results = []
    for mode, bits in bench.modes.items():
        searches.say(f"Making the {mode} index")
        with _copied(bench, mode, scratch, searches) as copy:
            for rescored in (False, True) if mode != "none" else (False,):
                store = copy.searched_with(rescore=rescored)
                name = f"{mode}, rescored" if rescored else mode
                system = System(name=name, pipeline=bench.pipeline(store))
                run = _run(bench, system, queries, searches)
                ndcg = score(run.rankings, queries)[NDCG]
                results.append(
                    ModeResult(
                        mode=mode,
                        rescored=rescored,
                        bits=bits,
                        found=_found(bench.dense_only(store), located, nearest),
                        ndcg=bootstrap.interval([ndcg[query.id] for query in queries]),
                        retrieve_ms=run.median_ms["retrieve"],
                    )
                )
    return results


@contextmanager
def _copied(
    bench: Bench, mode: QuantizationMode, scratch: Path, searches: _Searches
) -> Iterator[ChunkStore]:
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=scratch) as folder,
        closing(bench.copy(Path(folder) / "index", mode)) as copy,
    ):
        for entries in bench.store.entries():
            copy.upsert(entries.chunks, entries.dense, entries.sparse, entries.tokens)
            searches.say(f"Making the {mode} index")
        copy.optimize()
        yield copy


def _nearest(store: ChunkStore, dense: FloatArray) -> list[set[ChunkId]]:
    """The `DEPTH` nearest chunks of each query in exact arithmetic."""
    ids: list[ChunkId] = []
    cosines: list[FloatArray] = []
    for entries in store.entries():
        ids += [chunk.id for chunk in entries.chunks]
        cosines.append(dense @ entries.dense.T)
    order = np.argsort(-np.concatenate(cosines, axis=1), axis=1, kind="stable")[:, :DEPTH]
    return [{ids[i] for i in row} for row in order]


def _found(store: ChunkStore, located: Sequence[Located], nearest: Sequence[set[ChunkId]]) -> float:
    found = sum(
        len(wanted & {hit.chunk.id for hit in store.search(replace(one, limit=DEPTH))})
        for one, wanted in zip(located, nearest, strict=True)
    )
    return found / sum(map(len, nearest))
