"""Previewing and indexing beside whatever an app serves: one at a time, for all to see."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from loguru import logger

from backend.errors import IndexingBusy, SearchError
from backend.types import IndexProgress, IndexReport, Preview
from backend.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What is being done, or was done last; one value, replaced as a whole."""

    doing: Literal["nothing", "preview", "index"] = "nothing"
    progress: IndexProgress | None = None
    """Where it stands; None before the first step and outside of it."""
    preview: Preview | None = None
    """What the last preview found, until something else is begun."""
    report: IndexReport | None = None
    """What the last indexing did, likewise."""
    message: str = ""
    fix: str = ""
    """Set when it failed: the fact, and what to do."""


class _Stopped(Exception):
    """Somebody asked for it; what was indexed before is as it was."""


class Background:
    """Runs `Workspace.preview` and `Workspace.index` in a thread of its own."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._activity = Activity()
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def activity(self) -> Activity:
        """What it does. Never waits."""
        return self._activity

    def preview(self, sources: Sequence[str], collection: str) -> None:
        """Begin a preview; returns at once.

        Raises:
            IndexingBusy: Something is being done already.
        """

        def work() -> Activity:
            found = self._workspace.preview(
                sources, collection=collection or None, on_progress=self._on_progress
            )
            return Activity(preview=found)

        self._begin(Activity(doing="preview"), work)

    def index(self, sources: Sequence[str], collection: str) -> None:
        """Begin indexing; returns at once.

        Raises:
            IndexingBusy: Something is being done already.
        """

        def work() -> Activity:
            done = self._workspace.index(
                sources, collection=collection or None, on_progress=self._on_progress
            )
            return Activity(report=done)

        self._begin(Activity(doing="index"), work)

    def stop(self, *, timeout_s: float = 0) -> None:
        """Ask it to end at its next step, and wait so long for that."""
        self._stop.set()
        if self._thread is not None and timeout_s:
            self._thread.join(timeout_s)

    def _begin(self, activity: Activity, work: Callable[[], Activity]) -> None:
        with self._starting:
            if self._activity.doing != "nothing":
                raise IndexingBusy("Something is being indexed already.", fix="Wait, or stop it.")
            self._stop.clear()
            self._activity = activity
            self._thread = threading.Thread(
                target=self._run, args=(work,), name="background", daemon=True
            )
            self._thread.start()

    def _run(self, work: Callable[[], Activity]) -> None:
        try:
            self._activity = work()
        except _Stopped:
            self._activity = Activity(
                message="Stopped.", fix="What was done so far is used when it is begun again."
            )
        except SearchError as exc:
            logger.warning("{error}", error=exc)
            self._activity = Activity(message=exc.message, fix=exc.fix)
        except Exception:
            logger.exception("Indexing failed")
            self._activity = Activity(
                message="Indexing failed unexpectedly.", fix="The app's log says why."
            )

    def _on_progress(self, progress: IndexProgress) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._activity = replace(self._activity, progress=progress)
