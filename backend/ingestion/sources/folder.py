"""A folder on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pathspec

from backend.errors import InvalidSource
from backend.ingestion.files import SKIPPED_FOLDERS, Skipped, SourceFile
from backend.ingestion.sources.source import readable

_IGNORE_FILES = (".gitignore", ".rankscopeignore")


@dataclass(frozen=True)
class Folder:
    """A folder and all below it that `.gitignore` and `.rankscopeignore` do not leave out.

    Raises:
        InvalidSource: It does not exist or is not a folder.
    """

    root: Path

    def __post_init__(self) -> None:
        try:
            found = self.root.expanduser().resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as exc:
            raise InvalidSource(
                f"There is no folder {str(self.root)!r}.", fix="Check the path."
            ) from exc
        if not found.is_dir():
            raise InvalidSource(f"{found} is not a folder.", fix="Name the folder it lies in.")
        object.__setattr__(self, "root", found)

    @property
    def id(self) -> str:
        return f"dir:{readable(self.root.as_posix())}"

    @property
    def package(self) -> str:
        return readable(self.root.name)

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        return self._walk(self.root, [], skipped)

    def _walk(
        self,
        folder: Path,
        ignores: list[tuple[Path, pathspec.GitIgnoreSpec]],
        skipped: Skipped,
    ) -> Iterator[SourceFile]:
        try:
            entries = sorted(
                os.scandir(folder), key=lambda entry: (not _is_folder(entry), entry.name)
            )
        except OSError:
            skipped.add("unreadable", self._name(folder))
            return
        ignores = ignores + [
            (folder, pathspec.GitIgnoreSpec.from_lines(_lines(Path(entry.path))))
            for entry in entries
            if entry.name in _IGNORE_FILES and entry.is_file(follow_symlinks=False)
        ]
        for entry in entries:
            path = Path(entry.path)
            name = self._name(path)
            if entry.is_symlink():
                skipped.add("symbolic link", name)
            elif _is_ignored(path, _is_folder(entry), ignores):
                skipped.add("ignored", name)
            elif _is_folder(entry):
                if entry.name in SKIPPED_FOLDERS:
                    skipped.add("tool or dependency folder", name)
                else:
                    yield from self._walk(path, ignores, skipped)
            elif not entry.is_file(follow_symlinks=False):
                skipped.add("not a regular file", name)
            else:
                try:
                    size = entry.stat(follow_symlinks=False).st_size
                except OSError:  # It vanished since the folder was listed.
                    skipped.add("unreadable", name)
                    continue
                yield SourceFile(name, size, path.read_bytes)

    def _name(self, path: Path) -> str:
        return readable(path.relative_to(self.root).as_posix())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _is_ignored(
    path: Path, is_folder: bool, ignores: list[tuple[Path, pathspec.GitIgnoreSpec]]
) -> bool:
    """The innermost ignore file that says anything about a path decides, as in git."""
    for base, spec in reversed(ignores):
        relative = path.relative_to(base).as_posix() + ("/" if is_folder else "")
        verdict = spec.check_file(relative).include
        if verdict is not None:
            return verdict
    return False


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
