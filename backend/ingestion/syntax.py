"""What a source file defines and where its statements begin, from its syntax tree.

Every language has a tree-sitter query in `grammars/`. What a pattern captures says what it found:

- `@class`, `@function`, `@method`, `@module`: the definition of `@name`;
- `@extension`: members added to a type that is defined elsewhere (`impl`, `extension`, `instance`);
- `@namespace`, `@rest`: a namespace around others, or for all that follows it; not a name itself;
- `@block`: has a description for a name, such as a test, which nobody looks up as a symbol;
- `@constant`: a name worth finding, too small to be cut out;
- `@scope`: the type that a definition outside of it belongs to, such as Go's receiver;
- `@above`: a comment or attribute that belongs to the definition on the next line.

Where several patterns capture one node, the first in the file holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast, get_args

from loguru import logger
from tree_sitter import Node, Parser, Point, Query, QueryCursor, Tree
from tree_sitter_language_pack import SupportedLanguage, get_language

from backend.types import Kind

_QUERIES = Path(__file__).parent / "grammars"
_COMPOSED = {
    "javascript": ("ecmascript", "javascript"),
    "typescript": ("ecmascript", "typescript"),
    "tsx": ("ecmascript", "typescript"),
    "cpp": ("c", "cpp"),
    "objc": ("c", "objc"),
}
"""Languages whose query is made of several files."""
_CLAUSES = frozenset({"haskell", "elixir", "typescript", "tsx"})
"""Where a signature and several bodies under one name are one definition."""

_MAX_NESTING = 200
"""Deeper brackets come from generated or hostile files, on which parsers take minutes."""
_MAX_DEPTH = 40
"""Definitions nested deeper are part of the one around them; bounds recursion."""
_PARSE_S = 4.0
"""CPU seconds of this thread after which a parser is given up; 2 MB of code take a tenth."""
_MAX_TREE_DEPTH = 1_000
_MAX_CHILDREN = 20_000
"""A query takes time by the square of a node's children: half a second at this number."""
_SAMPLED_NODES = 1_000
_READ_BYTES = 4096
_MAX_NAME_CHARS = 120
_QUOTES = ("'", '"', "`")
_BELOW_HEAD = 3
"""Levels that the first line below a head counts deeper, for a head stays with what it opens."""
_NO_BORDER = 1 << 30
_ONE_PIECE = re.compile("string|heredoc|comment")
"""Nodes without statements inside."""

_C_MACROS = re.compile(
    r"^[ \t]*[A-Z][A-Z0-9_]{3,}[ \t]*$"  # SHOP_BEGIN_NAMESPACE
    r"|^[ \t]*(?:[A-Z][A-Z0-9]*_[A-Z0-9_]+[ \t]+)+(?=[A-Za-z_~:])"  # SHOP_INLINE void f()
    r"|(?<=class |truct )[A-Z][A-Z0-9]*_[A-Z0-9_]+(?=[ \t]+[A-Za-z_])"  # class SHOP_API Cart
    r"|(?<=\) )[A-Z][A-Z0-9]*_[A-Z0-9_]+(?=\s*[;{])"  # int total() SHOP_NOEXCEPT;
    r"|(?<=\) const )[A-Z][A-Z0-9]*_[A-Z0-9_]+(?=\s*[;{])",
    re.M,
)
_TYPESCRIPT = re.compile(
    r"\bimport\([\"'][^\"'\n]*[\"']\)\."  # import("./cart").Cart<T>
    r"|(?:(?<=<)|(?<=, )|^[ \t]+)(?:in out|in|out)(?=[ \t]+[A-Z])"  # Cart<in Item, out Price>
    r"|(?<=export )type(?= \*)",
    re.M,
)
_UNKNOWN = {
    "typescript": _TYPESCRIPT,
    "tsx": _TYPESCRIPT,
    "c": _C_MACROS,
    "cpp": _C_MACROS,
    "objc": _C_MACROS,
    "haskell": re.compile(r"^#[ \t]*(?:if|ifdef|ifndef|elif|else|endif)\b.*$", re.M),
    "swift": re.compile(
        r"@(?:unchecked|preconcurrency|retroactive)\b|\bnonisolated\(unsafe\)"
        r"|^(?:public|package|internal|fileprivate|private)\b(?=[ \t]+import\b)"
        r"|^[ \t]*#(?:if|elseif|else|endif)\b.*$",
        re.M,
    ),
}
"""What makes parsers lose their way: macros, which they do not expand, and syntax younger than the
grammar. It is blanked out for the parser, so that all places stay as they are."""
_UNENDED = re.compile(r"(?<![(\[{<,;:=|&+\n]\n)(?<!=>\n)(?<=\n)\s{0,200}[ \t](?=[<(\[])")
"""The space before a member of a TypeScript type that begins with a bracket, as overloads do. The
member above may end without a semicolon, but is then read as one with it."""
_FLOW = re.compile(r"^[ \t]*(?:/\*+|\*|//)[ \t]*@flow\b", re.M)
_FLOW_CHARS = 1_000

_Capture = Literal[
    "class",
    "function",
    "method",
    "module",
    "extension",
    "namespace",
    "rest",
    "block",
    "constant",
]
_KINDS: Mapping[str, Kind] = {
    "class": "class",
    "extension": "class",
    "function": "function",
    "block": "function",
    "method": "method",
    "module": "module",
    "namespace": "module",
    "rest": "module",
}
_BRACKETS = re.compile(r"[\[({})\]]")
_ARGUMENTS = re.compile(r"(?<=\w)(?:<[^<>]*>|\[[^\[\]]*\])")
_OUTSIDE = re.compile(r"^(?:module\.exports|exports|window|globalThis|this|self)(?:\.|$)")
_TYPE = re.compile(r"(?:(?:dyn|mut|const)\s+)*([^\W\d][\w.$]*)")
_LIFETIME = re.compile(r"'\w+\s*")


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition over lines `start` up to `end`, counted from 0, and those inside it."""

    symbol: str
    """Its full path, such as `Client.upsert`."""
    kind: Kind
    start: int
    """With the comments, decorators and attributes right above."""
    end: int
    inner: tuple[Definition, ...]


@dataclass(frozen=True, slots=True)
class Syntax:
    """What a file's tree says of its lines, all counted from 0."""

    definitions: tuple[Definition, ...] = ()
    """The outermost ones, in file order."""
    names: tuple[tuple[int, str], ...] = ()
    """Line and full path of every name that is defined, in file order; more than `definitions`
    has: constants, enum members, prototypes; not `impl` or `extension`, which define no name."""
    borders: Mapping[int, int] = field(default_factory=dict)
    """Lines on which a statement begins, and how deep in the tree; 0 is outermost."""


def read_syntax(text: str, language: str) -> Syntax:
    """Parse a file.

    Returns:
        Nothing when the language has no grammar, or when the file would stall its parser.
    """
    if language == "javascript" and _FLOW.search(text, 0, _FLOW_CHARS):
        language = "tsx"  # Flow's types are written like TypeScript's.
    tree = parse(text, language)
    if tree is None:
        return Syntax()
    lines = text.split("\n")
    found, above = _found(tree, language, lines)
    outline = _Outline(above, lines, language in _CLAUSES)
    outline.add_all(found)
    names = tuple(sorted((line, name) for line, name in outline.names if " " not in name))
    return Syntax(outline.definitions(), names, _borders(tree, lines, above))


def parse(text: str, language: str) -> Tree | None:
    """The tree of a text, in bounded time; None without a grammar, or when it was given up."""
    if language not in get_args(SupportedLanguage) or _nesting(text) > _MAX_NESTING:
        return None
    if language in _UNKNOWN:
        text = _UNKNOWN[language].sub(lambda found: " " * len(found[0]), text)
    tree = _parsed(text, language)
    if tree is not None and tree.root_node.has_error and language in ("typescript", "tsx"):
        ended = _parsed(_UNENDED.sub(lambda found: f"{found[0][:-1]};", text), language)
        if ended is not None and _misread(ended) < _misread(tree):
            return ended
    return tree


def _misread(tree: Tree) -> int:
    """Bytes that a parser could make nothing of."""
    total, todo = 0, [tree.root_node]
    while todo:
        node = todo.pop()
        if node.is_error or node.is_missing:
            total += node.end_byte - node.start_byte + 1
        elif node.has_error:
            todo += node.children
    return total


def _parsed(text: str, language: str) -> Tree | None:
    data = text.encode("utf-8", "replace")
    parser = Parser(get_language(cast(SupportedLanguage, language)))
    limit = time.thread_time() + _PARSE_S

    def read(offset: int, _: Point) -> bytes:
        return data[offset : offset + _READ_BYTES]

    def expired(*_: object) -> bool:
        return time.thread_time() > limit

    try:
        tree = parser.parse(read, progress_callback=expired)
    except ValueError:  # How giving up is told.
        tree = None
    if tree is None:
        logger.warning("Gave up parsing {n} bytes of {language}", n=len(data), language=language)
        return None
    return tree


def _stalls_queries(tree: Tree) -> bool:
    """Whether the tree is deeper or wider than code is, told from a sample of its nodes."""
    nodes = tree.root_node.descendant_count
    cursor = tree.walk()
    for node in range(0, nodes, max(nodes // _SAMPLED_NODES, 1)):
        cursor.goto_descendant(node)
        deep = cursor.depth > _MAX_TREE_DEPTH
        cursor.goto_parent()
        if deep or (cursor.node is not None and cursor.node.child_count > _MAX_CHILDREN):
            return True
    return False


def _nesting(text: str) -> int:
    """The most brackets open at once, those in strings and comments counted too."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(text):
        depth += 1 if bracket in "[({" else -1
        deepest = max(deepest, depth)
    return deepest


def parts_of(language: str) -> tuple[str, ...]:
    """The files in `grammars/` that make up a language's query."""
    return _COMPOSED.get(language, (language,))


@lru_cache(maxsize=64)
def _query(language: str) -> Query | None:
    parts = [_QUERIES / f"{name}.scm" for name in parts_of(language)]
    if not all(part.exists() for part in parts):
        return None
    source = "\n".join(part.read_text("utf-8") for part in parts)
    return Query(get_language(cast(SupportedLanguage, language)), source)


@dataclass(slots=True)
class _Found:
    """A captured node, and later what stands in it."""

    node: Node
    pattern: int
    capture: _Capture
    name: str
    line: int
    symbol: str = ""
    start: int = 0
    end: int = 0
    inner: list[_Found] = field(default_factory=list)


def _found(tree: Tree, language: str, lines: Sequence[str]) -> tuple[list[_Found], set[int]]:
    """Captured definitions in file order, outer before inner; and the lines that belong below."""
    query = _query(language)
    if query is None or _stalls_queries(tree):
        return [], set()
    found: dict[tuple[int, int], _Found] = {}
    above: set[int] = set()
    for pattern, captures in QueryCursor(query).matches(tree.root_node):
        names = captures.pop("name", [])
        scope = captures.pop("scope", [])
        for capture, nodes in captures.items():
            node = nodes[0]
            if capture == "above":
                if _begins_its_line(node, lines):
                    above.update(range(node.start_point.row, _end_row(node, lines)))
            elif not capture.startswith("_"):
                known = found.get(node.byte_range)
                if known is None or pattern < known.pattern:
                    name, line = _name(names, scope, node, capture)
                    found[node.byte_range] = _Found(
                        node, pattern, cast(_Capture, capture), name, line
                    )
    ordered = sorted(found.values(), key=lambda one: (one.node.start_byte, -one.node.end_byte))
    return ordered, above


class _Outline:
    """Nests definitions by the bytes they cover, and gives each its path."""

    def __init__(self, above: set[int], text: Sequence[str], clauses: bool) -> None:
        self.names: list[tuple[int, str]] = []
        self._above = above
        self._text = text
        self._clauses = clauses
        self._top: list[_Found] = []

    def add_all(self, found: Sequence[_Found]) -> None:
        """Take definitions in file order, outer before inner."""
        around: list[_Found] = []
        rest: _Found | None = None
        for one in found:
            if not one.name:
                continue
            while around and around[-1].node.end_byte <= one.node.start_byte:
                around.pop()
            if one.capture == "rest":
                if rest is not None:
                    rest.end = one.node.start_point.row
                rest = one
            outer = around[-1] if around else rest if one is not rest else None
            self._add(one, outer, depth=len(around))
            if one.capture not in ("constant", "rest") and len(around) < _MAX_DEPTH:
                around.append(one)

    def _add(self, one: _Found, outer: _Found | None, *, depth: int) -> None:
        in_function = outer is not None and outer.capture in ("function", "method", "block")
        if one.capture == "constant" and in_function:
            return  # A local variable.
        if one.capture == "function":
            member = outer is not None and outer.capture in ("class", "extension")
            one.capture = "method" if member or "." in one.name else "function"
        one.symbol = f"{outer.symbol}.{one.name}" if outer is not None else one.name
        one.start, one.end = self._rows(one.node), _end_row(one.node, self._text)
        if one.capture == "rest":
            one.end = len(self._text)
        if one.capture not in ("extension", "namespace", "rest", "block"):
            self.names.append((one.line, one.symbol))
        if one.capture != "constant" and depth < _MAX_DEPTH:
            (self._top if outer is None else outer.inner).append(one)

    def definitions(self) -> tuple[Definition, ...]:
        """The outermost definitions, each with its own."""
        return self._frozen(self._top)

    def _frozen(self, found: Sequence[_Found]) -> tuple[Definition, ...]:
        frozen: list[Definition] = []
        for one in found:
            made = Definition(
                one.symbol, _KINDS[one.capture], one.start, one.end, self._frozen(one.inner)
            )
            last = frozen[-1] if frozen else None
            if last is not None and self._clauses and _same(last, made):
                clauses = last.inner if _same_inside(last) else (last,)
                frozen[-1] = Definition(
                    made.symbol, last.kind, last.start, made.end, (*clauses, made)
                )
            else:
                frozen.append(made)
        return tuple(frozen)

    def _rows(self, node: Node) -> int:
        while (parent := node.parent) is not None and parent.type == "template_declaration":
            node = parent
        row = node.start_point.row
        while row - 1 in self._above:
            row -= 1
        return row


def _same(one: Definition, other: Definition) -> bool:
    """Whether both are clauses of one definition: neighbours of one name."""
    named = one.symbol == other.symbol and one.kind in ("function", "method")
    return named and other.start - one.end <= 2


def _same_inside(one: Definition) -> bool:
    return bool(one.inner) and one.inner[0].symbol == one.symbol


def _end_row(node: Node, lines: Sequence[str]) -> int:
    """The first row after a node."""
    end = node.end_point
    begun = lines[end.row].encode("utf-8", "replace")[: end.column].strip()
    return max(end.row + bool(begun), node.start_point.row + 1)


def _begins_its_line(node: Node, lines: Sequence[str]) -> bool:
    line = lines[node.start_point.row].encode("utf-8", "replace")
    return not line[: node.start_point.column].strip()


def _name(
    names: Sequence[Node], scope: Sequence[Node], node: Node, capture: str
) -> tuple[str, int]:
    """A definition's name with the type it belongs to, and the line it stands on."""
    if not names:  # Kotlin's companion object.
        return ("Companion" if node.type == "companion_object" else ""), node.start_point.row
    as_types = capture == "extension"
    parts = [_type_name(_text(each)) for each in scope]
    for each in names:
        parts.append(_type_name(_text(each)) if as_types else _plain_name(_declared(each)))
    path = ".".join(part for part in parts if part)
    return path[:_MAX_NAME_CHARS], names[0].start_point.row


def _declared(node: Node) -> str:
    """The identifier under C's nested declarators."""
    while True:
        deeper = node.child_by_field_name("declarator")
        if deeper is None and node.type in ("reference_declarator", "parenthesized_declarator"):
            deeper = node.named_children[-1] if node.named_children else None
        if deeper is None:
            return _text(node)
        node = deeper


def _text(node: Node) -> str:
    return (node.text or b"")[: 8 * _MAX_NAME_CHARS].decode("utf-8", "replace")


def _plain_name(text: str) -> str:
    """A name as a dotted path: `ns::Class<T>::method` is `ns.Class.method`."""
    if "operator" not in text:
        text = _without_arguments(text)
    text = " ".join(text.replace("::", ".").replace("\\", ".").replace(",", " ").split())
    if text[:1] in _QUOTES and text[:1] == text[-1:]:
        text = text[1:-1]
    text = text.removeprefix(":").removeprefix("#")
    if text[:1] == "(" and text[-1:] == ")":  # A Haskell operator.
        text = text[1:-1]
    text = _OUTSIDE.sub("", text).replace(".prototype.", ".").replace("?.", ".")
    return re.sub(r"(?<=\w):(?=\w)", ".", text).strip(".")


def _type_name(text: str) -> str:
    """The outermost named type: of `*List[K]`, `&'a mut Vec<T>` and `(Maybe a)` the first word."""
    text = _LIFETIME.sub("", _without_arguments(text)).replace("::", ".")
    match = _TYPE.search(text)
    return match[1].strip(".") if match else ""


def _without_arguments(text: str) -> str:
    while (shorter := _ARGUMENTS.sub("", text)) != text:
        text = shorter
    return text


def _borders(tree: Tree, lines: Sequence[str], above: set[int]) -> dict[int, int]:
    """Rows on which a node begins, with its depth; not those that a comment above belongs to."""
    depths: dict[int, int] = {}
    todo: list[tuple[Node, int]] = [(tree.root_node, 0)]
    while todo:
        node, depth = todo.pop()
        head = node.start_point.row
        parts = node.named_children
        # What begins with its first part has no head: a block, as opposed to a function.
        below_head = _BELOW_HEAD if parts and parts[0].start_byte > node.start_byte else 0
        for child in parts:
            row = child.start_point.row
            if row > head and not child.type.endswith("end_tag"):
                cost = depth + below_head
                below_head = 0
                if cost < depths.get(row, _NO_BORDER) and _begins_its_line(child, lines):
                    depths[row] = cost
            if child.end_point.row > row and not _ONE_PIECE.search(child.type):
                todo.append((child, depth + 1))
    return {row: depth for row, depth in depths.items() if row - 1 not in above}
