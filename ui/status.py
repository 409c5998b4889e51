"""The line above the query that says what the app is busy with."""

from __future__ import annotations

from backend.preparation import Preparation
from backend.workspace import Workspace
from ui.panel import render
from ui.progress import Bar, bar

_LOADING = Bar(
    title="Loading models", detail="The first start also converts them; later ones reuse that."
)
_COMPARING = Bar(title="Preparing the default collection", detail="Comparing it with its sources.")


def status(workspace: Workspace, preparation: Preparation) -> str:
    """The panel: a progress bar while something is prepared, notes once it is."""
    readiness = preparation.readiness
    shown = _LOADING
    if readiness.step == "index":
        shown = bar(readiness.progress) if readiness.progress else _COMPARING
    return render(
        "status.html",
        readiness=readiness,
        searchable=preparation.searchable(),
        bar=shown,
        notes=[s for info in workspace.collections() for s in info.sources if s.note],
    )
