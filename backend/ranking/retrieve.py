"""The first list of candidates: what the vectors find, and the files that the query names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backend.globs import matching
from backend.ranking.reading import places
from backend.types import Located, ScoredChunk

MAX_NAMED_FILES = 20
"""A name that more files than these end with, such as `__init__.py`, chooses none of them."""


@dataclass(frozen=True)
class Retrieve:
    """Searches the store; a query that spells a path gets the chunks of that file as well.

    Args:
        search: The store's search.
        paths: All paths of the collection.
    """

    search: Callable[[Located], Sequence[ScoredChunk]]
    paths: Callable[[], tuple[str, ...]]
    name: str = "retrieve"

    def __call__(self, located: Located, /) -> Sequence[ScoredChunk]:
        found = self.search(located)
        named = self._named_files(located)
        if not named:
            return found
        globs = ["/" + re.sub(r"([\\*?\[\]!# ])", r"\\\1", path) for path in named]
        more = self.search(replace(located, filters=replace(located.filters, paths=globs)))
        known = {hit.chunk.id for hit in found}
        every = [*found, *(hit for hit in more if hit.chunk.id not in known)]
        return sorted(every, key=lambda hit: -hit.score)

    def _named_files(self, located: Located) -> list[str]:
        wanted = places(located.text)
        if not wanted:
            return []
        every = self.paths()
        named = []
        for place in wanted:
            files = [path for path in every if place.is_in(path)]
            named += files if len(files) <= MAX_NAMED_FILES else []
        filters = located.filters
        if filters.paths:
            named = matching(filters.paths, named)
        return [path for path in named if path.startswith(filters.path_prefix)]
