"""An indexing run's progress as a bar with its numbers: the same ones as everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from backend.types import IndexProgress

_TITLES = {
    "fetch": "Fetching sources",
    "read": "Reading files",
    "embed": "Embedding chunks",
    "optimize": "Quantizing and indexing vectors",
    "done": "Done",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What `bar.html` shows."""

    title: str
    detail: str
    facts: str = ""
    percent: float | None = None
    """None while nobody knows how much there is."""


def bar(progress: IndexProgress) -> Bar:
    """The bar of a run."""
    known = progress.phase == "embed" and progress.chunks_total
    fetching = progress.phase == "fetch" and progress.message
    return Bar(
        title=_TITLES[progress.phase],
        detail=f"Waiting for {progress.message.replace('pypi:', '')}."
        if fetching
        else progress.message,
        facts=_facts(progress),
        percent=100 * progress.chunks / progress.chunks_total if known else None,
    )


def duration(seconds: float) -> str:
    """Whole seconds, or minutes and seconds."""
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"


def _facts(progress: IndexProgress) -> str:
    facts = []
    if progress.files:
        facts.append(f"{progress.files:,} files")
    if progress.phase == "embed":
        facts.append(f"{progress.chunks:,} of {progress.chunks_total:,} chunks")
    elif progress.chunks_total:
        facts.append(f"{progress.chunks_total:,} chunks")
    if progress.chunks_per_second:
        facts.append(f"{progress.chunks_per_second:,.0f} chunks/s")
    if progress.seconds_left is not None:
        facts.append(f"{duration(progress.seconds_left)} left")
    return " · ".join(facts)
