"""The Collections tab: what can be searched, and what each index was made of."""

from __future__ import annotations

from datetime import datetime

import gradio as gr

from backend.workspace import Workspace
from ui.panel import panel, render


class CollectionsTab:
    """Lists the collections of the data folder; loaded anew whenever the tab is opened."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._list = panel(elem_id="collections")

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
        return render(
            "collections.html",
            collections=self._workspace.collections(),
            when=lambda stamp: datetime.fromisoformat(stamp).strftime("%d %B %Y, %H:%M UTC"),
        )
