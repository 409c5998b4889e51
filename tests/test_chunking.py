"""How files are cut: nothing is lost, definitions stay whole, chunks know what they are."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.ingestion.chunking import MAX_CHARS, MERGE_CHARS, chunk_file
from backend.ingestion.files import decode
from backend.ingestion.skipping import MAX_LINE_CHARS
from backend.ingestion.syntax import read_syntax
from backend.types import Chunk


def cut(text: str, path: str = "module.py") -> list[Chunk]:
    return chunk_file(text, source="dir:/project", path=path, package="project")


def outline(chunks: Sequence[Chunk]) -> list[tuple[str, str, int, int]]:
    return [(one.kind, one.symbol, one.start_line, one.end_line) for one in chunks]


def body(lines: int, *, indent: int = 4) -> str:
    """Statements that are too long together to be merged with a neighbour."""
    return "".join(
        f"{' ' * indent}value_{i} = compute_the_value_of(number={i})\n" for i in range(lines)
    )


def assert_covers_every_line_once(text: str, chunks: Sequence[Chunk]) -> None:
    lines = text.split("\n")
    after = 0
    for one in chunks:
        assert one.start_line > after, "in file order, without overlap"
        assert one.text == "\n".join(lines[one.start_line - 1 : one.end_line]), "exact lines"
        assert one.text.strip()
        between = lines[after : one.start_line - 1]
        assert not any(line.strip() for line in between), "only blank stretches are dropped"
        after = one.end_line
    assert not any(line.strip() for line in lines[after:])
    assert len({one.id for one in chunks}) == len(chunks)


def _real_files() -> list[Path]:
    """Python, stubs, C headers, scripts and docs that every test environment has."""
    folders = [Path(json.__file__).parent, Path(logging.__file__).parent]
    for name in ("qdrant_client", "onnxruntime", "numpy", "markdown_it", "pip"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        folders.append(Path(spec.origin).parent)
    suffixes = {".py", ".pyi", ".h", ".md", ".rst", ".js", ".css", ".toml", ".pyx", ".c"}
    files = [path for folder in folders for path in sorted(folder.rglob("*"))]
    return [path for path in files if path.suffix in suffixes][::6]


def test_every_line_of_real_files_is_covered_exactly_once() -> None:
    files = _real_files()
    assert len(files) > 150
    for path in files:
        text = decode(path.read_bytes())
        assert text is not None
        if any(len(line) > MAX_LINE_CHARS for line in text.split("\n")):
            continue  # Not indexed.
        chunks = cut(text, path.name)
        assert_covers_every_line_once(text, chunks)
        longest = max((len(line) for line in text.split("\n")), default=0)
        for one in chunks:
            assert len(one.text) <= max(MAX_CHARS, longest), path


LANGUAGES = {
    "a.py": ("class Shop:\n    def total(self):\n        return 1\n", ("class", "Shop")),
    "a.js": ("class Shop {\n  total() { return 1 }\n}\n", ("class", "Shop")),
    "f.mjs": ("export async function total(cart) {\n  return 1\n}\n", ("function", "total")),
    "a.ts": ("export interface Shop {\n  total: number\n}\n", ("class", "Shop")),
    "f.tsx": ("function Cart(p: P) {\n  return <b>{p.n}</b>\n}\n", ("function", "Cart")),
    "a.go": (
        "package a\n\nfunc (s *Shop) Total() int {\n\treturn 1\n}\n",
        ("method", "Shop.Total"),
    ),
    "t.go": ("type Shop struct {\n\tN int\n}\n", ("class", "Shop")),
    "a.rs": ("impl Shop {\n    fn total(&self) -> u8 { 1 }\n}\n", ("class", "Shop")),
    "f.rs": ("/// Sums.\npub fn total() -> u8 {\n    1\n}\n", ("function", "total")),
    "A.java": ("public class Shop {\n  int total() { return 1; }\n}\n", ("class", "Shop")),
    "a.c": ("static int *total(int n)\n{\n  return 0;\n}\n", ("function", "total")),
    "a.cpp": ("template <class T>\nclass Shop {\n  T total();\n};\n", ("class", "Shop")),
    "A.cs": ("public class Shop {\n  int Total() { return 1; }\n}\n", ("class", "Shop")),
    "a.php": ("<?php\nfunction total($cart) {\n  return 1;\n}\n", ("function", "total")),
    "a.rb": ("module Shop\n  def total\n    1\n  end\nend\n", ("module", "Shop")),
    "a.kt": ("fun total(n: Int): Int {\n  return 1\n}\n", ("function", "total")),
    "a.swift": ("func total(n: Int) -> Int {\n  return 1\n}\n", ("function", "total")),
    "a.scala": ("object Shop {\n  def total: Int = 1\n}\n", ("class", "Shop")),
    "a.sh": ("total() {\n  echo 1\n}\n", ("function", "total")),
    "a.lua": ("function total(n)\n  return 1\nend\n", ("function", "total")),
    "a.hs": ("total :: Int -> Int\ntotal n = 1\n", ("function", "total")),
    "a.proto": ("message Shop {\n  int32 total = 1;\n}\n", ("class", "Shop")),
}


@pytest.mark.parametrize("path", LANGUAGES)
def test_definitions_are_named_in_every_language(path: str) -> None:
    text, expected = LANGUAGES[path]
    chunks = cut(text, path)

    assert_covers_every_line_once(text, chunks)
    assert expected in [(one.kind, name) for one in chunks for name in one.symbol.split(", ")]


def test_a_class_too_long_for_one_chunk_is_cut_into_its_methods() -> None:
    text = f"class Client:\n    '''Talks.'''\n\n    def send(self):\n{body(25, indent=8)}\n"
    text += f"    def receive(self):\n{body(25, indent=8)}"
    chunks = cut(text)

    assert_covers_every_line_once(text, chunks)
    assert outline(chunks) == [
        ("class", "Client", 1, 2),
        ("method", "Client.send", 4, 29),
        ("method", "Client.receive", 31, 56),
    ]


def test_a_function_too_long_for_one_chunk_is_split_and_every_part_keeps_its_name() -> None:
    text = f"def fill():\n{body(120)}"
    chunks = cut(text)

    assert len(chunks) >= 3
    assert {(one.kind, one.symbol) for one in chunks} == {("function", "fill")}
    assert all(MAX_CHARS / 2 - 100 < len(one.text) <= MAX_CHARS for one in chunks[:-1])
    assert_covers_every_line_once(text, chunks)


def test_a_long_function_is_cut_between_its_paragraphs() -> None:
    text = f"def fill():\n{body(20)}\n{body(20)}"

    assert [one.start_line for one in cut(text)] == [1, 23]


def test_small_functions_share_a_chunk_that_is_named_by_all_of_them() -> None:
    (one,) = cut("def a():\n    return 1\n\n\ndef b():\n    return 2\n")

    assert (one.kind, one.symbol, one.start_line, one.end_line) == ("function", "a, b", 1, 6)


def test_small_methods_share_a_chunk_that_is_named_by_all_of_them() -> None:
    getters = "".join(f"    def get_{i}(self):\n        return self.{i}\n\n" for i in range(60))
    chunks = cut(f"class Row:\n{getters}")
    names = [name for one in chunks for name in one.symbol.split(", ")]

    assert names == ["Row", *(f"Row.get_{i}" for i in range(60))]
    assert 1 < len(chunks) < 10
    assert all(len(one.text) <= MERGE_CHARS for one in chunks)


def test_small_methods_with_long_names_are_named_by_their_class_alone() -> None:
    long = "a_name_that_is_long_enough_to_fill_most_of_a_line_on_its_own"
    getters = "".join(f"    def {long}_{i}(self):\n        return 1\n\n" for i in range(40))
    chunks = cut(f"class Row:\n{getters}")

    assert {one.symbol for one in chunks} == {"Row"}
    assert all(len(one.defines.split()) > 2 for one in chunks), "which names it has is still told"


def test_decorators_and_comments_right_above_belong_to_the_definition() -> None:
    text = dedent("""\
        import os
        X = 1  # about X

        # Sends one batch.
        # Retries on failure.
        @retry(5)
        @traced
        def send():
        """) + body(20)
    chunks = cut(text)

    assert outline(chunks) == [("module", "", 1, 2), ("function", "send", 4, 28)]


def test_a_comment_behind_code_stays_with_that_code() -> None:
    text = f"x = 1  # the number\ndef send():\n{body(20)}"

    assert outline(cut(text))[0] == ("module", "", 1, 1)


def test_sections_of_markdown_are_named_by_their_headings() -> None:
    text = dedent("""\
        Preface.

        # Install

        With pip.

        ```python
        # not a heading
        ```

        ## GPU *fast*
        Drivers.

        Usage
        =====
        Run it.
        """)
    chunks = cut(text, "README.md")

    assert_covers_every_line_once(text, chunks)
    assert outline(chunks) == [
        ("section", "", 1, 1),
        ("section", "Install", 3, 9),
        ("section", "Install > GPU fast", 11, 12),
        ("section", "Usage", 14, 16),
    ]


def test_sections_of_restructured_text_are_named_by_their_titles() -> None:
    text = "=====\nGuide\n=====\n\nIntro.\n\nSetup\n-----\nSteps.\n\nUse\n---\nRun.\n"

    assert outline(cut(text, "guide.rst")) == [
        ("section", "Guide", 1, 5),
        ("section", "Guide > Setup", 7, 9),
        ("section", "Guide > Use", 11, 13),
    ]


def test_sections_of_asciidoc_are_named_and_listings_are_not_sections() -> None:
    text = "= Guide\n\n== Setup\n----\n== not one\n----\n== Use\nRun.\n"

    assert [one[1] for one in outline(cut(text, "g.adoc"))] == [
        "Guide",
        "Guide > Setup",
        "Guide > Use",
    ]


def test_titles_of_asciidoc_may_be_underlined_and_blocks_are_not_titles() -> None:
    text = (
        "shop(1)\n=======\n\nNAME\n----\nshop - sells\n\n[[run]]\n== Run ==\n"
        "\n.Sh\n----\n== a\n----\n"
        "\n[sh]\n----\nB\n----\n\nLast words\nSold\n----\n== b\n----\n"
    )

    assert [one[1] for one in outline(cut(text, "shop.adoc"))] == [
        "shop(1)",
        "shop(1) > NAME",
        "shop(1) > Run",
    ]


def test_a_wheels_readme_lies_behind_the_headers_of_its_metadata() -> None:
    text = "Metadata-Version: 2.1\nName: shop\n# no heading: 1\n\n# Shop\n\nSells.\n"
    headers, readme = cut(text, "shop-1.0.dist-info/METADATA")

    assert (headers.symbol, headers.start_line, headers.end_line) == ("", 1, 3)
    assert (readme.symbol, readme.start_line, readme.language) == ("Shop", 5, "markdown")


def test_a_file_without_definitions_is_text() -> None:
    (one,) = cut("key: value\nother: 2\n", "config.yaml")

    assert (one.kind, one.symbol, one.language) == ("text", "", "yaml")


@pytest.mark.parametrize("text", ["", "\n", " \n\t\n\n"])
def test_a_blank_file_has_no_chunks(text: str) -> None:
    assert cut(text) == []


def test_ids_stay_when_lines_move() -> None:
    function = f"def send():\n{body(20)}"
    (before,) = cut(function)
    after = cut(f"import os\n\nX = 1\n\n\n{function}")

    assert before.id in {one.id for one in after}
    assert after[-1].start_line == 6


def test_ids_change_with_text_symbol_path_and_source() -> None:
    text = "def send():\n    pass\n"
    (one,) = cut(text)
    others = [
        *cut(text.replace("pass", "return")),
        *cut(f"class A:\n    {text.replace(chr(10), chr(10) + '    ')}"),
        *cut(text, "other.py"),
        *chunk_file(text, source="dir:/elsewhere", path="module.py", package="project"),
    ]

    assert len({one.id, *(other.id for other in others)}) == 5


def test_repeated_text_gets_distinct_ids_that_are_the_same_every_time() -> None:
    part = body(30).replace("value", "same") + "\n"
    text = "\n".join(f"def same():\n{part}" for _ in range(4))
    chunks = cut(text)

    assert len({one.id for one in chunks}) == len(chunks) >= 4
    assert [one.id for one in chunks] == [one.id for one in cut(text)]


HOSTILE = {
    "deep.py": "\n".join(" " * depth + f"def f{depth}():" for depth in range(400)),
    "deep.js": "function a() {\n" * 3000 + "}\n" * 3000,
    "brackets.py": "(\n" * 50_000,
    "line.js": "x" * 10_000_000,
    "one_line_of_functions.js": "function f(){};" * 5000,
    "wide.py": "*\n" * 100_000,
    "chain.py": "a" + "(1)" * 30_000,
    "stars.c": "int " + "*" * 20_000 + "f() { return 0; }",
    "brackets.md": "[" * 20_000,
    "quotes.md": "> " * 20_000,
    "underlines.rst": "ab\n==\n===\nabc\n===\n" * 2000,
    "comments.py": "# c\ndef f(): pass\n" * 5000,
    "unfinished.py": 'def f(:\n  """',
    "nul.py": "x = '\0'\n",
    "lone_returns.py": "a = 1\rb = 2\r",
    "astral.py": "def \U0001d523(): return '🎉'\n" * 100,
    "broken.py": "def \ufffd\ufffd(): pass\n",
}


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_files_are_covered_too(path: str) -> None:
    assert_covers_every_line_once(HOSTILE[path], cut(HOSTILE[path], path))


def test_a_line_longer_than_a_chunk_is_kept_whole() -> None:
    (one,) = cut("x" * 10_000_000, "long.js")

    assert len(one.text) == 10_000_000


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
        (b"\xef\xbb\xbfx = 1\n", "x = 1\n"),
        ("x = 'é'\n".encode("utf-16"), "x = 'é'\n"),
        (b"\xfe\xff" + "x = 'é'\n".encode("utf-16-be"), "x = 'é'\n"),
        (b"caf\xe9 = 1\n", "caf\ufffd = 1\n"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"", ""),
    ],
    ids=["CRLF and CR", "BOM", "UTF-16", "UTF-16 BE", "Latin-1", "surrogate", "empty"],
)
def test_bytes_become_text_with_plain_line_ends(data: bytes, text: str) -> None:
    assert decode(data) == text


@pytest.mark.parametrize("data", [b"\x7fELF\0\0", b"text\0", "x".encode("utf-32")])
def test_binary_data_is_not_text(data: bytes) -> None:
    assert decode(data) is None


def test_nesting_that_stalls_parsers_is_cut_as_text() -> None:
    """27,000 open braces take the Scala grammar 45 seconds; the guard looks before it parses."""
    text = "class A {\n" * 27_000

    assert read_syntax(text, "scala").definitions == ()
    assert read_syntax("class A {\n" * 20 + "}\n" * 20, "scala").definitions


SHOPS = {path.name: path.read_text() for path in (Path(__file__).parent / "languages").iterdir()}
_PIECES = [line for text in SHOPS.values() for line in text.split("\n")]
_ODD = ["\t", "\f", "\v", "\u2028", "\x85", "\ufeff", "\ufffd", "\U0001f389", "/*", "*/", "<<EOF"]
_ODD += ['"""', "{", "}", "(", ")", "EOF", "---", "===", "```", "# a", "#" * 80, "{" * 9, "$" * 900]


@settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    lines=st.lists(st.sampled_from(_PIECES + _ODD) | st.text(max_size=30), max_size=120),
    name=st.sampled_from([*SHOPS, "a.md", "a.rst", "a.adoc", "a.txt", "a.yaml", "a.json", "a.sql"]),
)
def test_whatever_stands_in_a_file_every_line_is_covered_exactly_once(
    lines: list[str], name: str
) -> None:
    text = "\n".join(lines).replace("\r", "\n").encode("utf-8", "replace").decode()

    assert_covers_every_line_once(text, cut(text, name))


@pytest.mark.parametrize("name", SHOPS)
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_file_cut_off_in_the_middle_is_covered_too(name: str, keep: float) -> None:
    text = SHOPS[name] * 5
    text = text[: int(len(text) * keep)]

    assert_covers_every_line_once(text, cut(text, name))


def test_the_names_of_a_file_are_each_told_by_one_chunk() -> None:
    text = "LIMIT = 3\n" + "".join(f"def f{i}():\n{body(12)}\n" for i in range(6))
    told = [name for one in cut(text) for name in one.defines.split()]

    assert told == ["LIMIT", *(f"f{i}" for i in range(6))]


def test_only_the_part_where_a_definition_begins_defines_it() -> None:
    first, *others = cut(f"def fill():\n{body(120)}")

    assert first.defines == "fill"
    assert {one.defines for one in others} == {""}
    assert {one.symbol for one in others} == {"fill"}


def test_an_extension_defines_its_members_and_not_its_type() -> None:
    (one,) = cut("impl Cart {\n    fn total(&self) -> u8 { 1 }\n}\n", "a.rs")

    assert (one.kind, one.symbol, one.defines) == ("class", "Cart", "Cart.total")


def test_a_namespace_is_cut_into_the_types_in_it() -> None:
    text = "namespace shop {\n\n"
    text += "".join(f"class C{i} {{\n{'  int number_of_things;' * 26}\n}};\n\n" for i in range(2))
    text += "}  // namespace shop\n"

    assert outline(cut(text, "a.cpp")) == [
        ("class", "shop.C0", 1, 5),
        ("class", "shop.C1", 7, 11),
    ]


def test_a_remark_above_a_blank_line_goes_with_what_it_is_about() -> None:
    text = f"def receive():\n{body(20)}\n# --- Sending ---\n\ndef send():\n{body(20)}"

    assert outline(cut(text)) == [("function", "receive", 1, 21), ("function", "send", 23, 45)]


def test_a_line_between_definitions_is_not_a_chunk_of_its_own() -> None:
    text = f"def send():\n{body(20)}\nsend_all = send\n\n\ndef receive():\n{body(20)}"

    assert outline(cut(text)) == [("function", "send", 1, 23), ("function", "receive", 26, 46)]
