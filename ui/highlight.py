"""Code as HTML lines. Pygments escapes what it is given; the css has its colours."""

from __future__ import annotations

from functools import lru_cache

from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

_LEXERS = {"proto": "protobuf", "terraform": "hcl", "make": "makefile", "asciidoc": "text"}
"""Languages that Pygments knows by another name."""
MAX_HIGHLIGHTED_CHARS = 20_000
"""Longer texts are shown plain: lexers take time, and some take it quadratically."""


@lru_cache(maxsize=512)
def code_lines(text: str, language: str) -> tuple[Markup, ...]:
    """The lines of a text, highlighted and escaped; as many as the text has."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    try:
        if len(text) > MAX_HIGHLIGHTED_CHARS:
            raise ClassNotFound
        lexer = get_lexer_by_name(_LEXERS.get(language, language), stripnl=False)
    except ClassNotFound:
        return tuple(escape(line) for line in plain)
    html = highlight("\n".join(plain), lexer, HtmlFormatter(nowrap=True))
    lines = html.removesuffix("\n").split("\n")
    if len(lines) != len(plain):  # A lexer that drops lines would shift the numbers.
        return tuple(escape(line) for line in plain)
    return tuple(Markup(line) for line in lines)
