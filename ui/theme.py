"""Colours and type: system fonts only, so that no page ever asks another server for one."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_ASSETS = Path(__file__).parent.parent / "assets"
CSS = [_ASSETS / "css" / "page.css", _ASSETS / "css" / "code.css"]
SCRIPT = _ASSETS / "js" / "page.js"
ICON = _ASSETS / "icon.svg"

SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
MONO = ["ui-monospace", "SF Mono", "Cascadia Code", "Roboto Mono", "DejaVu Sans Mono", "monospace"]


def theme() -> gr.themes.Base:
    """The theme of light and dark mode; `page.css` takes its colours from the same scale."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="#f7f8fa",
        body_background_fill_dark="#0d1117",
        background_fill_primary_dark="#151b23",
        background_fill_secondary_dark="#151b23",
        block_background_fill_dark="#151b23",
        block_border_color="#e3e6eb",
        block_border_color_dark="#2a323d",
        border_color_primary="#e3e6eb",
        border_color_primary_dark="#2a323d",
        input_background_fill="#ffffff",
        input_background_fill_dark="#0d1117",
        input_border_width="1px",
        input_border_color="#cfd5dd",
        input_border_color_dark="#3a4451",
        block_label_text_color="#5a6472",
        block_title_text_color="#5a6472",
        block_title_text_color_dark="#9aa5b3",
        block_title_text_size="*text_sm",
        block_shadow="none",
        button_primary_background_fill="#1f5fe0",
        button_primary_background_fill_hover="#174db9",
        button_primary_background_fill_dark="#2f6fed",
        button_primary_background_fill_hover_dark="#4a83f2",
        button_primary_text_color="#ffffff",
    )
