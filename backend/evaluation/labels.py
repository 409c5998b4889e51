"""Labelled sets: which lines, or which documents, answer which query.

Two forms are read. *Spans* are a JSONL file; each line has `id`, `query`, `targets` and optionally
`category`; a target is `{"package", "path", "start_line", "end_line", "grade"}`, lines 1-based and
inclusive, grade 2 for an answer and 1 for what helps; other keys are notes. *BEIR* is a folder with
`corpus.jsonl`, `queries.jsonl` and `qrels/*.tsv` or `qrels.tsv`, each of them gzipped or not.

Source of BEIR: Thakur et al. 2021, arXiv:2104.08663.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NoReturn

from backend.errors import InvalidLabels
from backend.types import Chunk

MAX_BYTES = 200_000_000
"""Of one unpacked file of labels: hundreds of thousands of queries."""
MAX_CORPUS_BYTES = 10_000_000_000
MAX_GRADE = 10
"""The gain is 2^grade - 1; public sets end at 4."""
_TO_THE_END = 2**31
_SPLITS = ("test", "dev", "train")
_SPAN_KEYS = ("package", "path", "start_line", "end_line", "grade")
_UNREADABLE = (OSError, EOFError, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Lines that answer a query."""

    package: str
    """As filters name it; empty for a document of a BEIR set, whose `path` is its id."""
    path: str
    start_line: int
    end_line: int
    """1-based and inclusive."""
    grade: int
    """At least 1."""

    def matches(self, chunk: Chunk) -> bool:
        """Same file, overlapping lines."""
        return (
            chunk.path == self.path
            and self.package in ("", chunk.package)
            and chunk.start_line <= self.end_line
            and self.start_line <= chunk.end_line
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledQuery:
    """A query with all that answers it."""

    id: str
    text: str
    category: str
    """Empty when the set names none."""
    targets: tuple[Target, ...]
    """At least one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSet:
    """What an evaluation is measured with."""

    name: str
    queries: tuple[LabelledQuery, ...]
    """At least one."""
    notes: tuple[str, ...] = ()
    """What was left out, with counts."""
    corpus: Path | None = None
    """The documents of a BEIR set."""


def read_labels(path: Path) -> LabelledSet:
    """Read a BEIR folder, or a JSONL file of spans.

    Raises:
        InvalidLabels: There is nothing at `path`, or a line of it is not what it should be.
    """
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError):
        is_folder = is_file = False
    if is_folder:
        return _beir(path)
    if is_file:
        return _spans(path)
    raise InvalidLabels(
        f"There are no labels at {str(path)!r}.", fix="Name a JSONL file of spans or a BEIR folder."
    )


@contextmanager
def unpacked(corpus: Path, scratch: Path) -> Iterator[Path]:
    """The documents of a BEIR set as a plain file, unpacked into `scratch` if they have to be.

    Raises:
        InvalidLabels: The file is damaged, or holds more than `MAX_CORPUS_BYTES`.
    """
    if corpus.suffix != ".gz":
        yield corpus
        return
    scratch.mkdir(parents=True, exist_ok=True)
    # The same name every time: it is part of what the index knows of its source.
    plain = scratch / f"{blake2b(str(corpus.resolve()).encode(), digest_size=8).hexdigest()}.jsonl"
    try:
        _unpack(corpus, plain)
        yield plain
    finally:
        plain.unlink(missing_ok=True)


def _unpack(packed: Path, plain: Path) -> None:
    left = MAX_CORPUS_BYTES
    try:
        with gzip.open(packed) as source, plain.open("wb") as target:
            while part := source.read(1 << 20):
                left -= len(part)
                if left < 0:
                    _refuse(f"{packed} unpacks to more than a corpus may hold.", "Split the set.")
                target.write(part)
    except _UNREADABLE as exc:
        raise InvalidLabels(f"{packed} cannot be unpacked: {exc}.", fix="Check the file.") from exc


def _spans(path: Path) -> LabelledSet:
    queries: dict[str, LabelledQuery] = {}
    unjudged = 0
    for number, row in _rows(path):
        where = f"{path.name}, line {number}"
        id, text = _text(row, "id", where), _text(row, "query", where)
        if id in queries:
            _refuse(f"{where}: a second query has the id {id!r}.", "Give each its own id.")
        targets = row.get("targets")
        if not isinstance(targets, list):
            _refuse(f"{where}: targets is not a list.", "List the lines that answer the query.")
        found = tuple(_target(target, where) for target in targets)
        unjudged += not found
        category = "" if row.get("category") in (None, "") else _text(row, "category", where)
        queries[id] = LabelledQuery(id=id, text=text, category=category, targets=found)
    judged = tuple(query for query in queries.values() if query.targets)
    notes = [f"{unjudged} queries without a judgement were left out."] if unjudged else []
    return _labelled(path.name.split(".")[0], judged, notes)


def _target(target: Any, where: str) -> Target:
    if not isinstance(target, dict) or any(key not in target for key in _SPAN_KEYS):
        _refuse(f"{where}: a target lacks a key.", f"Each has {', '.join(_SPAN_KEYS)}.")
    package, path = _text(target, "package", where), _text(target, "path", where)
    start, end, grade = target["start_line"], target["end_line"], target["grade"]
    if not (_is_int(start) and _is_int(end) and 1 <= start <= end):
        _refuse(
            f"{where}: {path} has the lines {start!r} to {end!r}.",
            "Lines are whole numbers from 1; the last one is not before the first.",
        )
    if not (_is_int(grade) and 1 <= grade <= MAX_GRADE):
        _refuse(f"{where}: {path} has the grade {grade!r}.", "Grade 2 answers, grade 1 helps.")
    return Target(package=package, path=path, start_line=start, end_line=end, grade=grade)


def _beir(folder: Path) -> LabelledSet:
    corpus = _existing(folder, "corpus.jsonl")
    texts: dict[str, str] = {}
    queries = _existing(folder, "queries.jsonl")
    for number, row in _rows(queries):
        where = f"{queries.name}, line {number}"
        id = _text(row, "_id", where)
        if id in texts:
            _refuse(f"{where}: a second query has the id {id!r}.", "Give each its own id.")
        texts[id] = _text(row, "text", where)
    judged, counts = _judgements(_qrels(folder))
    counts["judged queries have no text and were left out"] = len(judged.keys() - texts.keys())
    counts["queries without a judgement were left out"] = len(texts.keys() - judged.keys())
    found = tuple(
        LabelledQuery(id=id, text=text, category="", targets=tuple(judged[id].values()))
        for id, text in texts.items()
        if id in judged
    )
    notes = [f"{count} {what}." for what, count in counts.items() if count]
    return _labelled(folder.resolve().name, found, notes, corpus)


def _qrels(folder: Path) -> Path:
    """The test split, or what comes nearest to one."""
    found = [*folder.glob("qrels/*.tsv"), *folder.glob("qrels/*.tsv.gz")]
    named = {path.name.split(".")[0]: path for path in found}
    for split in _SPLITS:
        if split in named:
            return named[split]
    return min(found) if found else _existing(folder, "qrels.tsv")


def _judgements(path: Path) -> tuple[dict[str, dict[str, Target]], Counter[str]]:
    """Targets by query and document, from `query-id corpus-id score` or TREC's four columns."""
    judged: dict[str, dict[str, Target]] = {}
    counts: Counter[str] = Counter()
    for number, line in _lines(path):
        where = f"{path.name}, line {number}"
        columns = line.split("\t")
        if number == 1 and columns[0] == "query-id":
            continue
        if len(columns) not in (3, 4):
            _refuse(f"{where} has {len(columns)} columns.", "It has query-id, corpus-id and score.")
        query, document, score = columns[0], columns[-2], columns[-1]
        try:
            grade = float(score)
        except ValueError:
            grade = -1.5
        if not grade.is_integer() or grade > MAX_GRADE:
            _refuse(f"{where}: the score is {score!r}.", f"Scores are whole, up to {MAX_GRADE}.")
        if document in judged.get(query, {}):
            _refuse(f"{where}: {document!r} is judged twice for {query!r}.", "Keep one of them.")
        if grade < 1:
            counts["documents judged irrelevant, which counts as not judged"] += 1
            continue
        judged.setdefault(query, {})[document] = Target(
            package="", path=document, start_line=1, end_line=_TO_THE_END, grade=int(grade)
        )
    return judged, counts


def _labelled(
    name: str, queries: tuple[LabelledQuery, ...], notes: list[str], corpus: Path | None = None
) -> LabelledSet:
    if not queries:
        _refuse(f"The set {name!r} has no query with a judgement.", "Label at least one query.")
    name = name.encode("utf-8", "replace").decode()  # Of a file whose name is no text.
    return LabelledSet(name=name, queries=queries, notes=tuple(notes), corpus=corpus)


def _existing(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    _refuse(
        f"{folder} has no {name}.",
        "A BEIR folder has corpus.jsonl, queries.jsonl and qrels/*.tsv, each gzipped or not.",
    )


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            _refuse(f"{path.name}, line {number} is not a JSON object.", "Write one a line.")
        yield number, row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, counted from 1."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except _UNREADABLE as exc:
        raise InvalidLabels(f"{path.name} cannot be read: {exc}.", fix="Check the file.") from exc
    if len(data) > MAX_BYTES:
        _refuse(f"{path.name} holds more than {MAX_BYTES / 1e6:.0f} MB.", "Split the set.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InvalidLabels(f"{path.name} is not UTF-8.", fix="Convert it to UTF-8.") from exc
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        _refuse(f"{where}: {key} is missing or not text.", f"Give each a {key}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(f"{where}: {key} is not valid Unicode.", "Write it again in UTF-8.")
    return value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse(message: str, fix: str) -> NoReturn:
    raise InvalidLabels(message, fix=fix)
