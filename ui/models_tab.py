"""The Models tab: every model that can be named, what it costs here, and how it is made ready."""

from __future__ import annotations

import gradio as gr

from backend.errors import SearchError
from backend.models_command import describe, memory, speed
from backend.shelf import overview
from backend.workspace import Workspace
from ui.panel import panel, render


class ModelsTab:
    """Lists the catalogue; loaded anew whenever the tab is opened."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._list = panel(elem_id="models")

    def connect(self, tab: gr.Tab) -> None:
        """Show the state of the moment in which the tab is opened."""
        tab.select(
            self._show,
            None,
            self._list,
            queue=False,
            api_visibility="private",
            show_progress="hidden",
        )

    def _show(self) -> str:
        try:
            models = overview(self._workspace.settings)
        except SearchError as exc:
            return render("problem.html", message=exc.message, fix=exc.fix)
        return render("models.html", models=models, describe=describe, memory=memory, speed=speed)
