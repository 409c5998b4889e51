"""The first list of candidates: what the vectors find, and the files that the query names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from backend.globs import matching
from backend.ranking.reading import places
from backend.types import Chunk, ChunkId, Filters, Located, ScoredChunk

MAX_NAMED_FILES = 20
"""A name that more files than these end with, such as `__init__.py`, chooses none of them."""


@dataclass(frozen=True)
class Retrieve:
    """Searches the store; a query that spells a path gets the chunks of that file as well, and the
    one that holds the line which it gives.

    Args:
        search: The store's search.
        paths: All paths of the collection.
        at: The chunks of the files of a path that hold a line.
    """

    search: Callable[[Located], Sequence[ScoredChunk]]
    paths: Callable[[], tuple[str, ...]]
    at: Callable[[str, int], Sequence[Chunk]]
    name: str = "retrieve"

    def __call__(self, located: Located, /) -> Sequence[ScoredChunk]:
        found = self.search(located)
        known = {hit.chunk.id: hit for hit in found}
        for filters in self._named(located):
            for hit in self.search(replace(located, filters=filters)):
                known.setdefault(hit.chunk.id, hit)
        return sorted(known.values(), key=lambda hit: -hit.score)

    def _named(self, located: Located) -> Iterator[Filters]:
        """What finds the files that the query names, and the lines of them."""
        filters = located.filters
        named: dict[str, None] = {}
        ids: list[ChunkId] = []
        for place in places(located.text):
            files = place.among(self.paths())
            if len(files) > MAX_NAMED_FILES:
                continue
            if filters.paths:
                files = matching(filters.paths, files)
            files = [path for path in files if path.startswith(filters.path_prefix)]
            named |= dict.fromkeys(files)
            if place.line is not None:
                ids += [chunk.id for path in files for chunk in self.at(path, place.line)]
        if named:
            globs = ["/" + re.sub(r"([\\*?\[\]!# ])", r"\\\1", path) for path in named]
            yield replace(filters, paths=globs)
        if ids:
            yield replace(filters, ids=ids)
