"""Tells when the files of a collection have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from watchfiles import watch

from backend.errors import InvalidSource
from backend.ingestion.collection import Opened
from backend.ingestion.sources.folder import Folder

QUIET_MS = 400
"""A burst of changes is over when for so long nothing more has changed, as after a save of several
files or a checkout."""
_LONGEST_BURST_MS = 5_000
_LOOK_MS = 250
"""How often it is seen whether to stop."""


def changes(sources: Sequence[Opened], *, stopped: Callable[[], bool]) -> Iterator[None]:
    """Yield at once, and after each burst of changes below the folders among the sources.

    Nothing is missed between two yields. Ends soon after `stopped` says so, or a folder is not
    the one that it was: moved, deleted, or mounted anew, of which the system may say nothing.

    Raises:
        InvalidSource: There is no folder among them, or the system cannot watch it.
    """
    folders = [opened.source for opened in sources if isinstance(opened.source, Folder)]
    if not folders:
        raise InvalidSource(
            "There is no folder to watch among the sources.",
            fix="Name a folder, or update it by hand.",
        )
    first = True
    watched = [_identity(folder.root) for folder in folders]
    try:
        for seen in watch(
            *(folder.root for folder in folders),
            watch_filter=lambda _, path: any(one.concerns(Path(path)) for one in folders),
            debounce=_LONGEST_BURST_MS,
            step=QUIET_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
        ):
            if stopped() or [_identity(folder.root) for folder in folders] != watched:
                return
            if seen or first:
                yield
            first = False
    except OSError as exc:
        raise InvalidSource(
            f"{folders[0].root} cannot be watched: {exc}.",
            fix="On Linux raise fs.inotify.max_user_watches; or index from time to time.",
        ) from exc


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another at its place; None where there is none."""
    try:
        facts = folder.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
