"""Training rows as passages: what a search result looks like to the reranker.

A passage is rendered exactly as the search path renders a chunk: `path symbol`, a line break, then
the text. Rows come from gzip'd JSONL (`query`, `positive`, `kind`, `lang`, `group`, `licence`,
`source`); the folder is always an argument.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Permissive sets only (MIT, Apache-2.0, BSD-3, CC0, CC BY 4.0). The share-alike ones (codenn_*,
# squad_nqg) stay out of the shipped weights.
PERMISSIVE_SETS = (
    "oss_docstring_code",
    "oss_docs_sections",
    "nl2bash",
    "tldr_examples",
    "mbxp",
    "thirty_seconds_js",
)

# Rows per set that go into the pools: shell rows are many and far from the product's use.
ROW_CAPS = {"nl2bash": 2500, "tldr_examples": 3000}

SPREAD_OVER = 30  # Candidates whose spread is the unit of first-stage scores, as in the blend.

_DEFINITION = re.compile(
    r"""(?mx)^\s*(?:export\s+|default\s+|public\s+|private\s+|protected\s+|static\s+|final\s+
        |abstract\s+|async\s+|pub(?:\([a-z]+\))?\s+|unsafe\s+|const\s+|override\s+|synchronized\s+
        |readonly\s+|get\s+|set\s+)*
        (?:def|class|fn|func(?:\s*\([^)]*\))?|function\*?|interface|struct|enum|trait)\s+
        (?P<name>[A-Za-z_$][\w$]*)"""
)
_CALLABLE = re.compile(r"(?m)(?P<name>[A-Za-z_$][\w$]*)\s*(?:<[^>()]*>)?\s*(?:=\s*)?\(")
_NOT_NAMES = {"if", "for", "while", "switch", "return", "catch", "async", "function", "constructor"}


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled pair as published."""

    query: str
    positive: str
    kind: str
    lang: str
    group: str
    licence: str
    source: str
    dataset: str


@dataclass(frozen=True, slots=True)
class Passage:
    """One thing that search could return.

    Attributes:
        pool: What it is searched among, e.g. the repository.
        path: File path, may be empty.
        symbol: Name or heading path, may be empty.
        text: Source lines, for code without the docstring.
        about: The description or heading the row came with.
        group: Passages of one group may answer each other's queries.
        lang: Language of the text; "en" for prose.
        dataset: Set the row is from.
    """

    pool: str
    path: str
    symbol: str
    text: str
    about: str
    group: str
    lang: str
    dataset: str

    @property
    def is_code(self) -> bool:
        """Whether the text is a function rather than prose or a command page."""
        return self.dataset in {"oss_docstring_code", "mbxp", "thirty_seconds_js"}


@dataclass(frozen=True, slots=True)
class Mined:
    """One training group; passages by number.

    `priors` are the first stage's scores, the positive's and then the negatives', in standard
    deviations of the best `SPREAD_OVER` from their mean: what the blend adds the logit to.
    """

    query: str
    kind: str
    positive: int
    rank: int
    negatives: list[int]
    priors: list[float]


def read_rows(folder: Path, dataset: str) -> list[Row]:
    """Read one set.

    Args:
        folder: Folder that holds `<dataset>.jsonl.gz`.
        dataset: Name of the set.

    Raises:
        FileNotFoundError: The set is not there.

    Returns:
        Its rows in file order.
    """
    with gzip.open(folder / f"{dataset}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [Row(**json.loads(line), dataset=dataset) for line in lines]


def defined_name(code: str) -> str:
    """Name that a piece of code defines, or "" when none is recognised."""
    match = _DEFINITION.search(code)
    if match:
        return match["name"]
    for match in _CALLABLE.finditer(code[:400]):
        if match["name"] not in _NOT_NAMES:
            return match["name"]
    return ""


def to_passage(row: Row) -> Passage:
    """Give a row the path and symbol that its text would have in an indexed repository."""
    origin, _, path = row.source.partition(":")
    if row.dataset == "oss_docstring_code":
        pool, symbol = origin.partition("@")[0], defined_name(row.positive)
        stem = PurePosixPath(path).stem
        if row.lang == "java" and symbol != stem:
            symbol = f"{stem}.{symbol}"
    elif row.dataset == "oss_docs_sections":
        pool, symbol = origin.partition("@")[0], row.query
    elif row.dataset in {"nl2bash", "tldr_examples"}:
        pool, path, symbol = "shell", row.source if "/" in row.source else "", ""
    else:
        pool, path, symbol = row.dataset, "", defined_name(row.positive)
    return Passage(
        pool=pool,
        path=path,
        symbol=symbol,
        text=row.positive,
        about=row.query,
        group=row.group,
        lang=row.lang,
        dataset=row.dataset,
    )


def load_passages(folder: Path, datasets: Sequence[str], *, seed: int = 0) -> list[Passage]:
    """Read all sets as passages, capped by `ROW_CAPS`, duplicates of text in a pool dropped."""
    draw = random.Random(seed)
    seen: set[tuple[str, str]] = set()
    passages: list[Passage] = []
    for dataset in datasets:
        rows = read_rows(folder, dataset)
        cap = ROW_CAPS.get(dataset, len(rows))
        if cap < len(rows):
            rows = draw.sample(rows, cap)
        for passage in map(to_passage, rows):
            key = (passage.pool, passage.text)
            if key not in seen and passage.text.strip():
                seen.add(key)
                passages.append(passage)
    return passages


def comment(text: str, lang: str) -> str:
    """A description as a comment of the language."""
    if lang == "python":
        return f'"""{text}"""'
    return f"/** {text} */" if lang in {"java", "typescript", "javascript"} else f"// {text}"


def with_docstring(passage: Passage) -> str:
    """The code with its description put back where its language keeps it."""
    note = comment(passage.about, passage.lang)
    if passage.lang != "python":
        return f"{note}\n{passage.text}"
    lines = passage.text.split("\n")
    for number, line in enumerate(lines):
        if line.rstrip().endswith(":"):
            indent = " " * (len(line) - len(line.lstrip()) + 4)
            return "\n".join([*lines[: number + 1], indent + note, *lines[number + 1 :]])
    return f"{note}\n{passage.text}"


def render(path: str, symbol: str, text: str) -> str:
    """The passage side of a pair: header line, then the text."""
    header = f"{path} {symbol}".strip()
    return f"{header}\n{text}" if header else text


def write_jsonl(path: Path, items: Iterable[dict[str, object]]) -> None:
    """Write one JSON object a line, gzip'd when the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as out:
        for item in items:
            out.write(json.dumps(item, ensure_ascii=False) + "\n")


def read_jsonl(path: Path) -> Iterator[dict[str, object]]:
    """Read what `write_jsonl` wrote."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
