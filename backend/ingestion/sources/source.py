"""What every source is, and how the paths of its files read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

from backend.ingestion.files import Skipped, SourceFile
from backend.ingestion.sources.origin import Origin

_TICK_NS = 2_000_000_000
"""File systems tell times in ticks of up to two seconds: a file that was just written may be
written again within the same one."""


class Source(Protocol):
    """Files under one root, named for their origin."""

    @property
    def id(self) -> str:
        """Such as `pypi:qdrant-client==1.20.0`; where that is a path, it opens the source again."""
        ...

    @property
    def package(self) -> str:
        """The short name that filters use."""
        ...

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        """All files, folders first, by name; those left out unseen are counted in `skipped`.

        A file may be read while the iterator stands at it, not later.
        """
        ...

    def origin(self, digests: Mapping[str, str]) -> Origin:
        """Where the files can be looked at, asked for when all of them have been gone through.

        Args:
            digests: Path to content digest of those that are indexed, as `TextFile` has them.
        """
        ...


def readable(path: str) -> str:
    """A path as text that any terminal and page can show.

    Bytes that are not UTF-8 and control characters become U+FFFD.
    """
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(char if char.isprintable() or char == " " else "\ufffd" for char in text)


def tree_order(path: str) -> list[tuple[bool, str]]:
    """Folders before files, each by name: a package's own copy comes before one at the root."""
    parts = path.split("/")
    return [(False, part) for part in parts[:-1]] + [(True, parts[-1])]


def stamp(facts: os.stat_result) -> str:
    """What tells of a file whether its content may have changed; empty while it is too fresh.

    The time of the last change to its inode cannot be set back, unlike that to its content.
    """
    if max(facts.st_mtime_ns, facts.st_ctime_ns) > time.time_ns() - _TICK_NS:
        return ""
    return f"{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ctime_ns}-{facts.st_ino}"
