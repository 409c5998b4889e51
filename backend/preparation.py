"""What happens between the start of an app and its first answer, beside whatever it serves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from loguru import logger

from backend.config import DEFAULT_COLLECTION
from backend.errors import SearchError, StoreUnavailable
from backend.loading import RETRY_S
from backend.types import IndexProgress
from backend.workspace import Workspace

Step = Literal["models", "index", "ready", "failed"]
Build = Callable[[Callable[[IndexProgress], None]], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """How far the preparation has come; one value, replaced as a whole."""

    step: Step = "models"
    models_loaded: bool = False
    progress: IndexProgress | None = None
    """Where indexing stands; None outside of it."""
    message: str = ""
    fix: str = ""
    """Set when the preparation failed: the fact, and what to do."""

    @property
    def over(self) -> bool:
        """Whether nothing more is going to happen."""
        return self.step in ("ready", "failed")


class _Stopped(Exception):
    """The app ends; leave indexing where it stands, the next start goes on from there."""


class Preparation:
    """Loads the models and brings the default collection up to date, in a thread of its own.

    Args:
        workspace: What is being prepared.
        build: Indexes the default collection; None is `workspace.index`, if it is not current.
    """

    def __init__(self, workspace: Workspace, *, build: Build | None = None) -> None:
        self._workspace = workspace
        self._build = build
        self._readiness = Readiness()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preparation", daemon=True)

    @property
    def readiness(self) -> Readiness:
        """How far it has come. Never waits."""
        return self._readiness

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, *, timeout_s: float = 10) -> None:
        """Ask indexing to end at its next step, and wait for that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def wait(self, *, timeout_s: float | None = None) -> Readiness:
        """Wait until it is over, and tell how it went."""
        self._thread.join(timeout_s)
        return self._readiness

    def searchable(self, collection: str = DEFAULT_COLLECTION) -> bool:
        """Whether a query in this collection would be answered at once. Never waits."""
        readiness = self._readiness
        names = [info.name for info in self._workspace.collections()]
        # What has been indexed can be searched by words even if the models cannot be had.
        return (readiness.models_loaded or readiness.step == "failed") and collection in names

    def awaited(self, collection: str = DEFAULT_COLLECTION) -> bool:
        """Whether a collection cannot be searched now, but will be without anyone's help."""
        if self._readiness.over or self.searchable(collection):
            return False
        names = [info.name for info in self._workspace.collections()]
        return collection == DEFAULT_COLLECTION or collection in names

    def _run(self) -> None:
        while True:
            try:
                self._prepare()
                return
            except StoreUnavailable as exc:  # It comes back, and the app is to be there then.
                logger.error("{error}", error=exc)
                self._fail(exc.message, exc.fix)
                if self._stop.wait(RETRY_S):
                    return

    def _prepare(self) -> None:
        try:
            self._workspace.load()
            self._readiness = Readiness(step="index", models_loaded=True)
            if self._build is not None:
                self._build(self._on_progress)
            elif not self._workspace.is_current():
                self._workspace.index(on_progress=self._on_progress)
            self._readiness = Readiness(step="ready", models_loaded=True)
        except _Stopped:
            logger.info("Indexing was left off; the next start goes on from here")
        except StoreUnavailable:
            raise
        except SearchError as exc:
            logger.error("{error}", error=exc)
            self._fail(exc.message, exc.fix)
        except Exception:
            if not self._stop.is_set():
                logger.exception("The preparation failed")
            self._fail(
                "The preparation failed unexpectedly.", "The log says why; then start again."
            )

    def _on_progress(self, progress: IndexProgress) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._readiness = replace(self._readiness, progress=progress)

    def _fail(self, message: str, fix: str) -> None:
        self._readiness = replace(
            self._readiness, step="failed", progress=None, message=message, fix=fix
        )
