"""Indexing beside whatever an app serves, for all to see: one run that somebody asked for at a
time, and the collections that are kept fresh."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from loguru import logger

from backend.errors import IndexingBusy, SearchError
from backend.types import IndexProgress, IndexReport, Preview
from backend.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What is being done, or was done last; one value, replaced as a whole."""

    doing: Literal["nothing", "preview", "index", "watch"] = "nothing"
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


class _Task:
    """Something done in a thread of its own.

    Args:
        activity: What it is, until it tells more.
        work: Does it, and returns what came of it.
    """

    def __init__(self, activity: Activity, work: Callable[[_Task], Activity]) -> None:
        self.activity = activity
        self.stopping = threading.Event()
        self._work = work
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._thread.start()

    def on_progress(self, progress: IndexProgress) -> None:
        """Tell where it stands; there it ends if it is to."""
        if self.stopping.is_set():
            raise _Stopped
        self.activity = replace(
            self.activity, progress=progress if progress.phase != "done" else None
        )

    def stop(self, *, timeout_s: float = 0) -> None:
        """Ask it to end at its next step, and wait so long for that."""
        self.stopping.set()
        if timeout_s:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self.activity = self._work(self)
        except _Stopped:
            self.activity = Activity(
                message="Stopped.", fix="What was done so far is used when it is begun again."
            )
        except SearchError as exc:
            logger.warning("{error}", error=exc)
            self.activity = Activity(message=exc.message, fix=exc.fix)
        except Exception:
            logger.exception("Indexing failed")
            self.activity = Activity(
                message="Indexing failed unexpectedly.", fix="The app's log says why."
            )


class Background:
    """Runs `preview`, `index` and `watch` of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._task: _Task | None = None
        self._kept: dict[str, _Task] = {}
        self._starting = threading.Lock()

    @property
    def activity(self) -> Activity:
        """What was asked for. Never waits."""
        return self._task.activity if self._task else Activity()

    @property
    def kept(self) -> Mapping[str, Activity]:
        """The collections that are kept fresh, and how that goes. Never waits."""
        return {name: task.activity for name, task in self._kept.copy().items()}

    def preview(self, sources: Sequence[str], collection: str) -> None:
        """Begin a preview; returns at once.

        Raises:
            IndexingBusy: Something is being done already.
        """
        self._begin(
            Activity(doing="preview"),
            lambda task: Activity(
                preview=self._workspace.preview(
                    sources, collection=collection or None, on_progress=task.on_progress
                )
            ),
        )

    def index(self, sources: Sequence[str] | None, collection: str) -> None:
        """Begin indexing, or with None updating; returns at once.

        Raises:
            IndexingBusy: Something is being done already.
        """
        self._begin(
            Activity(doing="index"),
            lambda task: Activity(
                report=self._workspace.index(
                    sources, collection=collection or None, on_progress=task.on_progress
                )
            ),
        )

    def stop(self, *, timeout_s: float = 0) -> None:
        """Ask what was asked for to end at its next step, and wait so long for that."""
        if self._task is not None:
            self._task.stop(timeout_s=timeout_s)

    def keep(self, collection: str, *, on: bool = True) -> None:
        """Follow the folders of a collection from now on, also after the next start, or no more.

        Raises:
            UnknownCollection: The collection has not been indexed.
            InvalidSource: There is no folder among its sources.
            DataFolderUnusable: That cannot be noted.
        """
        with self._starting:
            self._workspace.keep_fresh(collection, on=on)
            if on and collection not in self._kept:
                self._follow(collection)
            elif not on and collection in self._kept:
                self._kept.pop(collection).stop()

    def resume(self) -> None:
        """Follow the folders of the collections that were kept fresh before."""
        with self._starting:
            for collection in self._workspace.kept_fresh():
                self._follow(collection)

    def close(self, *, timeout_s: float) -> None:
        """Stop everything, and wait so long for each."""
        with self._starting:
            tasks = [*self._kept.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.stop()
        for task in tasks:
            task.stop(timeout_s=timeout_s)

    def _begin(self, activity: Activity, work: Callable[[_Task], Activity]) -> None:
        with self._starting:
            if self.activity.doing != "nothing":
                raise IndexingBusy("Something is being indexed already.", fix="Wait, or stop it.")
            self._task = _Task(activity, work)

    def _follow(self, collection: str) -> None:
        """Whatever fails is shown, and tried again."""

        def work(task: _Task) -> Activity:
            def failed(error: SearchError) -> None:
                if task.activity.message != error.message:
                    logger.warning("{name}: {error}", name=collection, error=error)
                task.activity = Activity(doing="watch", message=error.message, fix=error.fix)

            for report in self._workspace.watch(
                collection=collection,
                stop=task.stopping,
                on_progress=task.on_progress,
                on_failure=failed,
            ):
                task.activity = Activity(doing="watch", report=report)
            return Activity()

        self._kept[collection] = _Task(Activity(doing="watch"), work)
