"""From a hit to its lines at their origin, at the revision that was indexed."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from backend.types import Chunk, SourceSummary


class Links:
    """The links of one collection.

    Args:
        sources: What the collection was made of; those without a link give none.
    """

    def __init__(self, sources: Iterable[SourceSummary] = ()) -> None:
        self._sources = {
            summary.source: (summary.link, frozenset(summary.unlinked))
            for summary in sources
            if summary.link.startswith(("https://", "http://"))
        }

    def url(self, chunk: Chunk) -> str:
        """Where a chunk can be looked at; empty where nowhere. Always `https:` or `http:`."""
        link, unlinked = self._sources.get(chunk.source, ("", frozenset()))
        if not link or chunk.path in unlinked:
            return ""
        lines = {"{start}": str(chunk.start_line), "{end}": str(chunk.end_line)}
        for name, value in {**lines, "{path}": quote(chunk.path)}.items():
            link = link.replace(name, value)
        return link
