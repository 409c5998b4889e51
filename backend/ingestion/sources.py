"""Where files come from: a wheel, an installed distribution, a folder."""

from __future__ import annotations

import importlib.metadata
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

import pathspec

from backend.errors import InvalidSource, SourceUnavailable, UnsafeArchive
from backend.ingestion.files import SKIPPED_FOLDERS, SourceFile
from backend.wheels import fetch_wheel, parse_requirement

MAX_ARCHIVE_BYTES = 2_000_000_000
MAX_ARCHIVE_RATIO = 200
"""Unpacked to packed size of the whole archive; ordinary wheels stay below 20."""
_DAMAGED = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What `zipfile` raises when an archive is not what it says; RuntimeError is for encryption."""
_IGNORE_FILES = (".gitignore", ".rankscopeignore")


class Source(Protocol):
    """Files under one root, named for their origin."""

    @property
    def id(self) -> str:
        """Such as `pypi:qdrant-client==1.20.0`."""
        ...

    @property
    def package(self) -> str:
        """The short name that filters use."""
        ...

    def files(self, skipped: Counter[str]) -> Iterator[SourceFile]:
        """All files, folders first, by name; those left out unseen are counted in `skipped`."""
        ...


def parse_source(spec: str, *, downloads: Path) -> Source:
    """Open what a user or a collection's manifest names.

    Args:
        spec: `pypi:name==version`, `installed:name`, `dir:folder`, or a folder's path.
        downloads: Where fetched archives are kept.

    Raises:
        InvalidSource: It is none of these, or the folder does not exist.
        SourceUnavailable: The package cannot be had.
    """
    scheme, _, rest = spec.partition(":")
    try:
        if scheme == "pypi":
            return Wheel(rest, fetch_wheel(rest, downloads))
        if scheme == "installed":
            return Installed(rest)
    except ValueError as exc:
        raise InvalidSource(
            f"The source {spec!r} cannot be read: {exc}.",
            fix="Name a pinned release, such as pypi:qdrant-client==1.20.0.",
        ) from exc
    folder = rest if scheme == "dir" else spec
    if not folder.strip():
        raise InvalidSource("No folder was named.", fix="Name one; `.` is the current folder.")
    return Folder(Path(folder))


@dataclass(frozen=True)
class Wheel:
    """A wheel that lies on disk; its files are read in place and never unpacked."""

    requirement: str
    archive: Path

    @property
    def id(self) -> str:
        return f"pypi:{self.requirement}"

    @property
    def package(self) -> str:
        return parse_requirement(self.requirement)[0]

    def files(self, skipped: Counter[str]) -> Iterator[SourceFile]:
        """Read from the open archive; each file while the iterator stands at it.

        Raises:
            UnsafeArchive: A name leaves the archive's root, or it unpacks to too much.
        """
        try:
            archive = zipfile.ZipFile(self.archive)
        except _DAMAGED as exc:
            raise InvalidSource(
                f"The archive {self.archive.name} is damaged.",
                fix=f"Delete {self.archive} and index again: it is fetched anew.",
            ) from exc
        with archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_archive(members, self.archive.name)
            for member in sorted(members, key=lambda m: _tree_order(m.filename)):
                if stat.S_ISLNK(member.external_attr >> 16):
                    skipped["symbolic link"] += 1
                    continue
                yield SourceFile(
                    member.filename, member.file_size, partial(_read_member, archive, member)
                )


@dataclass(frozen=True)
class Installed:
    """A distribution of the running Python, for when its wheel cannot be fetched."""

    name: str

    @property
    def id(self) -> str:
        return f"installed:{self.name}=={self._distribution().version}"

    @property
    def package(self) -> str:
        return self.name

    def files(self, skipped: Counter[str]) -> Iterator[SourceFile]:
        for entry in sorted(self._distribution().files or (), key=lambda e: _tree_order(str(e))):
            path = Path(str(entry.locate()))
            if ".." in entry.parts or not path.is_file() or path.is_symlink():
                continue  # Scripts in bin/, and files that were removed after the installation.
            yield SourceFile(entry.as_posix(), path.stat().st_size, path.read_bytes)

    def _distribution(self) -> importlib.metadata.Distribution:
        try:
            return importlib.metadata.distribution(self.name)
        except (importlib.metadata.PackageNotFoundError, ValueError) as exc:
            raise SourceUnavailable(
                f"{self.name} is not installed.", fix=f"Run pip install {self.name}."
            ) from exc


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
        return f"dir:{_readable(self.root.as_posix())}"

    @property
    def package(self) -> str:
        return _readable(self.root.name)

    def files(self, skipped: Counter[str]) -> Iterator[SourceFile]:
        return self._walk(self.root, [], skipped)

    def _walk(
        self,
        folder: Path,
        ignores: list[tuple[Path, pathspec.GitIgnoreSpec]],
        skipped: Counter[str],
    ) -> Iterator[SourceFile]:
        try:
            entries = sorted(
                os.scandir(folder), key=lambda entry: (not _is_folder(entry), entry.name)
            )
        except OSError:
            skipped["unreadable"] += 1
            return
        ignores = ignores + [
            (folder, pathspec.GitIgnoreSpec.from_lines(_lines(Path(entry.path))))
            for entry in entries
            if entry.name in _IGNORE_FILES and entry.is_file(follow_symlinks=False)
        ]
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink():
                skipped["symbolic link"] += 1
            elif _is_ignored(path, _is_folder(entry), ignores):
                skipped["ignored"] += 1
            elif _is_folder(entry):
                if entry.name in SKIPPED_FOLDERS:
                    skipped["tool or dependency folder"] += 1
                else:
                    yield from self._walk(path, ignores, skipped)
            elif not entry.is_file(follow_symlinks=False):
                skipped["not a regular file"] += 1
            else:
                name = _readable(path.relative_to(self.root).as_posix())
                try:
                    size = entry.stat(follow_symlinks=False).st_size
                except OSError:  # It vanished since the folder was listed.
                    skipped["unreadable"] += 1
                    continue
                yield SourceFile(name, size, path.read_bytes)


def _readable(path: str) -> str:
    """A path as text: bytes of its name that are not UTF-8 become U+FFFD."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


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


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read a file of an archive.

    Raises:
        OSError: It is damaged, encrypted, or compressed in a way that is not supported.
    """
    try:
        return archive.read(member)
    except _DAMAGED as exc:
        raise OSError(f"{member.filename} cannot be unpacked") from exc


def _check_archive(members: list[zipfile.ZipInfo], name: str) -> None:
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.filename.split("/")[0]:
            raise UnsafeArchive(
                f"{name} names a file outside its root.", fix="Do not use this archive."
            )
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if unpacked > MAX_ARCHIVE_BYTES or unpacked > MAX_ARCHIVE_RATIO * max(packed, 100_000):
        raise UnsafeArchive(
            f"{name} unpacks to {unpacked / 1e6:,.0f} MB.",
            fix=f"Archives may unpack to {MAX_ARCHIVE_BYTES / 1e6:,.0f} MB and"
            f" {MAX_ARCHIVE_RATIO} times their size.",
        )


def _tree_order(path: str) -> list[tuple[bool, str]]:
    """Folders before files, each by name: a package's own copy comes before one at the root."""
    parts = path.split("/")
    return [(False, part) for part in parts[:-1]] + [(True, parts[-1])]
