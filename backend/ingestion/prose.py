"""Where the sections of a document begin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markdown_it import MarkdownIt

_UNDERLINES = set("=-~^\"'`#*+.:_")
_MARKDOWN = MarkdownIt("commonmark").enable("table")
_HTML_HEADING = re.compile(r"<h([1-6])\b[^>]*>(.*?)</h\1\s*>", re.I | re.S)
_TAG = re.compile(r"<[^<>]*>")
_TITLE = re.compile(r"[^.\[=/:|+*\s-].*\w")
"""No line of AsciiDoc that belongs to the block below it, such as `.Title` and `[source]`."""
_FRONT_MATTER_LINES = 100

Heading = tuple[int, int, str]
"""Line, counted from 0; level, 1 is outermost; title."""


@dataclass(frozen=True, slots=True)
class Prose:
    """Lines are counted from 0."""

    headings: tuple[Heading, ...]
    borders: Mapping[int, int] = field(default_factory=dict)
    """Lines on which a block begins, and how deep it is nested; 0 is outermost."""


def read_prose(lines: Sequence[str], language: str) -> Prose:
    """Find the headings of a `markdown`, `rst` or `asciidoc` document."""
    if language == "markdown":
        return _markdown(lines)
    return Prose(tuple(_rst(lines) if language == "rst" else _asciidoc(lines)))


def head_end(lines: Sequence[str], *, metadata: bool) -> int:
    """The line after what stands before a document: front matter, or a wheel's headers."""
    if metadata:
        return next((i + 1 for i, line in enumerate(lines) if not line.strip()), len(lines))
    mark = lines[0].rstrip() if lines else ""
    if mark not in ("---", "+++"):
        return 0
    top = lines[1:_FRONT_MATTER_LINES]
    return next((i for i, line in enumerate(top, start=2) if line.rstrip() == mark), 0)


def heading_paths(headings: Iterable[Heading]) -> Iterator[tuple[int, str]]:
    """The line of each heading, and its title behind those it stands under."""
    path: list[tuple[int, str]] = []
    for line, level, title in headings:
        path = [*((outer, name) for outer, name in path if outer < level), (level, title)]
        yield line, " > ".join(name for _, name in path)


def _markdown(lines: Sequence[str]) -> Prose:
    headings: list[Heading] = []
    borders: dict[int, int] = {}
    tokens = _MARKDOWN.parse("\n".join(lines))
    for token, inline in pairwise([*tokens, *tokens[:1]]):
        if token.map is None or token.nesting < 0 or token.type == "inline":
            continue
        line = token.map[0]
        borders.setdefault(line, token.level)
        if token.type == "heading_open" and token.level == 0:
            title = "".join(part.content for part in inline.children or [] if part.type != "image")
            headings.append((line, int(token.tag[1]), title.strip()))
        elif token.type == "html_block" and token.level == 0:
            for found in _HTML_HEADING.finditer(token.content):
                title = " ".join(_TAG.sub(" ", found[2]).split())
                if title:
                    row = line + token.content.count("\n", 0, found.start())
                    headings.append((row, int(found[1]), title))
    return Prose(tuple(headings), borders)


def _rst(lines: Sequence[str]) -> Iterator[Heading]:
    """Titles are underlined; a style's level is the order in which it first appears."""
    levels: list[str] = []
    for i in range(1, len(lines)):
        mark, title = lines[i].rstrip(), lines[i - 1].rstrip()
        is_underline = len(mark) >= 3 and len(set(mark)) == 1 and mark[0] in _UNDERLINES
        if not is_underline or not title.strip() or len(mark) < len(title):
            continue
        overlined = i >= 2 and lines[i - 2].rstrip() == mark
        if set(title) <= _UNDERLINES or (title[0].isspace() and not overlined):
            continue
        style = mark[0] * (2 if overlined else 1)
        if style not in levels:
            levels.append(style)
        yield (i - 2 if overlined else i - 1), levels.index(style), title.strip()


def _asciidoc(lines: Sequence[str]) -> Iterator[Heading]:
    """Titles stand behind `==` or, in one paragraph with nothing else, above an underline."""
    fence = ""
    for i, line in enumerate(lines):
        mark, above = line.rstrip(), lines[i - 1].rstrip() if i else ""
        if not fence and _underlines(mark, above) and (i == 1 or _is_apart(lines[i - 2])):
            yield i - 1, "=-~^+".index(mark[0]) + 1, above
            continue
        if mark[:4] in ("----", "....", "++++", "////") and len(set(mark)) == 1:
            fence = "" if fence == mark else fence or mark
        marks, _, title = mark.partition(" ")
        if not fence and title.strip() and set(marks) == {"="} and len(marks) <= 6:
            yield i, len(marks), title.removesuffix(f" {marks}").strip()


def _underlines(mark: str, title: str) -> bool:
    """Whether a line is what AsciiDoc underlines a title with: about as long as that."""
    is_line = len(mark) > 2 and len(set(mark)) == 1 and mark[0] in "=-~^+"
    return is_line and abs(len(mark) - len(title)) < 2 and bool(_TITLE.match(title))


def _is_apart(line: str) -> bool:
    """Whether AsciiDoc takes a line for none of the paragraph below it."""
    return not line.strip() or line.startswith(("[", "//", ":"))
