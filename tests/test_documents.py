"""Documents that arrive cut: one line of JSON, one chunk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.errors import InvalidSource
from backend.ingestion.chunking import MAX_CHARS, chunks_of
from backend.ingestion.files import Skipped, text_files
from backend.ingestion.sources import documents
from backend.ingestion.sources.parse import parse_source
from backend.ingestion.sources.source import Source
from backend.types import Chunk


def opened(folder: Path, rows: list[Any], options: str = "") -> Source:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "docs.jsonl").write_text("\n".join(lines), "utf-8")
    return parse_source(f"jsonl:{folder}/docs.jsonl{options}", downloads=folder)


def read(source: Source) -> tuple[list[Chunk], dict[str, list[str]]]:
    skipped = Skipped()
    chunks = [
        chunk
        for file in text_files(source.files(skipped), skipped)
        for chunk in chunks_of(file, source=source.id, package=source.package)
    ]
    return chunks, skipped.examples


def test_a_document_is_a_chunk_as_it_is(tmp_path: Path) -> None:
    row = {
        "text": "    def total(cart):\n        return sum(cart)\n",
        "path": "shop/cart.py",
        "symbol": "Cart.total",
        "kind": "method",
        "start_line": 7,
    }
    (chunk,), _ = read(opened(tmp_path, [row]))

    assert (chunk.text, chunk.path, chunk.symbol) == (row["text"], "shop/cart.py", "Cart.total")
    assert (chunk.start_line, chunk.end_line) == (7, 9)
    assert (chunk.language, chunk.kind, chunk.package) == ("python", "method", "docs")


def test_fields_of_other_names_are_mapped(tmp_path: Path) -> None:
    options = "?text=body&path=file&symbol=title&language=lang&start_line=line"
    row = {"body": "x", "file": "a", "title": "B", "lang": "go", "line": "3", "text": "not this"}
    source = opened(tmp_path, [row], options)
    (chunk,), _ = read(source)

    assert (chunk.text, chunk.path, chunk.symbol) == ("x", "a", "B")
    assert (chunk.language, chunk.start_line) == ("go", 3)


def test_the_id_opens_the_same_source_again(tmp_path: Path) -> None:
    folder = tmp_path / "what? 100% & more"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"body": "x"}')
    link = "https://host/{path}?a=b#L{start}"
    spec = documents.Documents(folder / "a.jsonl", {"text": "body", "link": link}).id
    again = parse_source(spec, downloads=tmp_path)

    assert again.id == spec
    assert read(again)[0][0].text == "x"
    assert again.origin({}).link == link


def test_without_paths_each_document_has_one_by_its_line(tmp_path: Path) -> None:
    chunks, _ = read(opened(tmp_path, [{"text": "same"}, "", {"text": "same"}]))

    assert [chunk.path for chunk in chunks] == ["docs#1", "docs#3"]
    assert len({chunk.id for chunk in chunks}) == 2


def test_documents_of_one_path_are_one_file(tmp_path: Path) -> None:
    rows = [
        {"path": "a.py", "text": "1"},
        {"path": "a.py", "text": "2"},
        {"path": "b", "text": "3"},
    ]
    skipped = Skipped()
    source = opened(tmp_path, rows)
    files = list(text_files(source.files(skipped), skipped))

    assert [(file.path, len(file.documents)) for file in files] == [("a.py", 2), ("b", 1)]
    changed = opened(tmp_path, [rows[0], {**rows[1], "text": "two"}, rows[2]])
    again = list(text_files(changed.files(skipped), skipped))
    assert [file.digest == other.digest for file, other in zip(files, again, strict=True)] == [
        False,
        True,
    ]


def test_another_mapping_changes_what_a_file_is(tmp_path: Path) -> None:
    """Or an update would keep the chunks that the mapping before made."""
    row = {"text": "a", "body": "b"}
    skipped = Skipped()
    one, other = (
        next(text_files(opened(tmp_path, [row], options).files(skipped), skipped))
        for options in ("", "?text=body")
    )

    assert one.digest != other.digest


def test_a_path_that_comes_back_is_refused(tmp_path: Path) -> None:
    rows = [{"path": path, "text": path} for path in ("a", "b", "a")]
    with pytest.raises(InvalidSource, match=r"Line 3 of docs\.jsonl comes back to 'a'.*Sort"):
        read(opened(tmp_path, rows))


def test_documents_longer_than_a_chunk_stay_whole_and_the_source_says_so(tmp_path: Path) -> None:
    long = "word " * MAX_CHARS
    source = opened(tmp_path, [{"text": long}, {"text": "short"}])
    chunks, _ = read(source)

    assert chunks[0].text == long
    assert source.origin({}).note.startswith("1 of 2 documents are longer than")
    source = opened(tmp_path, [{"text": "short"}])
    read(source)
    assert source.origin({}).note == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not a line of JSON"),
        ("[1]", "not a line of JSON"),
        ("\x00", "not a line of JSON"),
        ("[" * 100_000, "not a line of JSON"),
        ('{"text": ' + "1" * 5000 + "}", "not a line of JSON"),
        ("{}", "document without 'text'"),
        ('{"text": " "}', "document without 'text'"),
        ('{"text": null}', "document without 'text'"),
        ('{"text": ["a"]}', "document without 'text'"),
        (json.dumps({"text": "x" * 2_000_001}), "larger than 2 MB"),
        (json.dumps({"text": "\u00e9" * 2_100_000}), "larger than 2 MB"),
    ],
    ids=range(11),
)
def test_a_line_that_is_no_document_is_counted_and_the_next_is_read(
    tmp_path: Path, line: str, reason: str
) -> None:
    chunks, skipped = read(opened(tmp_path, [line, {"text": "x"}]))

    assert skipped == {reason: ["line 1"]}
    assert [chunk.path for chunk in chunks] == ["docs#2"]


def test_values_that_nothing_can_take_are_made_harmless(tmp_path: Path) -> None:
    row = {
        "text": "a\0b\ud800\r\nc",
        "path": "../\x1b[31m/a.py",
        "symbol": "x\n" * 500,
        "kind": "spell",
        "language": 5,
        "start_line": -3,
    }
    (chunk,), _ = read(opened(tmp_path, [row]))

    assert chunk.text == "a\ufffdb?\nc"
    assert chunk.path == "../\ufffd[31m/a.py"
    assert len(chunk.symbol) == 300
    assert (chunk.kind, chunk.language, chunk.start_line) == ("text", "5", 1)
    assert str(chunk).encode()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("?body=text", "'body' is none of its options: text, path"),
        ("?text", "cannot be read"),
        ("?text=", "cannot be read"),
        ("?text=a&text=b", "every option needs one value"),
        ("?link=javascript:alert(1)", "link is not of the form https"),
        ("?link=https://host/{nothing}", "link is not of the form https"),
    ],
)
def test_options_are_checked(tmp_path: Path, options: str, told: str) -> None:
    with pytest.raises(InvalidSource, match=r"Name a file and its fields") as error:
        opened(tmp_path, [], options)
    assert told in str(error.value)


def test_memory_is_not_filled_by_one_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_GROUP_BYTES", 1000)
    rows = [{"path": "a", "text": "x" * 100}] * 20
    with pytest.raises(InvalidSource, match="Give each document a path of its own"):
        read(opened(tmp_path, rows))
