"""A document as its sections: what stands under which heading, and what its lines say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backend.ingestion.notebook import read_notebook
from backend.ingestion.prose import Heading, head_end, heading_paths, read_prose
from backend.ingestion.syntax import parse, read_syntax
from backend.ingestion.webpage import read_page

DOCUMENTS = frozenset({"markdown", "rst", "asciidoc", "html", "notebook"})
"""Languages that are cut along headings."""
_MAGIC = ("%", "!")
"""How lines begin that only a notebook's kernel understands."""


@dataclass(frozen=True, slots=True)
class Document:
    """How a document is divided. Lines are counted from 0."""

    sections: tuple[tuple[int, str], ...]
    """First line and heading path (`Install > GPU`) of every section."""
    borders: Mapping[int, int] = field(default_factory=dict)
    """Lines on which a block or statement begins, and how deep; 0 is outermost."""
    plain: Mapping[int, str] | None = None
    """What each line says, where that is not what stands in it; silent lines are left out."""
    names: tuple[tuple[int, str], ...] = ()
    """Line and full path of the names that its code defines."""


def read_document(text: str, language: str, *, metadata: bool = False) -> Document:
    """Divide a document.

    Args:
        text: The whole of it.
        language: One of `DOCUMENTS`.
        metadata: It follows the headers of a wheel's METADATA.
    """
    if language == "html":
        return _webpage(text)
    if language == "notebook":
        return _notebook(text)
    lines = text.split("\n")
    begin = head_end(lines, metadata=metadata)
    prose = read_prose(lines[begin:], language)
    sections = [(0, ""), (begin, "")] if begin else []
    return Document(
        _sections(
            [(line + begin, level, title) for line, level, title in prose.headings], sections
        ),
        {line + begin: depth for line, depth in prose.borders.items()},
    )


def _sections(
    headings: Sequence[Heading], before: Sequence[tuple[int, str]] = ()
) -> tuple[tuple[int, str], ...]:
    return tuple(dict([*before, *heading_paths(headings)]).items())


def _webpage(text: str) -> Document:
    tree = parse(text, "html")
    if tree is None:
        return Document(())
    page = read_page(tree)
    return Document(_sections(page.headings), read_syntax(text, "html").borders, page.said)


def _notebook(text: str) -> Document:
    """Cells under the headings of the Markdown cells before them; outputs are left out."""
    tree = parse(text, "json")
    notebook = read_notebook(tree) if tree is not None else None
    if notebook is None or not any(cell.lines for cell in notebook.cells):
        return Document((), read_syntax(text, "json").borders)
    said: defaultdict[int, list[str]] = defaultdict(list)
    code = [""] * (text.count("\n") + 1)
    headings: list[Heading] = []
    cells: list[int] = []
    for cell in notebook.cells:
        for row, line in cell.lines:
            said[row].append(line)
            if cell.kind == "code" and not line.startswith(_MAGIC) and "\n" not in line:
                code[row] = line
        if cell.kind == "markdown":
            found = read_prose([line for _, line in cell.lines], "markdown").headings
            headings += [(cell.lines[line][0], level, title) for line, level, title in found]
        if cell.lines:
            cells += [cell.lines[0][0], cell.lines[-1][0] + 1]
    syntax = read_syntax("\n".join(code), notebook.language)
    starts = dict.fromkeys(cells, "")
    paths = dict(heading_paths(headings))
    path = ""
    for row in sorted({*starts, *paths}):
        path = paths.get(row, path)
        starts[row] = path
    return Document(
        tuple(sorted(starts.items())),
        syntax.borders,
        {row: "\n".join(lines) for row, lines in said.items()},
        syntax.names,
    )
