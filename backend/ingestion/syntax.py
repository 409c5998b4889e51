"""The definitions of a source file, from its syntax tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import cast, get_args

from tree_sitter import Node, Parser
from tree_sitter_language_pack import SupportedLanguage, get_parser

from backend.ingestion.languages import DEFINITIONS, WRAPPERS
from backend.types import Kind

_NAME_FIELDS = ("name", "declarator", "type", "trait")
_MAX_DEPTH = 200
"""Deeper nesting comes from generated or hostile files, on which parsers take minutes."""
_NO_DEFINITIONS = frozenset({"html", "css", "toml", "yaml", "markdown", "rst", "json", "text"})
_BRACKETS = re.compile(r"[\[({})\]]")


@dataclass(frozen=True, slots=True)
class Definition:
    """A named definition over lines `start` up to `end`, counted from 0, and those inside it."""

    name: str
    kind: Kind
    start: int
    end: int
    inner: tuple[Definition, ...]


def definitions(text: str, language: str) -> tuple[Definition, ...]:
    """Find the outermost definitions, each with its own, in file order.

    Returns:
        Nothing when the language has no grammar or the file holds no definition.
    """
    if language in _NO_DEFINITIONS or language not in get_args(SupportedLanguage):
        return ()
    if _nesting(text) > _MAX_DEPTH:
        return ()
    tree = _parser(language).parse(text.encode("utf-8", "replace"))
    return tuple(_definitions(tree.root_node, 0))


@lru_cache(maxsize=64)
def _parser(language: str) -> Parser:
    return get_parser(cast(SupportedLanguage, language))


def _nesting(text: str) -> int:
    """The most brackets open at once, those in strings and comments counted too."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(text):
        depth += 1 if bracket in "[({" else -1
        deepest = max(deepest, depth)
    return deepest


def _definitions(node: Node, depth: int) -> Iterator[Definition]:
    if depth > _MAX_DEPTH:
        return
    for child in node.children:
        if not child.is_named:
            continue  # Keywords such as `class` share their type's name with definitions.
        if child.type not in DEFINITIONS:
            yield from _definitions(child, depth + 1)
            continue
        name = _name(child)
        inner = tuple(_definitions(child, depth + 1))
        if not name:
            yield from inner
            continue
        yield Definition(
            name=name,
            kind=DEFINITIONS[child.type],
            start=_first_line(child),
            end=child.end_point.row + (child.end_point.column > 0),
            inner=inner,
        )


def _name(node: Node) -> str:
    """The defined name: the identifier under a name-like field, through C's nested declarators."""
    for field in _NAME_FIELDS:
        named = node.child_by_field_name(field)
        while named is not None and (deeper := named.child_by_field_name("declarator")):
            named = deeper
        if named is not None and named.text and (line := named.text.decode(errors="replace")):
            return line.split("\n", 1)[0].strip()[:120]
    for child in node.named_children:
        if child.type.endswith(("identifier", "_spec", "_name")) and child.text:
            return _name(child) or child.text.decode(errors="replace").split("\n", 1)[0][:120]
    return ""


def _first_line(node: Node) -> int:
    """Where a definition begins, with its decorators, `export` and the comments right above."""
    while (parent := node.parent) is not None and parent.type in WRAPPERS:
        node = parent
    first = node.start_point.row
    above = node.prev_named_sibling
    while above is not None and _belongs_below(above) and above.end_point.row >= first - 1:
        starts_its_line = above.prev_sibling is None or (
            above.prev_sibling.end_point.row < above.start_point.row
            or above.prev_sibling.end_point.column == 0
        )
        if not starts_its_line:
            break  # A comment behind the code of the line above.
        first = above.start_point.row
        above = above.prev_named_sibling
    return first


def _belongs_below(node: Node) -> bool:
    return "comment" in node.type or node.type in {"attribute_item", "decorator", "annotation"}
