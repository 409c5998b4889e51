"""HTML that the page shows: rendered here with everything escaped, never in the browser.

`gr.HTML` compiles its template with Handlebars and then runs the *outcome* as a JavaScript template
literal, so that a `${…}` in indexed text would be executed although Handlebars had escaped it.
Panels therefore pass finished HTML through the one expression `${value}`, whose value is not looked
at again, and Jinja escapes every value on the way.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: object) -> str:
    """Fill a template of `ui/templates`; every value is escaped."""
    return _templates.get_template(template).render(**values)


def panel(value: str = "", *, elem_id: str, script: str | None = None) -> gr.HTML:
    """A place for rendered HTML, and what runs in the browser when it is first there."""
    return gr.HTML(
        value,
        elem_id=elem_id,
        html_template="${value}",
        js_on_load=script,
        apply_default_css=False,
    )
