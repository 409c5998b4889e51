"""What a query spells out: words, names, a path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Stem = Callable[[str], int | None]
"""The stem of a word as a number; None for stop words."""

_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_a-zA-Z]+")
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"[A-Za-z_$@][\w$]*(?:(?:\.|::|#|->|/|:|\\)[A-Za-z_][\w$]*)*[?!]?")
_JOINED = re.compile(r"\.|::|#|->|/|:|\\")
_PATH = re.compile(
    r"(?<![\w/.-])(?:\.{0,2}/)*(?P<path>(?:[\w.@+-]+/)*[\w.@+-]*\.[A-Za-z]\w{0,9}|(?:[\w.@+-]+/)+[\w.@+-]+)"
    r"(?:(?::|\", line |#L)(?P<line>\d+))?"
)
_MAX_PLACES = 8
"""Of a long stack trace, the files named first."""
_MAX_JOINED_WORDS = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A file by its path, or a part or more of it, and a line in it where one is given."""

    path: str
    line: int | None

    def among(self, paths: Iterable[str]) -> list[str]:
        """The files that this may be: those whose path ends as it does, for as long as possible.

        Either path may begin before the other. Where both begin apart, as in a stack trace from
        another machine, they share two components at least.
        """
        wanted = self.path.split("/")
        ends = {path: path.split("/") for path in paths if path.endswith(wanted[-1])}
        shared = {path: _shared_end(parts, wanted) for path, parts in ends.items()}
        most = max(shared.values(), default=0)
        return [
            path
            for path, count in shared.items()
            if count == most and count >= min(len(wanted), len(ends[path]), _SHARED)
        ]


_SHARED = 2
"""Components that paths share which begin apart: one, a file's name, says too little."""


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    """Components that are the same, counted from the end."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A query as ranking signals read it."""

    stems: frozenset[int]
    """Stems of all words and parts of identifiers, stop words left out."""
    joined: frozenset[str]
    """Up to three words in a row without what stands between them: `rate limit` as `ratelimit`."""
    names: tuple[tuple[str, ...], ...]
    """Words that look like code, each as its dotted components: (`Client`, `upsert`)."""
    words: frozenset[str]
    """All words, in lower case."""
    places: tuple[Place, ...]
    """Files that it names, if the words that look like files are any."""


def parts(word: str) -> list[str]:
    """The parts of a camelCase or snake_case word, in lower case."""
    return [part.lower() for part in _PARTS.findall(word)]


def squeezed(word: str) -> str:
    """Lower case letters and digits alone."""
    return "".join(parts(word))


def read(text: str, stem: Stem) -> Reading:
    """Read a query with the stems that BM25 uses."""
    words = _WORD.findall(text)
    every = [part for word in words for part in parts(word)]
    rows = {
        "".join(every[i : i + n])
        for n in range(1, _MAX_JOINED_WORDS + 1)
        for i in range(len(every) - n + 1)
    }
    return Reading(
        stems=frozenset(s for part in every if (s := stem(part)) is not None),
        joined=frozenset({*rows, *(squeezed(word) for word in words)}),
        names=names(text),
        words=frozenset(word.lower() for word in words),
        places=places(text),
    )


def places(text: str) -> tuple[Place, ...]:
    """The words that look like files: `bar.py:120`, `src/foo/bar`, `File "a/b.py", line 7`."""
    found = dict.fromkeys(
        Place(match["path"], int(match["line"]) if match["line"] else None)
        for match in _PATH.finditer(text.replace("\\", "/"))
    )
    return tuple(found)[:_MAX_PLACES]


def names(text: str) -> tuple[tuple[str, ...], ...]:
    """The words that look like code, each as its components."""
    return tuple(_names(text))


def _names(text: str) -> Iterable[tuple[str, ...]]:
    """Words that nobody writes in prose: camelCase, snake_case, dotted, or called."""
    alone = len(text.split()) == 1
    for match in _NAME.finditer(text):
        name = match[0]
        components = tuple(part for part in _JOINED.split(name) if part)
        shaped = (
            len(components) > 1
            or "_" in name.strip("_")
            or re.search(r"[a-z][A-Z]|[A-Z]{2}[a-z]", name)
            or text[match.end() : match.end() + 1] == "("
        )
        if components and (alone or shaped):
            yield components
