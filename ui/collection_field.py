"""The field in which a collection is chosen."""

from __future__ import annotations

import gradio as gr

from backend.config import DEFAULT_COLLECTION
from backend.workspace import Workspace


def collection_field(**options: object) -> gr.Dropdown:
    """The field with the default collection; what else there is, `offered` adds."""
    return gr.Dropdown(
        [DEFAULT_COLLECTION],
        value=DEFAULT_COLLECTION,
        label="Collection",
        # Gradio forgets what it offered a page when the app starts again: names are checked by us.
        allow_custom_value=True,
        **options,
    )


def refresh_on(tab: gr.Tab, field: gr.Dropdown, workspace: Workspace) -> None:
    """Offer those that there are whenever the tab is opened: there may be new ones."""
    tab.select(
        lambda: gr.Dropdown(choices=offered(workspace)),
        None,
        field,
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )


def offered(workspace: Workspace) -> list[str]:
    """What there is to choose from."""
    return sorted({DEFAULT_COLLECTION, *(info.name for info in workspace.collections())})
