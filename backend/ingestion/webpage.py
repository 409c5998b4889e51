"""What an HTML page says, line by line, and its headings."""

from __future__ import annotations

import html
from collections import defaultdict
from dataclasses import dataclass

from tree_sitter import Node, Tree

_SILENT = frozenset(
    {"nav", "footer", "aside", "style", "svg", "noscript", "iframe", "meta", "link"}
)
"""Elements around a page's content, or without words."""
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})


@dataclass(frozen=True, slots=True)
class Page:
    """Lines are counted from 0."""

    said: dict[int, str]
    """The words that stand on a line, for every line that has some."""
    headings: tuple[tuple[int, int, str], ...]
    """Line, level and title."""


def read_page(tree: Tree) -> Page:
    """Collect the words of a page, without its navigation and styles; scripts stay as they are."""
    said: defaultdict[int, list[str]] = defaultdict(list)
    headings: list[tuple[int, int, str]] = []
    todo: list[Node] = [tree.root_node]
    while todo:
        node = todo.pop()
        if node.type in ("text", "entity", "raw_text"):
            for row, words in enumerate(_text(node).split("\n"), start=node.start_point.row):
                said[row].append(words if node.type == "raw_text" else words.strip())
            continue
        if node.type in ("element", "script_element", "style_element"):
            tag = _tag(node)
            if tag in _SILENT:
                continue
            if tag in _HEADINGS and (title := _words(node)):
                headings.append((node.start_point.row, int(tag[1]), title))
        todo.extend(reversed(node.named_children))
    spoken = {row: html.unescape(" ".join(filter(None, words))) for row, words in said.items()}
    return Page({row: words for row, words in spoken.items() if words}, tuple(headings))


def _tag(node: Node) -> str:
    start = node.named_children[0] if node.named_children else None
    name = start.named_children[0] if start is not None and start.named_children else None
    return _text(name).lower() if name is not None and name.type == "tag_name" else ""


def _words(node: Node) -> str:
    words: list[str] = []
    todo = [node]
    while todo:
        node = todo.pop()
        if node.type in ("text", "entity"):
            words.append(html.unescape(_text(node)))
        todo.extend(reversed(node.named_children))
    return " ".join(" ".join(words).split())


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
