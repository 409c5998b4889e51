"""What the place and the name of a chunk say about a query: small signals over the candidates.

A signal gives each candidate a value, mostly between 0 and 1; its weight says what 1 is worth on
the scale of cosines. `Rank` adds them up, and every hit carries what each of them added.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from backend.ranking.reading import Reading, Stem, parts
from backend.types import ScoredChunk


@dataclass(frozen=True, slots=True)
class PathWords:
    """The words of a path, as stems."""

    stem: frozenset[int]
    """Of the file's name without its endings; of its folder for names such as `index` and `mod`."""
    folders: frozenset[int]
    joined: str
    """The stem's letters without what stands between them."""
    aside: bool
    """Whether it is a test, an example, a benchmark, a vendored or legacy copy, or a stub."""


class Field:
    """The candidates of a query, as signals see them.

    Args:
        reading: The query.
        found: Candidates, best first.
        stem: What made the reading's stems.
    """

    def __init__(self, reading: Reading, found: Sequence[ScoredChunk], stem: Stem) -> None:
        self.reading = reading
        self.found = found
        self.stem = stem
        self.files = [(hit.chunk.source, hit.chunk.path) for hit in found]
        self.paths = {file: path_words(file[1], stem) for file in set(self.files)}

    @cached_property
    def rarity(self) -> Mapping[int, float]:
        """How much each of the query's stems tells about a file, by how few paths hold it."""
        holders = Counter(
            stem
            for words in self.paths.values()
            for stem in (words.stem | words.folders) & self.reading.stems
        )
        return {s: math.log(1 + len(self.paths) / (0.5 + holders[s])) for s in self.reading.stems}


Values = Callable[[Field], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Signal:
    """A reason to rank a candidate higher or lower."""

    name: str
    weight: float
    """What a value of 1 adds to the fused score; negative for a penalty."""
    reason: str
    values: Values
    within_file: bool = False
    """Whether it also tells the chunks of a single file apart."""
    spelled: bool = False
    """Whether the query spells the very thing."""
    again: float = 0.0
    """How many times more it counts beside a reranker, which reads a text without its place: a test
    or a page says in the query's words what code merely does, and gets the higher score. Not
    where a signal says that the query spells the very thing."""


def file_named(field: Field) -> list[float]:
    """1 where the query spells all words of the file's stem."""
    asked, rows = field.reading.stems, field.reading.joined
    named = {
        file: float(
            (bool(words.stem) and words.stem <= asked)
            or (len(words.joined) > _MIN_JOINED and words.joined in rows)
        )
        for file, words in field.paths.items()
    }
    return [named[file] for file in field.files]


_MIN_JOINED = 4
"""Letters above which a stem is found in the query's words without the gaps: `ratelimit`."""


def path_words_shared(field: Field) -> list[float]:
    """Share of the query's words, rare ones counting more, in the file's stem; half in a folder."""
    rarity = field.rarity
    whole = sum(rarity.values()) or 1.0
    shares = {
        file: sum(
            rarity[s] * (1.0 if s in words.stem else 0.5)
            for s in (words.stem | words.folders) & rarity.keys()
        )
        / whole
        for file, words in field.paths.items()
    }
    return [shares[file] for file in field.files]


def defines_name(field: Field) -> list[float]:
    """1 where the chunk defines a name that the query spells as code; half in another owner."""
    wanted = [tuple(part.lower() for part in name) for name in field.reading.names]
    if not wanted:
        return [0.0] * len(field.found)
    return [
        max(
            (
                1.0 if path[-len(name) :] == name else 0.5
                for path in defined_paths(hit.chunk.defines)
                for name in wanted
                if path[-1] == name[-1]
            ),
            default=0.0,
        )
        for hit in field.found
    ]


def place_named(field: Field) -> list[float]:
    """1 in a file whose path the query spells; 3 where the line is that it gives: nothing that the
    rest of such a file says weighs more."""
    every = {path for _, path in field.files}
    lines: dict[str, list[int | None]] = {}
    for place in field.reading.places:
        for path in place.among(every):
            lines.setdefault(path, []).append(place.line)
    return [
        max((1.0 + 2.0 * _holds(hit, line) for line in lines.get(hit.chunk.path, ())), default=0.0)
        for hit in field.found
    ]


def _holds(hit: ScoredChunk, line: int | None) -> bool:
    return line is not None and hit.chunk.start_line <= line <= hit.chunk.end_line


def symbol_words_shared(field: Field) -> list[float]:
    """Share of the query's words that stand in the names of a piece of code."""
    asked = field.reading.stems
    return [
        0.0
        if hit.chunk.kind == "section"
        else len(symbol_words(hit.chunk.symbol, field.stem) & asked) / (len(asked) or 1)
        for hit in field.found
    ]


def good_company(field: Field) -> list[float]:
    """How good the best other candidate of the file is: 1 as the best of all, 0 as the fiftieth."""
    scores = [hit.score for hit in field.found]
    best, floor = scores[0], scores[min(len(scores), _COMPANY) - 1]
    by_file: dict[tuple[str, str], list[float]] = {}
    for file, score in zip(field.files, scores, strict=True):
        by_file.setdefault(file, []).append(score)  # Best first, as the candidates are.
    seen: set[tuple[str, str]] = set()
    values = []
    for file in field.files:
        others = by_file[file]
        other = others[file not in seen] if len(others) > 1 else floor
        seen.add(file)
        values.append(max(other - floor, 0.0) / ((best - floor) or 1.0))
    return values


_COMPANY = 50


def set_aside(field: Field) -> list[float]:
    """1 in tests, examples, benchmarks, vendored and legacy files and generated stubs, unless the
    query asks so, or spells a name that nothing else found defines as well."""
    if field.reading.words & _ASKS_ASIDE:
        return [0.0] * len(field.found)
    aside = [field.paths[file].aside for file in field.files]
    defined = defines_name(field)
    elsewhere = max((d for d, a in zip(defined, aside, strict=True) if not a), default=0.0)
    return [float(a and d <= elsewhere) for d, a in zip(defined, aside, strict=True)]


def prose(field: Field) -> list[float]:
    """1 for a section of a document, unless the query asks for documentation."""
    if field.reading.words & _ASKS_PROSE:
        return [0.0] * len(field.found)
    return [float(hit.chunk.kind == "section") for hit in field.found]


SIGNALS: tuple[Signal, ...] = (
    Signal("place", 0.30, "the query spells the path", place_named, within_file=True, spelled=True),
    Signal("file named", 0.08, "the query spells the file's name", file_named),
    Signal("path words", 0.08, "the query's words stand in the path", path_words_shared),
    Signal("definition", 0.06, "defines a name that the query spells", defines_name, spelled=True),
    Signal("symbol words", 0.03, "the query's words stand in the symbol", symbol_words_shared),
    Signal("company", 0.02, "the file has another good hit", good_company),
    Signal(
        "aside", -0.10, "a test, an example, a vendored, legacy or stub copy", set_aside, again=2
    ),
    Signal("prose", -0.06, "documentation, where code answers too", prose, again=2),
)
"""What leaving one out costs in nDCG@10 of the first stage, in exact arithmetic: on the dev set
`qdrant_ecosystem` (fused 0.616, with signals 0.627), on `anthropic_docs_qa` (0.807, 0.817), and on
434 queries written over 35 repositories in fourteen languages, of which some spell the name of
the file that answers them (0.789, 0.902) and some share no word with it, blind (0.661, 0.711).
`cosqa_dev`, single functions without a file, is not touched.

    signal         ecosystem   docs   named  blind
    file named        .003     .014   .035   -.008
    path words        .001     .002   .006   -.008
    definition        .000     .000   .001    .000   .005 on the blind queries of the ecosystem
    symbol words      .000     .000   .005   -.001
    company           .003     .000  -.001    .005
    aside             .003     .000   .012    .039
    prose             .002     .000   .008    .011
    same file         .001     .000   .016    .013

Names flatter themselves, so their weights stay at about half of what suits the named queries best.
Beside the reranker `aside` and `prose` count twice more: without that it takes the 434 queries from
0.812 to 0.802; once more makes that 0.808, twice 0.813, and 0.652, 0.647, 0.652 of
qdrant_ecosystem, where pages are answers too. What the query spells is exempt: else names of the
default collection lose 0.010.

`place` answers paths, which none of these sets asks for: of 40 chunks of the default collection,
asked for as `path:line`, all come first. `benchmarks/ablation.py` prints such a
table for the dev sets from the engine."""

SAME_FILE = "same file"
SAME_FILE_WEIGHT = -0.05
"""For each better hit of the same file, two at most: other files come up, and what a file says in
several places still can."""
SAME_FILE_MOST = 2

_ASKS_ASIDE = frozenset(
    {
        *("test", "tests", "testing", "tested", "spec", "specs", "fixture", "fixtures"),
        *("example", "examples", "sample", "samples", "demo", "benchmark", "benchmarks"),
        *("legacy", "deprecated", "vendored", "changelog", "release", "changed", "stub", "stubs"),
    }
)
_ASKS_PROSE = frozenset(
    {
        *("doc", "docs", "documentation", "documented", "readme", "guide", "tutorial", "manual"),
        *("changelog", "install", "installing", "installation", "licence", "license"),
    }
)

_ENTRY = frozenset({"index", "main", "mod", "lib", "init", "package", "readme"})
_ENDINGS = re.compile(r"\.(test|spec|d|min|stories|g|pb)$")
_ASIDE = re.compile(
    r"(^|/)(tests?|testing|specs?|__tests__|testdata|fixtures?|examples?|samples?|demos?|benchmarks?"
    r"|bench|vendor|vendored|third_party|_vendor|legacy|deprecated|compat)(/|$)"
    r"|(^|/)(test_[^/]*|conftest\.py|(deprecated|compat|legacy)\.[a-z]+)$"
    r"|[._-](test|tests|spec|bench)\.[a-z]+$|Tests?\.(java|kt|cs|swift|php|scala)$"
    r"|Spec\.(scala|hs|kt)$|_pb2(_grpc)?\.pyi$"
    r"|(^|/)(change(s|log)|history|news|releases?)[^/.]*(\.(md|markdown|rst|adoc|txt))?$",
    re.IGNORECASE,
)


@lru_cache(maxsize=50_000)
def path_words(path: str, stem: Stem) -> PathWords:
    """Read a path."""
    *folders, name = path.split("/")
    name = _ENDINGS.sub("", name.rpartition(".")[0] or name)
    if name.strip("_").lower() in _ENTRY and folders:
        name = folders[-1]
    words = parts(name)
    return PathWords(
        stem=_stems(words, stem),
        folders=_stems((part for folder in folders[-3:] for part in parts(folder)), stem),
        joined="".join(words),
        aside=_ASIDE.search(path) is not None,
    )


def _stems(words: Iterable[str], stem: Stem) -> frozenset[int]:
    return frozenset(found for word in words if (found := stem(word)) is not None)


@lru_cache(maxsize=50_000)
def symbol_words(symbol: str, stem: Stem) -> frozenset[int]:
    """The stems of all words in a symbol path."""
    return _stems(parts(symbol), stem)


@lru_cache(maxsize=50_000)
def defined_paths(defines: str) -> tuple[tuple[str, ...], ...]:
    """The components of each name that a chunk defines, in lower case."""
    return tuple(
        parted
        for path in defines.lower().split()
        if (parted := tuple(part for part in re.split(r"'*(?:\.|::|#|$)", path) if part))
    )
