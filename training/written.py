"""Training groups from queries that were written for passages of open-source packages.

`training/written_queries.jsonl.gz` holds per line a query, its package, and the lines that answer
it (grade 2) or help (grade 1), as in the dev sets. Every package becomes a collection of its own,
indexed and searched by the product's first stage; what ranks high and is not named is a negative.

`python -m training.written <folder of packages, each name@version> --out <folder>` writes
`passages.jsonl.gz` and `groups.jsonl.gz`, and of the packages that are never trained on
`written.jsonl`, a dev set.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, pstdev
from zlib import crc32

from backend.build import Models, load_models
from backend.config import load_settings
from backend.ingestion.chunking import chunks_of
from backend.ingestion.files import Skipped, text_files
from backend.ingestion.sources.folder import Folder
from backend.types import Chunk, Hit
from benchmarks.labelled import LabelledSet, Target
from benchmarks.quality import Measured
from training.data import SPREAD_OVER, Mined, Passage, read_jsonl, write_jsonl
from training.devsets import Judged, judged, ndcg

QUERIES = Path(__file__).with_name("written_queries.jsonl.gz")
CHUNKS_PER_PACKAGE = 520  # A small repository's worth: enough for confusable passages.
CHUNKS_PER_FILE = 60  # A longer file would fill the collection alone.
HELD_OUT_EVERY = 10  # Of the packages, drawn by name, about one in so many is for measuring alone.
DEPTH = 50
NEGATIVES = 24
_SIZES = range(200, 150_000)
_UNFIT = re.compile(
    r"(?i)(?:^|/)(?:debian|locales?|i18n|node_modules|vendor|third.?party|3rdparty|dist|po"
    r"|translations)/|\.min\.|\.(?:po|lock|svg|csv|json|snap|xml|html?)$"
    r"|(?:^|/)(?:change|news|histor|licen[sc]e|copying|authors)\w*(?:\.|$|/)"
)
_FOREIGN = re.compile(r"GNU (?:Lesser |Library |Affero )?General Public|Mozilla Public License")
_HEAD_CHARS = 3000  # In which a file names a licence of its own.


def chunks_in(folder: Path, asked: set[str]) -> list[Chunk]:
    """Chunks of the files that queries ask for, then of files drawn by chance.

    Args:
        folder: A package, named `name@version`.
        asked: Paths that must be among them.
    """
    name = folder.name.partition("@")[0]
    files = [
        file
        for file in Folder(folder).files(Skipped())
        if file.size in _SIZES and not _UNFIT.search(file.path)
    ]
    random.Random(name).shuffle(files)
    files.sort(key=lambda file: file.path not in asked)
    chunks: list[Chunk] = []
    for file in text_files(files, Skipped()):
        if len(chunks) >= CHUNKS_PER_PACKAGE and file.path not in asked:
            break
        if not _FOREIGN.search(file.text, 0, _HEAD_CHARS):
            found = chunks_of(file, source=name, package=name)
            chunks += found if len(found) <= CHUNKS_PER_FILE else []
    return chunks


def labelled_package(folder: Path, rows: Sequence[dict[str, object]]) -> LabelledSet:
    """A package's chunks with the queries that were written for it."""
    name = folder.name.partition("@")[0]
    targets: list[list[Target]] = [
        [Target(package=name, **target) for target in row["targets"]]  # type: ignore[attr-defined]
        for row in rows
    ]
    asked = {target.path for some in targets for target in some}
    chunks = chunks_in(folder, asked)
    return LabelledSet(name, chunks, [str(row["query"]) for row in rows], targets)


def groups_of(
    labelled: LabelledSet, number: int, hits: Sequence[Hit]
) -> Iterator[tuple[Chunk, int, Sequence[Hit], list[float]]]:
    """Answer, its rank, negatives and first-stage scores of one query, once per chunk that answers.

    Parts of one definition are not each other's negatives: who wrote the query saw one of them.
    """
    targets = labelled.targets[number]
    first = [hit.first_score for hit in hits[:SPREAD_OVER]]
    if len(first) < 2:
        return
    mean, spread = fmean(first), max(pstdev(first), 1e-6)
    answers = [c for c in labelled.chunks if any(t.grade > 1 and t.matches(c) for t in targets)]
    named = {(c.path, c.symbol) for c in answers}
    wrong = [
        hit
        for hit in hits
        if not any(t.matches(hit.chunk) for t in targets)
        and (hit.chunk.path, hit.chunk.symbol) not in named
        and all(hit.chunk.text != c.text for c in answers)
    ][:NEGATIVES]
    if len(wrong) < 3:
        return
    ranks = {hit.chunk.id: rank for rank, hit in enumerate(hits)}
    for answer in answers[:2]:
        rank = ranks.get(answer.id, len(hits))
        best = hits[min(rank, len(hits) - 1)].first_score
        scores = [best, *(hit.first_score for hit in wrong)]
        yield answer, rank + 1, wrong, [round((score - mean) / spread, 3) for score in scores]


class Passages:
    """Numbers the chunks that groups name, each once."""

    def __init__(self) -> None:
        self.all: list[Passage] = []
        self._numbers: dict[str, int] = {}

    def number(self, chunk: Chunk) -> int:
        """The chunk's place in `all`."""
        key = f"{chunk.package}:{chunk.path}:{chunk.start_line}:{chunk.end_line}"
        if key not in self._numbers:
            self._numbers[key] = len(self.all)
            passage = Passage(
                pool=chunk.package,
                path=chunk.path,
                symbol=chunk.symbol,
                text=chunk.body,
                about="",
                group=key,
                lang=chunk.language,
                dataset="written",
            )
            self.all.append(passage)
        return self._numbers[key]


def mined(
    labelled: LabelledSet,
    kinds: Sequence[str],
    search: Callable[[str], Sequence[Hit]],
    passages: Passages,
) -> Iterator[Mined]:
    """Training groups of a package's queries."""
    for number, (query, kind) in enumerate(zip(labelled.queries, kinds, strict=True)):
        for answer, rank, wrong, priors in groups_of(labelled, number, search(query)):
            yield Mined(
                query=query,
                kind=kind,
                positive=passages.number(answer),
                rank=rank,
                negatives=[passages.number(hit.chunk) for hit in wrong],
                priors=priors,
            )


def main() -> None:
    """Read the arguments; index, search and write package by package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path, help="folder of packages, each `name@version`")
    parser.add_argument("--queries", type=Path, default=QUERIES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, help="where the models are")
    args = parser.parse_args()
    settings = load_settings(**({"data_dir": args.data_dir} if args.data_dir else {}))
    write(args.packages, args.queries, args.out, load_models(settings))


def write(packages: Path, queries: Path, out: Path, models: Models) -> None:
    """Write what the module's docstring says.

    Args:
        packages: Folder of folders, each `name@version`.
        queries: The written queries.
        out: Folder to write to.
        models: The product's.
    """
    rows: dict[str, list[dict[str, object]]] = defaultdict(list)
    for row in read_jsonl(queries):
        rows[f"{row['package']}@{row['version']}"].append(row)
    passages, groups, dev = Passages(), list[Mined](), list[Judged]()
    for name in sorted(rows):
        if not (packages / name).is_dir():
            sys.stderr.write(f"{name} is not there; its {len(rows[name])} queries are left out\n")
            continue
        labelled = labelled_package(packages / name, rows[name])
        corpus = Measured.of(labelled, models)
        with tempfile.TemporaryDirectory() as folder:
            search = corpus.first_stage(models, folder, depth=DEPTH)
            if crc32(name.partition("@")[0].encode()) % HELD_OUT_EVERY:
                kinds = [str(row["style"]) for row in rows[name]]
                groups += mined(labelled, kinds, search, passages)
            else:
                texts = enumerate(labelled.queries)
                dev += [judged(labelled, number, search(text)) for number, text in texts]
        sys.stderr.write(f"{name}: {len(labelled.chunks)} chunks, {len(rows[name])} queries\n")
    random.Random(0).shuffle(groups)
    write_jsonl(out / "passages.jsonl.gz", map(asdict, passages.all))
    write_jsonl(out / "groups.jsonl.gz", map(asdict, groups))
    write_jsonl(out / "written.jsonl", map(asdict, dev))
    first = fmean(ndcg(item.matches, item.grades) for item in dev) if dev else 0.0
    sys.stderr.write(f"{len(groups)} groups; held out {len(dev)} queries, nDCG@10 {first:.4f}\n")


if __name__ == "__main__":
    main()
