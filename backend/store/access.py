"""Who may use an index at a moment: many who read, or one who writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Access:
    """A lock that readers share. A waiting writer goes before readers who come after it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reading = 0
        self._writers = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Read beside others. Must not be asked for again while it is held."""
        with self._changed:
            self._changed.wait_for(lambda: self._writers == 0)
            self._reading += 1
        try:
            yield
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Write while nobody reads."""
        with self._changed:
            self._writers += 1
            try:
                self._changed.wait_for(lambda: self._reading == 0)
                yield
            finally:
                self._writers -= 1
                self._changed.notify_all()
