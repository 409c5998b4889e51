"""A circuit breaker: a provider that keeps failing is left alone for a while.

`pybreaker` would do this with a lock held during every call, so that searches would wait in line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FAILURES = 3
"""Failed calls in a row after which a provider is left alone."""
PAUSE_S = 15.0
"""Seconds until one call may try again."""


class CircuitBreaker:
    """Counts failures in a row. Safe to use from many threads."""

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed, self._pause_s, self._clock = failures, pause_s, clock
        self._lock = threading.Lock()
        self._failed = 0
        self._until = 0.0

    def admit(self) -> float:
        """Ask to make a call; whoever may must tell how it went.

        Returns:
            0 when the call may be made, else the seconds to wait. After the pause a single call
            is let through; the others wait on until it has succeeded.
        """
        with self._lock:
            if self._failed < self._allowed:
                return 0.0
            left = self._until - self._clock()
            if left <= 0:
                self._until = self._clock() + self._pause_s  # This call tries for all.
            return max(left, 0.0)

    def succeeded(self) -> None:
        """The provider works."""
        with self._lock:
            self._failed = 0

    def failed(self) -> None:
        """The provider did not answer, or could not."""
        with self._lock:
            self._failed += 1
            self._until = self._clock() + self._pause_s
