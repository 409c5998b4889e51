"""Labelled sets: BEIR folders; spans, names and paths in the default collection."""

from __future__ import annotations

import gzip
import json
import random
import re
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from backend.build import DEFAULT_MANIFEST
from backend.evaluation.labels import LabelledQuery
from backend.evaluation.measures import NDCG, score
from backend.ingestion.chunking import chunks_of
from backend.ingestion.collection import Manifest, open_sources
from backend.ingestion.files import Skipped, text_files
from backend.types import Chunk, ChunkId

SPANS = "qdrant_ecosystem"
_BEIR = ("cosqa_dev", "anthropic_docs_qa")
LOOKUPS = 150
"""Queries of each kind that `lookups` makes."""
_MOST_DEFINITIONS = 3
"""A name defined in more places than these does not say which one is wanted."""
_LAST_LINE = 10**9


@dataclass(frozen=True)
class Target:
    """Lines that answer a query; of a BEIR document, whose id stands as `package`, the whole."""

    package: str
    path: str
    start_line: int
    end_line: int
    grade: int

    def matches(self, chunk: Chunk) -> bool:
        """Same file, overlapping lines."""
        same_file = chunk.package == self.package and self.path in ("", chunk.path)
        return same_file and chunk.start_line <= self.end_line and self.start_line <= chunk.end_line


@dataclass(frozen=True)
class LabelledSet:
    """Queries with their targets over a corpus of chunks."""

    name: str
    chunks: Sequence[Chunk]
    queries: Sequence[str]
    targets: Sequence[Sequence[Target]]

    def ndcg(self, rankings: Sequence[Sequence[Chunk]]) -> float:
        """Mean nDCG@10 over all queries, as an evaluation measures it."""
        queries = [
            LabelledQuery(id=str(number), text=text, category="", targets=tuple(targets))
            for number, (text, targets) in enumerate(zip(self.queries, self.targets, strict=True))
        ]
        found = {query.id: ranking for query, ranking in zip(queries, rankings, strict=True)}
        return fmean(score(found, queries)[NDCG].values())


def load_all(folder: Path, *, downloads: Path) -> list[LabelledSet]:
    """Read the dev sets below a folder; wheels of the default collection are fetched."""
    return [_spans(folder / SPANS, downloads), *(_beir(folder / name) for name in _BEIR)]


def lookups(labelled: LabelledSet) -> list[LabelledSet]:
    """Names and paths of a set's own chunks as queries: what nobody labels, for it labels itself.

    Returns:
        `names`, half of them with the class or module they stand in, each answered by its
        definitions; and `paths`, each the last parts of a file's path, answered by the file.
    """
    defined: dict[str, list[Chunk]] = defaultdict(list)
    files: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for chunk in labelled.chunks:
        for symbol in chunk.symbol.split(", ") if chunk.kind != "section" else ():
            own = symbol.rpartition(".")[2]
            if re.fullmatch(r"\w{5,}", own) and not own.startswith("__"):
                for name in {own, ".".join(symbol.split(".")[-2:])}:
                    defined[name].append(chunk)
        parts = chunk.path.split("/")
        for size in (1, 2, 3):
            files["/".join(parts[-size:])].add((chunk.package, chunk.path))
    names = {
        name: [Target(c.package, c.path, c.start_line, c.end_line, 1) for c in found]
        for name, found in defined.items()
        if len(found) <= _MOST_DEFINITIONS
    }
    paths = {
        path: [Target(package, whole, 1, _LAST_LINE, 1) for package, whole in found]
        for path, found in files.items()
        if len(found) == 1
    }
    return [_sampled("names", labelled, names), _sampled("paths", labelled, paths)]


def _sampled(
    name: str, labelled: LabelledSet, targets: Mapping[str, Sequence[Target]]
) -> LabelledSet:
    queries = random.Random(0).sample(sorted(targets), min(LOOKUPS, len(targets)))
    return LabelledSet(
        name=name,
        chunks=labelled.chunks,
        queries=queries,
        targets=[targets[query] for query in queries],
    )


def _spans(folder: Path, downloads: Path) -> LabelledSet:
    skipped = Skipped()
    chunks: list[Chunk] = []
    digests: set[str] = set()
    manifest = Manifest.load(DEFAULT_MANIFEST)
    for opened in open_sources(manifest.sources, downloads=downloads, on_fetched=lambda spec: None):
        source = opened.source
        for file in text_files(source.files(skipped), skipped):
            if file.digest not in digests:
                digests.add(file.digest)
                chunks += chunks_of(file, source=source.id, package=source.package)
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    return LabelledSet(
        name=folder.name,
        chunks=chunks,
        queries=[row["query"] for row in rows],
        targets=[[Target(**target) for target in row["targets"]] for row in rows],
    )


def _beir(folder: Path) -> LabelledSet:
    grades: dict[str, list[Target]] = {}
    for line in _lines(folder / "qrels.tsv.gz"):
        query, document, grade = line.split("\t")[0], line.split("\t")[-2], line.split("\t")[-1]
        if query != "query-id":
            grades.setdefault(query, []).append(Target(document, "", 1, 1, int(float(grade))))
    queries = [json.loads(line) for line in _lines(folder / "queries.jsonl.gz")]
    queries = [query for query in queries if query["_id"] in grades]
    return LabelledSet(
        name=folder.name,
        chunks=[_document(json.loads(line)) for line in _lines(folder / "corpus.jsonl.gz")],
        queries=[query["text"] for query in queries],
        targets=[grades[query["_id"]] for query in queries],
    )


def _document(row: Mapping[str, Any]) -> Chunk:
    return Chunk(
        id=ChunkId(str(uuid.uuid5(uuid.NAMESPACE_URL, row["_id"]))),
        source="",
        path=row.get("title") or "",
        start_line=1,
        end_line=1,
        language="text",
        symbol="",
        kind="text",
        text=row["text"],
        package=row["_id"],
    )


def _lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read().splitlines()
