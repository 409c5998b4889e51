"""The cells of a Jupyter notebook. Lines are those of the .ipynb file, so that links to them work.

Source: the notebook format, https://nbformat.readthedocs.io/en/latest/format_description.html.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node, Tree

_CODE_LANGUAGES = {"julia": "julia", "r": "r", "javascript": "javascript", "scala": "scala"}


@dataclass(frozen=True, slots=True)
class Cell:
    """The source of one cell, each of its strings with the line of the file it stands on."""

    kind: str
    """`code`, `markdown` or `raw`."""
    lines: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Notebook:
    """Cells in their order, and the language of those that hold code."""

    cells: tuple[Cell, ...]
    language: str


def read_notebook(tree: Tree) -> Notebook:
    """Find the cells in the tree of a notebook's JSON; what is not a notebook has none."""
    root = _members(tree.root_node.named_children[0]) if tree.root_node.named_children else {}
    sheets = _items(root.get("worksheets"))  # As notebooks were before version 4.
    holders = [root, *map(_members, sheets)]
    spec = _members(_members(root.get("metadata")).get("kernelspec"))
    named = _string(spec.get("language")).lower() or "python"
    return Notebook(
        tuple(_cell(node) for holder in holders for node in _items(holder.get("cells"))),
        _CODE_LANGUAGES.get(named, "python"),
    )


def _cell(node: Node) -> Cell:
    members = _members(node)
    source = members.get("source") or members.get("input")
    return Cell(_string(members.get("cell_type")), tuple(_source(source)))


def _source(node: Node | None) -> Iterator[tuple[int, str]]:
    if node is not None and node.type == "array":
        for child in node.named_children:
            yield from _source(child)
    elif node is not None and node.type == "string":
        yield node.start_point.row, _string(node).removesuffix("\n")


def _items(node: Node | None) -> list[Node]:
    return node.named_children if node is not None and node.type == "array" else []


def _members(node: Node | None) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for pair in node.named_children if node is not None and node.type == "object" else ():
        key, value = pair.child_by_field_name("key"), pair.child_by_field_name("value")
        if key is not None and value is not None:
            found[_string(key)] = value
    return found


def _string(node: Node | None) -> str:
    if node is None or node.type != "string" or node.text is None:
        return ""
    try:
        return str(json.loads(node.text))
    except ValueError:
        return node.text.decode("utf-8", "replace").strip('"')
