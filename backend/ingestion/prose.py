"""Where the sections of a document begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from markdown_it import MarkdownIt

_UNDERLINES = set("=-~^\"'`#*+.:_")
_MARKDOWN = MarkdownIt("commonmark")


def section_starts(
    lines: Sequence[str], language: str, *, metadata: bool = False
) -> list[tuple[int, str]]:
    """Find the headings of a document.

    Args:
        lines: The whole document.
        language: `markdown`, `rst` or `asciidoc`.
        metadata: The document follows the headers of a wheel's METADATA.

    Returns:
        First line, counted from 0, and heading path (`Install > GPU`) of every section.
    """
    begin = 0
    if metadata:
        begin = next((i + 1 for i, line in enumerate(lines) if not line.strip()), len(lines))
    body = lines[begin:]
    found = {"markdown": _markdown, "rst": _rst, "asciidoc": _asciidoc}[language](body)
    starts: list[tuple[int, str]] = [(0, "")] if begin else []
    if begin < len(lines) and begin:
        starts.append((begin, ""))
    path: list[tuple[int, str]] = []
    for line, level, title in found:
        path = [*((outer, name) for outer, name in path if outer < level), (level, title)]
        start = (line + begin, " > ".join(name for _, name in path))
        if starts and starts[-1][0] == start[0]:
            starts.pop()
        starts.append(start)
    return starts


def _markdown(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    tokens = _MARKDOWN.parse("\n".join(lines))
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.map and token.level == 0:
            title = "".join(part.content for part in inline.children or [] if part.type != "image")
            yield token.map[0], int(token.tag[1]), title.strip()


def _rst(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Titles are underlined; a style's level is the order in which it first appears."""
    levels: list[str] = []
    for i in range(1, len(lines)):
        mark, title = lines[i].rstrip(), lines[i - 1].rstrip()
        is_underline = len(mark) >= 3 and len(set(mark)) == 1 and mark[0] in _UNDERLINES
        if not is_underline or not title or title[0].isspace() or len(mark) < len(title):
            continue
        overlined = i >= 2 and lines[i - 2].rstrip() == mark
        style = mark[0] * (2 if overlined else 1)
        if style not in levels:
            levels.append(style)
        yield (i - 2 if overlined else i - 1), levels.index(style), title


def _asciidoc(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    fenced = False
    for i, line in enumerate(lines):
        if line.startswith("----"):
            fenced = not fenced
        marks, _, title = line.partition(" ")
        if not fenced and title.strip() and set(marks) == {"="} and len(marks) <= 6:
            yield i, len(marks), title.strip()
