"""Every language's query finds what its grammar calls by other names: one small shop in each."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest
from tree_sitter import Query
from tree_sitter_language_pack import get_language

from backend.ingestion import syntax
from backend.ingestion.languages import language_in
from backend.ingestion.syntax import Definition, parse, read_syntax

SHOPS = Path(__file__).parent / "languages"
GRAMMARS = Path(syntax.__file__).parent / "grammars"

OUTLINES = {
    "shop.py": """
        function sweep
        class Cart
        method Cart.total
        function Cart.total.one
        class Cart.Item
        method Cart.Item.load
        names LIMIT Cart.MAX_ITEMS
        """,
    "shop.js": """
        class Cart
        method Cart.total
        method Cart.handle
        method Cart.secret
        function sum
        function open
        module api
        method api.get
        method api.post
        method Cart.clear
        function a cart
        function a cart.is empty
        names LIMIT
        """,
    "shop.ts": """
        class Payable
        method Payable.pay
        class Price
        class Colour
        module Shop.Inner
        class Shop.Inner.Till
        method Shop.Inner.Till.open
        class Cart
        method Cart.pay
        method Cart.clear
        function find
        function total
        """,
    "Cart.tsx": """
        function CartView
        function App
        """,
    "shop.go": """
        class Cart
        method Cart.Total
        class List
        method list.Get
        function Open
        names Limit List.Get
        """,
    "shop.rs": """
        class Cart
        method Cart.total
        method Cart.fmt
        class Payable
        method Payable.pay
        module inner
        function inner.open
        function price
        names LIMIT
        """,
    "Shop.java": """
        class Shop
        method Shop.Shop
        method Shop.total
        class Shop.Colour
        method Shop.Colour.paint
        class Shop.Price
        class Shop.Payable
        method Shop.Payable.pay
        names Shop.MAX_ITEMS
        """,
    "shop.c": """
        function MAX
        class cart_t
        class colour
        function cart_total
        class pay_fn
        names LIMIT cart_t.cart cart_open
        """,
    "shop.cpp": """
        module shop.inner
        class shop.inner.Cart
        method shop.inner.Cart.~Cart
        method shop.inner.Cart.total
        method shop.inner.Cart.operator==
        class shop.inner.Colour
        method shop.inner.Cart.size
        function open
        names shop.inner.Cart.Cart
        """,
    "Shop.cs": """
        module Shop.Inner
        class Shop.Inner.Cart
        method Shop.Inner.Cart.Cart
        method Shop.Inner.Cart.Total
        method Shop.Inner.Cart.Sum
        function Shop.Inner.Cart.Sum.Local
        class Shop.Inner.IPayable
        method Shop.Inner.IPayable.Pay
        class Shop.Inner.Price
        names Shop.Inner.Cart.Limit
        """,
    "shop.php": """
        module App.Shop
        class App.Shop.Cart
        method App.Shop.Cart.total
        class App.Shop.Payable
        method App.Shop.Payable.pay
        function App.Shop.open
        names App.Shop.LIMIT
        """,
    "shop.rb": """
        module Shop
        class Shop.Cart
        method Shop.Cart.total
        method Shop.Cart.open
        method Shop.Cart.clear!
        class Shop.Price
        method Shop.Price.euros
        names Shop.LIMIT
        """,
    "Shop.kt": """
        class Cart
        class Cart.Companion
        method Cart.Companion.open
        method Cart.total
        method List.second
        class Till
        method Till.ring
        class Payable
        method Payable.pay
        class Cents
        names LIMIT
        """,
    "Shop.swift": """
        class Cart
        method Cart.init
        method Cart.total
        method Cart.size
        class Payable
        method Payable.pay
        method Cart.pay
        class Colour
        function open
        names limit
        """,
    "Shop.scala": """
        class Cart
        method Cart.total
        method Cart.size
        method Cart.open
        class Payable
        method Payable.pay
        names Cart.Limit
        """,
    "shop.sh": """
        function open_shop
        function close_shop
        names LIMIT
        """,
    "shop.lua": """
        method Cart.total
        method Cart.open
        function clear
        method Cart.add
        names Cart
        """,
    "shop.zig": """
        class Cart
        method Cart.total
        class Cart.Colour
        function List
        function List.get
        function a cart is empty
        names limit
        """,
    "Shop.hs": """
        class Cart
        function total
        class Payable
        method Payable.pay
        class Payable.Cart
        method Payable.Cart.pay
        function <+>
        names Cart.Cart Cart.Empty
        """,
    "shop.ex": """
        module Shop.Cart
        function Shop.Cart.defstruct
        function Shop.Cart.total
        function Shop.Cart.clear
        function Shop.Cart.price
        class Enumerable.Shop.Cart
        method Enumerable.Shop.Cart.count
        names Shop.Cart.t
        """,
}

"""Kind and path of every definition; then, after `names`, what is defined without being cut out."""


def read(name: str) -> tuple[list[str], syntax.Syntax]:
    text = (SHOPS / name).read_text()
    language = language_in(name, text)
    assert language is not None
    return text.split("\n"), read_syntax(text, language)


def flat(definitions: Sequence[Definition]) -> Iterator[Definition]:
    for one in definitions:
        yield one
        yield from flat(one.inner)


@pytest.mark.parametrize("name", OUTLINES)
def test_definitions_are_found_and_named(name: str) -> None:
    _, found = read(name)
    *expected, last = dedent(OUTLINES[name]).strip().split("\n")
    names = last.removeprefix("names ").split() if last.startswith("names ") else []
    expected += [] if names else [last]
    outline = list(dict.fromkeys(f"{one.kind} {one.symbol}" for one in flat(found.definitions)))
    symbols = {one.symbol for one in flat(found.definitions)}

    assert outline == expected
    assert list(dict.fromkeys(name for _, name in found.names if name not in symbols)) == names


@pytest.mark.parametrize("name", sorted(set(OUTLINES) - {"Cart.tsx"}))
def test_what_is_written_above_a_definition_belongs_to_it(name: str) -> None:
    """In every shop one member has a remark right above, some with an attribute in between."""
    lines, found = read(name)
    remarks = ("In cents", "in cents", "Opens")
    begins = [lines[one.start] for one in flat(found.definitions)]

    assert any(remark in line for line in begins for remark in remarks)


@pytest.mark.parametrize("name", OUTLINES)
def test_names_stand_on_the_line_that_they_are_told_to(name: str) -> None:
    lines, found = read(name)
    for row, symbol in found.names:
        last = symbol.rpartition(".")[2]
        assert last == "Companion" or last.lower() in lines[row].lower(), symbol


@pytest.mark.parametrize("path", sorted(GRAMMARS.glob("*.scm")), ids=lambda path: path.stem)
def test_every_query_fits_a_grammar_that_lies_in_the_installed_wheel(path: Path) -> None:
    """Later releases of the pack download grammars when they are first asked for; this one must
    not."""
    spec = find_spec("tree_sitter_language_pack")
    assert spec is not None
    assert spec.origin is not None
    language = {"ecmascript": "javascript"}.get(path.stem, path.stem)
    bindings = {file.name.partition(".")[0] for file in Path(spec.origin).parent.glob("bindings/*")}
    part = [*syntax.parts_of(language)]

    assert language in bindings or f"tree_sitter_{language}" in sys.modules or language == "csharp"
    assert path.stem in part or path.stem == "ecmascript"
    source = "\n".join((GRAMMARS / f"{name}.scm").read_text() for name in part)
    assert Query(get_language(language), source).pattern_count > 0  # type: ignore[arg-type]


def test_macros_do_not_hide_what_they_stand_before() -> None:
    text = "SHOP_BEGIN_NAMESPACE\nclass SHOP_API Cart {\n  void f();\n};\nSHOP_END_NAMESPACE\n"

    assert [one.symbol for one in read_syntax(text, "cpp").definitions] == ["Cart"]


def test_flow_types_are_understood() -> None:
    text = "/** @flow strict */\nexport class Cart {\n  total(items: Array<number>): number {}\n}\n"

    assert [one.symbol for one in flat(read_syntax(text, "javascript").definitions)] == [
        "Cart",
        "Cart.total",
    ]


OVERLOADS = """
    export interface Cart<in Item, out Price = number>
      extends Base {
      readonly size: number
      [key: string]: unknown
    }
    export const add: {
      /** Later. */
      <A>(item: A): (cart: Cart<A>) => Cart<A>
      <A>(cart: Cart<A>, item: A): Cart<A>
    } = dual(2, (cart, item) => cart)
    export declare const open: (id: string) => import("./till").Till<string>
    export function close() {}
    """


@pytest.mark.parametrize("language", ["typescript", "tsx"])
def test_typescript_is_read_to_its_end_without_semicolons(language: str) -> None:
    found = read_syntax(dedent(OVERLOADS), language)

    assert [name for _, name in found.names] == ["Cart", "add", "open", "close"]
    assert not parse(dedent(OVERLOADS), language).root_node.has_error


def test_both_branches_of_a_condition_are_read_in_haskell() -> None:
    found = read_syntax("#if A\nf :: Int\nf = 1\n#else\ng :: Int\ng = 2\n#endif\n", "haskell")

    assert [name for _, name in found.names] == ["f", "f", "g", "g"]


@pytest.mark.parametrize(
    ("language", "text", "names"),
    [
        ("haskell", "foldl' :: Int\nfoldl' = 1\n", ["foldl'", "foldl'"]),
        ("typescript", "class A { 'x'() {} }", ["A", "A.x"]),
        ("go", "package p\ntype R interface {\n\tRead() int\n}\n", ["R", "R.Read"]),
        ("elixir", "defmodule A do\n  @callback f(a) :: b when b: c\nend\n", ["A", "A.f"]),
    ],
)
def test_names_are_those_that_the_language_knows(
    language: str, text: str, names: list[str]
) -> None:
    assert [name for _, name in read_syntax(text, language).names] == names


def test_statements_are_borders_and_lines_inside_of_strings_are_not() -> None:
    text = 'def f():\n    a = 1\n    b = """\n    c = 3\n    """\n    d = 4\n\n\nx = 5\n'
    borders = read_syntax(text, "python").borders

    assert set(borders) == {1, 2, 5, 8}
    assert borders[8] < borders[2] == borders[5] < borders[1], "a head stays with what it opens"


def test_a_language_without_grammar_has_no_syntax() -> None:
    assert read_syntax("a = 1", "template") == syntax.Syntax()


@pytest.mark.parametrize("text", ["*\n" * 100_000, "x = a" + ".b" * 5_000])
def test_trees_that_stall_queries_are_cut_without_them(text: str) -> None:
    """100,000 stars are one node with as many children; querying it took minutes."""
    assert read_syntax(text, "python").definitions == ()
    assert read_syntax("def f(): pass\n" + text, "python").names == ()
