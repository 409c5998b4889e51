"""Keeps an index up to date: updates it whenever files change, and again after what went wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from backend.errors import SearchError, WorkspaceClosed
from backend.ingestion.collection import Opened
from backend.ingestion.watching import changes
from backend.types import IndexReport

RETRY_S = 30.0
"""Seconds after which a run that failed is tried again, if no file changes before: a folder that is
not mounted, a full disk and a provider that is down come back without telling."""
_LOOK_S = 0.25


@dataclass
class Following:
    """Runs an update at once, and whenever files in the folders among the sources have changed.

    Iterating gives what the first run did, each later one that changed something, and the first
    that succeeds after others have failed.
    """

    open_sources: Callable[[], Sequence[Opened]]
    """Called to begin with, and to begin again."""
    update: Callable[[Sequence[Opened]], IndexReport]
    ended: Callable[[], bool]
    """Whether to stop; asked some times a second."""
    outdated: Callable[[], bool]
    """Whether other sources are meant by now; likewise."""
    failed: Callable[[SearchError], None]
    """Called with why the sources could not be opened, watched or read; what it raises ends it."""

    def __post_init__(self) -> None:
        self._untold = True
        self._retry_at = math.inf

    def __iter__(self) -> Iterator[IndexReport]:
        try:
            while not self.ended():
                yield from self._follow()
        except WorkspaceClosed:
            return

    def _follow(self) -> Iterator[IndexReport]:
        """Until the sources are to be opened again."""
        self._retry_at = math.inf
        try:
            sources = self.open_sources()
            for _ in changes(sources, stopped=self._over):
                report = self._run(sources)
                if report is not None and (report.changed or self._untold):
                    self._untold = False
                    yield report
        except WorkspaceClosed:
            raise
        except SearchError as exc:
            self._fail(exc)
            while not self._over():
                time.sleep(_LOOK_S)

    def _run(self, sources: Sequence[Opened]) -> IndexReport | None:
        try:
            report = self.update(sources)
        except WorkspaceClosed:
            raise
        except SearchError as exc:
            self._fail(exc)
            return None
        self._retry_at = math.inf
        return report

    def _fail(self, error: SearchError) -> None:
        self.failed(error)
        self._untold = True
        self._retry_at = time.monotonic() + RETRY_S

    def _over(self) -> bool:
        return self.ended() or self.outdated() or time.monotonic() > self._retry_at
