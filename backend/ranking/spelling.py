"""Names in a query that are misspelled, read as the nearest name that the collection defines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from rapidfuzz import process
from rapidfuzz.distance import OSA

from backend.ranking.reading import names
from backend.types import Query

MIN_LETTERS = 5
"""Shorter names have too many neighbours."""
LETTERS_PER_MISTAKE = 5
"""A name of five letters may hold one mistake, one of ten two: a letter that is missing, added or
wrong, or two that changed places."""
MAX_MISTAKES = 2
MAX_NAMES = 300_000
"""Names that are compared: some hundred bytes of memory each, for one collection at a time."""

_NAME = re.compile(r"[A-Za-z_]\w{4,79}")


@dataclass(frozen=True)
class ReadNames:
    """Corrects words that look like code and stand nowhere in the collection.

    Args:
        holds: Whether a word, in lower case, stands anywhere in the collection.
        symbols: All symbols of the collection.
    """

    holds: Callable[[str], bool]
    symbols: Callable[[], tuple[str, ...]]
    name: str = "read"

    def __call__(self, query: Query, /) -> Query:
        read_as = query.text
        for word in dict.fromkeys(part for name in names(query.text) for part in name):
            if len(word) < MIN_LETTERS or self.holds(word.lower().strip("_")):
                continue
            if nearest := self._nearest(word.lower()):
                read_as = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", nearest, read_as)
        return replace(query, read_as=read_as) if read_as != query.text else query

    def _nearest(self, word: str) -> str:
        known = _vocabulary(self.symbols())
        mistakes = min(len(word) // LETTERS_PER_MISTAKE, MAX_MISTAKES)
        found = process.extractOne(word, known.keys(), scorer=OSA.distance, score_cutoff=mistakes)
        return known[found[0]] if found else ""


@lru_cache(maxsize=1)
def _vocabulary(symbols: tuple[str, ...]) -> Mapping[str, str]:
    """The names in symbols, in lower case, and how they are written."""
    written: dict[str, str] = {}
    for symbol in symbols:
        if " > " in symbol:
            continue  # A heading path: words of prose.
        for name in _NAME.findall(symbol):
            if len(written) == MAX_NAMES:
                return written
            written.setdefault(name.lower(), name)
    return written
