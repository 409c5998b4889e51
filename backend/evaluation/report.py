"""What an evaluation found, as values and as Markdown and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from backend.evaluation.intervals import Interval
from backend.evaluation.measures import MEASURES, NDCG
from backend.types import QuantizationMode

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
"""What a terminal would obey, and what no XML may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemResult:
    """How one way of searching fared."""

    name: str
    means: Mapping[str, float]
    """Measure to its mean over the queries."""
    interval: Interval
    """Of nDCG@10."""
    gain: Interval | None
    """nDCG@10 minus that of the row before, query by query; None in the first row."""
    categories: Mapping[str, float]
    """Category to its mean nDCG@10; empty when the set names none."""
    median_ms: Mapping[str, float]
    """Stage, and `total`, to milliseconds; nothing that was remembered is timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeResult:
    """How one quantization mode fared, before reranking."""

    mode: QuantizationMode
    rescored: bool
    bits: float
    """A dimension."""
    found: float
    """Share of the 50 nearest chunks of exact search that dense search finds."""
    ndcg: Interval
    retrieve_ms: float
    """Median of the retrieval stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A query that reranking helped or hurt."""

    id: str
    query: str
    category: str
    rank_before: int | None
    """Of the first hit that answers; None when it is not among the first 50."""
    rank_after: int | None
    ndcg_before: float
    ndcg_after: float

    @property
    def gain(self) -> float:
        return self.ndcg_after - self.ndcg_before


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankEffect:
    """What reranking did to each query's nDCG@10."""

    helped: int
    hurt: int
    unchanged: int
    best: tuple[Case, ...]
    """The largest gains, the largest first."""
    worst: tuple[Case, ...]
    """The largest losses, the largest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All that one evaluation found."""

    collection: str
    labels: str
    chunks: int
    queries: int
    categories: Mapping[str, int]
    """Category to its number of queries."""
    model: str
    quantization: str
    seed: int
    notes: tuple[str, ...]
    """What does not fit: stale targets, queries that were left out."""
    systems: tuple[SystemResult, ...]
    modes: tuple[ModeResult, ...]
    """Empty when quantization was not compared."""
    reranking: RerankEffect | None
    """None when no system reranks."""
    seconds: float


def one_line(text: str) -> str:
    """Text of a label as a terminal, Markdown and SVG can show it."""
    return _CONTROLS.sub("\ufffd", " ".join(text.split()))


def to_json(evaluation: Evaluation) -> str:
    """All of it, as one JSON object."""
    return json.dumps(asdict(evaluation), ensure_ascii=False, indent=1)


def to_markdown(evaluation: Evaluation) -> str:
    """The report as people read it."""
    e = evaluation
    queries = f"{e.queries:,} queries" if e.queries != 1 else "1 query"
    parts = [
        f"# {_cell(e.collection)}, {_cell(e.labels)}",
        f"{queries} over {e.chunks:,} chunks; {_cell(e.model)}, `{e.quantization}` codes."
        f" Intervals hold 95 % of bootstrap resamples (seed {e.seed}); each gain is against the row"
        " before it. Reranking has all the time it needs here.",
        *(f"Note: {_cell(note)}" for note in e.notes),
        _table(*_system_rows(e)),
        _table(*_timing_rows(e)),
    ]
    if e.categories:
        parts += ["nDCG@10 by category:", _table(*_category_rows(e))]
    if e.reranking is not None:
        parts += _effect_parts(e.reranking)
    if e.modes:
        parts += [
            "Quantization, before reranking; *found* is the share of the 50 nearest chunks of exact"
            " search:",
            _table(*_mode_rows(e)),
        ]
    return "\n\n".join(parts) + "\n"


def _system_rows(e: Evaluation) -> tuple[list[str], list[list[str]]]:
    head = ["system", NDCG, "95 %", "gain", *(name for name in MEASURES if name != NDCG)]
    return head, [
        [
            s.name,
            f"{s.interval.mean:.3f}",
            _range(s.interval, "{:.3f}"),
            "" if s.gain is None else f"{s.gain.mean:+.3f} ({_range(s.gain, '{:+.3f}')})",
            *(f"{s.means[name]:.3f}" for name in MEASURES if name != NDCG),
        ]
        for s in e.systems
    ]


def _timing_rows(e: Evaluation) -> tuple[list[str], list[list[str]]]:
    stages = list(dict.fromkeys(stage for s in e.systems for stage in s.median_ms))
    stages = [stage for stage in stages if stage != "total"] + ["total"]
    return ["median ms", *stages], [
        [s.name, *(f"{s.median_ms[t]:.1f}" if t in s.median_ms else "" for t in stages)]
        for s in e.systems
    ]


def _category_rows(e: Evaluation) -> tuple[list[str], list[list[str]]]:
    head = ["category", "queries", *(s.name for s in e.systems)]
    return head, [
        [_cell(name), str(count), *(f"{s.categories[name]:.3f}" for s in e.systems)]
        for name, count in e.categories.items()
    ]


def _mode_rows(e: Evaluation) -> tuple[list[str], list[list[str]]]:
    head = ["mode", "bits a dimension", "rescored", "found", NDCG, "95 %", "retrieve ms"]
    return head, [
        [
            f"`{m.mode}`",
            f"{m.bits:g}",
            "yes" if m.rescored else "no",
            f"{m.found:.3f}",
            f"{m.ndcg.mean:.3f}",
            _range(m.ndcg, "{:.3f}"),
            f"{m.retrieve_ms:.1f}",
        ]
        for m in e.modes
    ]


def _effect_parts(effect: RerankEffect) -> list[str]:
    parts = [
        f"Reranking helped {effect.helped} queries, hurt {effect.hurt} and left"
        f" {effect.unchanged} as they were, by nDCG@10."
    ]
    for title, cases in (("Worst", effect.worst), ("Best", effect.best)):
        if cases:
            rows = [
                [
                    _cell(case.query),
                    _cell(case.category),
                    f"{_place(case.rank_before)} → {_place(case.rank_after)}",
                    f"{case.ndcg_before:.3f} → {case.ndcg_after:.3f}",
                ]
                for case in cases
            ]
            parts += [f"{title}:", _table(["query", "category", "first answer", NDCG], rows)]
    return parts


def _place(rank: int | None) -> str:
    return "none in 50" if rank is None else f"{rank}"


def _range(interval: Interval, form: str) -> str:
    return f"{form.format(interval.low)} to {form.format(interval.high)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text of a label cannot end a cell, or begin markup."""
    escaped = "".join(f"\\{c}" if c in "\\|`*_[]<>#" else c for c in one_line(text))
    return escaped if len(escaped) <= 200 else escaped[:199] + "…"
