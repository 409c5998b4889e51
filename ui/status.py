"""The line above the query that says what the app is busy with."""

from __future__ import annotations

from backend.preparation import Preparation, Readiness
from backend.types import IndexProgress
from backend.workspace import Workspace
from ui.panel import render

_TITLES = {
    "fetch": "Fetching packages",
    "read": "Reading files",
    "embed": "Embedding chunks",
    "optimize": "Quantizing and indexing vectors",
    "done": "Done",
}


def status(workspace: Workspace, preparation: Preparation) -> str:
    """The panel: a progress bar while something is prepared, notes once it is."""
    readiness = preparation.readiness
    progress = readiness.progress
    title, detail = "Loading models", "The first start also converts them; later ones reuse that."
    if readiness.step == "index":
        title = _TITLES[progress.phase] if progress else "Preparing the default collection"
        detail = _detail(progress) if progress else "Comparing it with its sources."
    return render(
        "status.html",
        readiness=readiness,
        searchable=preparation.searchable(),
        title=title,
        facts=_facts(progress) if progress else "",
        percent=_percent(readiness),
        detail=detail,
        notes=[s for info in workspace.collections() for s in info.sources if s.note],
    )


def _percent(readiness: Readiness) -> float | None:
    progress = readiness.progress
    if progress is None or progress.phase != "embed" or not progress.chunks_total:
        return None
    return 100 * progress.chunks / progress.chunks_total


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
        facts.append(f"{_time(progress.seconds_left)} left")
    return " · ".join(facts)


def _detail(progress: IndexProgress) -> str:
    if progress.phase == "fetch" and progress.message:
        return f"Waiting for {progress.message.replace('pypi:', '')}."
    return progress.message


def _time(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"
