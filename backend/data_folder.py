"""The folder of models, downloads and collections: one process holds it at a time."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from backend.errors import DataFolderBusy, DataFolderUnusable


class DataFolder:
    """A data folder that this process holds until it is released.

    Args:
        path: The folder; made if it is not there.

    Raises:
        DataFolderUnusable: It cannot be created or written.
        DataFolderBusy: Another process, or another object of this one, holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = _lock(path)
        self._sweep()

    @property
    def held(self) -> bool:
        """Whether it has not been released."""
        return self._lock.is_locked

    @property
    def downloads(self) -> Path:
        """What was fetched."""
        return self._path / "downloads"

    @property
    def evaluations(self) -> Path:
        """Indexes that live only while an evaluation measures them."""
        return self._path / "evaluations"

    def announce(self, url: str) -> None:
        """Leave word for other processes where this one can be reached."""
        _owner_file(self._path).write_text(json.dumps({"pid": os.getpid(), "url": url}))

    def keep(self, upload: Path, name: str) -> Path:
        """Copy an upload into the folder; one of that name from before is replaced.

        Raises:
            DataFolderUnusable: There is no room for it.
        """
        target = self._uploads / name
        part = target.with_name(f"{name}.part")
        try:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(upload, part)
            part.replace(target)
        except OSError as exc:
            raise DataFolderUnusable(
                f"{target} cannot be written: {exc.strerror}.", fix="Make room in the data folder."
            ) from exc
        return target

    def is_upload(self, path: Path) -> bool:
        """Whether a path is that of something kept."""
        try:
            return path.resolve().parent == self._uploads.resolve()
        except (OSError, RuntimeError, ValueError):
            return False

    def release(self) -> None:
        """Let other processes have it."""
        _owner_file(self._path).unlink(missing_ok=True)
        self._lock.release()

    @property
    def _uploads(self) -> Path:
        return self._path / "uploads"

    def _sweep(self) -> None:
        """Remove what a process that was killed left half made; nobody is here to need it."""
        for leftover in (*self.downloads.glob("tmp*"), self.evaluations):
            shutil.rmtree(leftover, ignore_errors=True)


def folder_owner(path: Path) -> dict[str, object] | None:
    """Process id and address of the app that holds a data folder, if one does and said so."""
    if not _owner_file(path).exists():
        return None
    try:
        with FileLock(path / "lock", blocking=False):
            return None  # Whoever left word is gone.
    except Timeout:
        pass
    except OSError:
        return None
    try:
        owner = json.loads(_owner_file(path).read_text())
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _owner_file(path: Path) -> Path:
    return path / "owner.json"


def _lock(path: Path) -> FileLock:
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Whichever thread closes the workspace releases the lock, not only the one that took it.
        lock = FileLock(path / "lock", blocking=False, thread_local=False)
        lock.acquire()
        _owner_file(path).unlink(missing_ok=True)
    except Timeout as exc:
        owner = folder_owner(path) or {}
        where = f" by the app at {owner['url']} (process {owner['pid']})" if "url" in owner else ""
        raise DataFolderBusy(
            f"The data folder {path} is in use{where or ' by another process'}.",
            fix="Search there, stop it first, or set RANKSCOPE_DATA_DIR to another folder.",
        ) from exc
    except OSError as exc:
        raise DataFolderUnusable(
            f"The data folder {path} cannot be written: {exc.strerror}.",
            fix="Correct its permissions, or set RANKSCOPE_DATA_DIR to another folder.",
        ) from exc
    return lock
