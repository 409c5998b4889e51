"""Documents are cut along headings; what is read of HTML and notebooks is not what stands there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from textwrap import dedent
from typing import Any

from backend.embedding.bm25 import document_vector, query_vector
from backend.ingestion.chunking import MAX_CHARS, chunk_file
from backend.types import Chunk


def cut(text: str, path: str) -> list[Chunk]:
    chunks = chunk_file(text, source="dir:/project", path=path, package="project")
    lines = text.split("\n")
    for one in chunks:
        assert one.text == "\n".join(lines[one.start_line - 1 : one.end_line]), "exact lines"
    return chunks


def outline(chunks: Sequence[Chunk]) -> list[tuple[str, int, int]]:
    return [(one.symbol, one.start_line, one.end_line) for one in chunks]


PAGE = dedent("""\
    <!doctype html>
    <html>
    <head><title>Shop &amp; Co</title><style>
    b { color: red }
    </style></head>
    <body>
    <nav><ul><li><a href="/">Home</a></li></ul></nav>
    <h1>Welcome</h1>
    <p>We sell <b>bread</b> &lt;fresh&gt;.</p>
    <script>
    function buy() { return 1 }
    </script>
    <h2 id="x">Opening
     hours</h2>
    <p>Nine to five.
    Every day.</p>
    <footer>Imprint</footer>
    </body>
    </html>
    """)


def test_a_page_is_cut_along_its_headings() -> None:
    assert outline(cut(PAGE, "index.html")) == [
        ("", 1, 7),
        ("Welcome", 8, 12),
        ("Welcome > Opening hours", 13, 19),
    ]


def test_of_a_page_its_words_and_scripts_are_read_without_markup_navigation_and_styles() -> None:
    assert [one.plain for one in cut(PAGE, "index.html")] == [
        "Shop & Co",
        "Welcome\nWe sell bread < fresh > .\nfunction buy() { return 1 }",
        "Opening\nhours\nNine to five.\nEvery day.",
    ]


def test_models_and_bm25_read_the_words_of_a_page_and_people_see_its_source() -> None:
    one = cut(PAGE, "index.html")[-1]

    assert "<" not in one.passage
    assert "<footer>" in one.text
    assert set(query_vector("five").indices) <= set(document_vector(one).indices)
    assert not set(query_vector("footer").indices) & set(document_vector(one).indices)


def test_what_says_nothing_is_not_a_chunk() -> None:
    style = "b { color: red }\n" * 500

    chunks = cut(f"<p>Bread</p>\n<style>\n{style}</style>\n<h1>Milk</h1>\n", "a.html")

    assert [(one.symbol, one.plain) for one in chunks] == [("", "Bread"), ("Milk", "Milk")]
    assert all(len(one.text) <= MAX_CHARS for one in chunks)


def notebook(*cells: dict[str, Any]) -> str:
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}, indent=1)


def markdown(*lines: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": [f"{line}\n" for line in lines]}


def code(*lines: str, outputs: Sequence[object] = ()) -> dict[str, Any]:
    source = [f"{line}\n" for line in lines]
    return {"cell_type": "code", "metadata": {}, "outputs": list(outputs), "source": source}


def test_cells_of_a_notebook_stand_under_the_headings_before_them() -> None:
    chunks = cut(
        notebook(
            code("import os"),
            markdown("# Shop", "", "What is sold."),
            code("a = 1"),
            markdown("## Pay", "In cents.", "### Later", "Not now."),
            code("b = 2"),
        ),
        "shop.ipynb",
    )

    assert [(one.symbol, one.plain) for one in chunks] == [
        ("", "import os"),
        ("Shop", "# Shop\n\nWhat is sold."),
        ("Shop", "a = 1"),
        ("Shop > Pay", "## Pay\nIn cents."),
        ("Shop > Pay > Later", "### Later\nNot now."),
        ("Shop > Pay > Later", "b = 2"),
    ]


def test_cells_of_an_old_notebook_are_read() -> None:
    cell = {
        "cell_type": "code",
        "input": ["def one():\n", "    pass"],
        "outputs": [{"png": "A" * 900}],
    }
    text = json.dumps({"worksheets": [{"cells": [cell]}], "nbformat": 3}, indent=1)
    (one,) = cut(text, "old.ipynb")

    assert (one.plain, one.defines) == ("def one():\n    pass", "one")


def test_lines_of_a_notebook_are_those_of_its_file() -> None:
    text = notebook(code('print("é")'))
    (one,) = cut(text, "a.ipynb")

    assert one.start_line == one.end_line == text[: text.index("print")].count("\n") + 1
    assert one.text.strip() == r'"print(\"\u00e9\")\n"'
    assert one.plain == 'print("é")'


def test_code_of_a_notebook_is_cut_along_its_syntax_and_named() -> None:
    body = [f"    value_{i} = compute_the_value_of({i})" for i in range(30)]
    text = notebook(code("%matplotlib inline", "def one():", *body, "def two():", *body))
    chunks = cut(text, "a.ipynb")

    assert [one.defines for one in chunks] == ["one", "two"]
    assert (chunks[1].plain or "").startswith("def two():")


def test_outputs_of_a_notebook_are_left_out() -> None:
    text = notebook(code("a", outputs=[{"data": {"image/png": "A" * 9000}}]), code("b"))

    assert [one.plain for one in cut(text, "a.ipynb")] == ["a", "b"]


def test_a_source_in_one_string_is_read_too() -> None:
    text = notebook({"cell_type": "code", "metadata": {}, "outputs": [], "source": "a = 1\nb = 2"})

    assert [one.plain for one in cut(text, "a.ipynb")] == ["a = 1\nb = 2"]


def test_what_is_not_a_notebook_is_cut_as_it_stands() -> None:
    for text in ("{}", "[1]", '{"cells": 3}', "not json", '{"cells": [{"source": 5}, 7]}'):
        assert "".join(one.text for one in cut(text, "a.ipynb")) == text


def test_front_matter_is_not_a_heading() -> None:
    text = "---\ntitle: Shop\n---\n\n# Install\n\nWith pip.\n"

    assert outline(cut(text, "a.md")) == [("", 1, 3), ("Install", 5, 7)]


def test_headings_that_a_readme_writes_as_html_count() -> None:
    text = '<h1 align="center">\n  <img src="x"> Shop\n</h1>\n\nIntro.\n\n## Install\n\nSteps.\n'

    assert outline(cut(text, "README.md")) == [("Shop", 1, 5), ("Shop > Install", 7, 9)]


def test_a_long_section_is_cut_between_its_blocks_and_not_inside_a_listing() -> None:
    listing = "```python\n" + "call(argument)\n\n" * 30 + "```\n"
    text = f"# Use\n\n{'Prose. ' * 120}\n\n{listing}\n{'More. ' * 120}\n"
    chunks = cut(text, "a.md")

    assert len(chunks) > 1
    assert all(len(one.text) <= MAX_CHARS for one in chunks)
    assert all(one.text.count("```") in (0, 2) for one in chunks)


def test_an_indented_title_and_a_table_of_restructured_text_are_told_apart() -> None:
    text = "=======\n Guide\n=======\n\n====  ====\nA     B\n====  ====\n1     2\n====  ====\n"

    assert [one.symbol for one in cut(text, "guide.rst")] == ["Guide"]


def test_text_is_cut_between_paragraphs() -> None:
    text = "\n\n".join(f"{'word ' * 100}\n{'word ' * 100}" for _ in range(4))
    chunks = cut(text, "notes.txt")

    assert [one.text.count("\n") for one in chunks] == [1] * 4
    assert {one.kind for one in chunks} == {"text"}
