"""What a query spells out: words, names, a path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Stem = Callable[[str], int | None]
"""The stem of a word as a number; None for stop words."""

_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_a-zA-Z]+")
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"[A-Za-z_$@][\w$]*(?:(?:\.|::|#|->|/|:|\\)[A-Za-z_][\w$]*)*[?!]?")
_JOINED = re.compile(r"\.|::|#|->|/|:|\\")
_PATH = re.compile(
    r"(?<![\w/.-])((?:[\w.@+-]+/)*[\w.@+-]*\.[A-Za-z]\w{0,9}|(?:[\w.@+-]+/)+[\w.@+-]+)(?::(\d+))?"
)
_MAX_JOINED_WORDS = 3


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
    path: str
    line: int | None


def parts(word: str) -> list[str]:
    """The parts of a camelCase or snake_case word, in lower case."""
    return [part.lower() for part in _PARTS.findall(word)]


def squeezed(word: str) -> str:
    """Lower case letters and digits alone."""
    return "".join(parts(word))


def read(text: str, stem: Stem) -> Reading:
    words = _WORD.findall(text)
    every = [part for word in words for part in parts(word)]
    rows = {
        "".join(every[i : i + n])
        for n in range(1, _MAX_JOINED_WORDS + 1)
        for i in range(len(every) - n + 1)
    }
    found = _PATH.search(text)
    return Reading(
        stems=frozenset(s for part in every if (s := stem(part)) is not None),
        joined=frozenset({*rows, *(squeezed(word) for word in words)}),
        names=tuple(_names(text)),
        words=frozenset(word.lower() for word in words),
        path=found[1] if found else "",
        line=int(found[2]) if found and found[2] else None,
    )


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
