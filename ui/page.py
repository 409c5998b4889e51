"""The whole page: header, tabs, and what `launch` needs to serve them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from backend.background import Background
from backend.preparation import Preparation
from backend.workspace import Workspace
from ui.agents_tab import AgentsTab
from ui.collections_tab import CollectionsTab
from ui.evaluate_tab import EvaluateTab
from ui.models_tab import ModelsTab
from ui.panel import panel, render
from ui.search_tab import SearchTab
from ui.theme import CSS, ICON, SCRIPT, theme

TITLE = "Rankscope"


def build_page(
    workspace: Workspace, preparation: Preparation, background: Background, *, mcp_path: str
) -> gr.Blocks:
    """Build the page; nothing of it is reachable by MCP, whose endpoint lies at `mcp_path`."""
    page = gr.Blocks(title=TITLE, analytics_enabled=False)
    with page:
        panel(render("header.html"), elem_id="header")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Search", id="search") as search_tab:
                search = SearchTab(workspace, preparation)
            with gr.Tab("Collections", id="collections") as collections_tab:
                collections = CollectionsTab(workspace, background)
            with gr.Tab("Models", id="models") as models_tab:
                models = ModelsTab(workspace)
            with gr.Tab("Evaluate", id="evaluate") as evaluate_tab:
                evaluate = EvaluateTab(workspace)
            with gr.Tab("Agents", id="agents"):
                agents = AgentsTab(mcp_path)
        search.connect(page)
        search.offer_collections(search_tab)
        collections.connect(collections_tab)
        models.connect(models_tab)
        evaluate.connect(evaluate_tab)
        agents.connect(page)
    return page


def appearance() -> dict[str, Any]:
    """Arguments of `launch` that decide how the page looks; all of it is served from here."""
    return {
        "theme": theme(),
        "css_paths": CSS,
        "head": f"<script>{SCRIPT.read_text()}</script>",
        "favicon_path": ICON,
        "footer_links": [],
    }
