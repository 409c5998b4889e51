"""Archives, read in place: nothing of them is unpacked to where it says it belongs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TypeAlias

from backend.errors import InvalidSource, SourceUnavailable, UnsafeArchive
from backend.ingestion.files import MAC_FOLDER, Skipped, SourceFile, decode
from backend.ingestion.skipping import MAX_FILE_BYTES
from backend.ingestion.sources.ignoring import GIT_IGNORE, OWN_IGNORE, select
from backend.ingestion.sources.origin import NOWHERE, Origin
from backend.ingestion.sources.source import readable

MAX_ARCHIVE_BYTES = 2_000_000_000
MAX_ARCHIVE_RATIO = 200
"""Unpacked to packed size of the whole archive; ordinary wheels stay below 20."""
MAX_ARCHIVE_FILES = 300_000
_MAX_READ = 32_000_000
"""Bytes read at once: enough for the directory of any archive that is not refused."""
_BLOCK = 1 << 20
_DAMAGED = (
    *(OSError, EOFError, ValueError, ArithmeticError, RuntimeError, zlib.error, lzma.LZMAError),
    *(zipfile.BadZipFile, tarfile.TarError),
)
"""What archives raise that are not what they say; `RuntimeError` is encryption, or depth."""
_Stream: TypeAlias = gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile
_COMPRESSED: Mapping[bytes, Callable[[IO[bytes]], _Stream]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}
"""First bytes of a compressed tar archive, and what reads it."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of an archive."""

    size: int
    read: Callable[[], bytes]


_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_SUFFIX = re.compile(r"(?:\.(?:zip|whl|tar|tgz|gz|bz2|xz))+$", re.IGNORECASE)


@dataclass(frozen=True)
class Archive:
    """A zip or tar archive on disk. A single folder that holds all of it is left off its paths."""

    path: Path
    """Whether it is zip or tar is told by its content."""
    id: str
    package: str
    ignore_files: tuple[str, ...] = (GIT_IGNORE, OWN_IGNORE)
    remedy: str = "Make or download it again."
    """What to do if it is damaged."""

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        """Read from the open archive.

        Raises:
            InvalidSource: It is damaged, or no archive.
            UnsafeArchive: A name leaves the archive's root, or it unpacks to too much.
        """
        with ExitStack() as opened:
            try:
                file = opened.enter_context(_Bounded(io.FileIO(self.path)))
                read = _zip_members if file.peek(2)[:2] == b"PK" else _tar_members
                members = _without_root(read(file, opened, skipped))
            except _DAMAGED as exc:
                raise InvalidSource(
                    f"The archive {self.path.name} is damaged, or not a zip or tar archive.",
                    fix=self.remedy,
                ) from exc

            def text(path: str) -> str:
                try:
                    small = members[path].size <= MAX_FILE_BYTES
                    return (decode(members[path].read()) or "") if small else ""
                except OSError:
                    return ""

            for path in select(members, ignore_files=self.ignore_files, read=text, skipped=skipped):
                yield SourceFile(path, members[path].size, members[path].read)

    def origin(self, digests: Mapping[str, str]) -> Origin:
        """An archive is of no known origin."""
        return NOWHERE


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive."""
    return _SUFFIX.search(path.name) is not None


def package_name(path: Path) -> str:
    """The archive's name without its endings."""
    return readable(_SUFFIX.sub("", path.name)) or readable(path.name)


class _Bounded(io.BufferedReader):
    """A file of which nobody reads much at once, whatever a header claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        asked = -1 if size is None else size
        if asked > _MAX_READ or len(data := super().read(min(asked, _MAX_READ + 1))) > _MAX_READ:
            raise ValueError("a part of the archive is too large")
        return data


def _zip_members(file: _Bounded, opened: ExitStack, skipped: Skipped) -> dict[str, _Member]:
    archive = opened.enter_context(zipfile.ZipFile(file))
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    _check_number(len(entries))
    packed = sum(entry.compress_size for entry in entries)
    _check_size(sum(entry.file_size for entry in entries), packed)
    members = {}
    for entry in entries:
        path, kind = _path(entry.filename), stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            skipped.add("symbolic link" if kind == stat.S_IFLNK else "not a regular file", path)
        else:  # Of a name that stands there twice the last one counts, as with unzip.
            members[path] = _Member(entry.file_size, partial(_read_zipped, archive, entry))
    return members


def _tar_members(file: _Bounded, opened: ExitStack, skipped: Skipped) -> dict[str, _Member]:
    tar = _unpacked(file, opened)
    archive = opened.enter_context(tarfile.TarFile(fileobj=tar))
    members, total = {}, 0
    for number, entry in enumerate(archive, start=1):
        _check_number(number)
        if entry.isdir():
            continue
        path = _path(entry.name)
        total += entry.size
        _check_size(total, MAX_ARCHIVE_BYTES)
        if entry.issym() or entry.islnk():
            skipped.add("symbolic link" if entry.issym() else "hard link", path)
        elif not entry.isfile():
            skipped.add("not a regular file", path)
        else:
            members[path] = _Member(entry.size, partial(_read_tarred, archive, entry))
    return members


def _unpacked(file: _Bounded, opened: ExitStack) -> IO[bytes]:
    """The tar file itself: from within a compressed one it is copied to an unnamed file."""
    begin = file.peek(8)
    unpack = next((of for magic, of in _COMPRESSED.items() if begin.startswith(magic)), None)
    if unpack is None:
        return file
    packed = file.seek(0, io.SEEK_END)
    file.seek(0)
    plain = opened.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
    with unpack(file) as stream:
        while block := stream.read(_BLOCK):
            _check_size(plain.tell() + len(block), packed)
            try:
                plain.write(block)
            except OSError as exc:
                raise SourceUnavailable(
                    f"The archive cannot be unpacked in {tempfile.gettempdir()}: {exc.strerror}.",
                    fix="Make room there, or set TMPDIR to another folder.",
                ) from exc
    plain.seek(0)
    return _Bounded(plain)


def _path(name: str) -> str:
    """The path of a member below the archive's root.

    Raises:
        UnsafeArchive: It lies outside.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or _DRIVE.match(name):
        raise UnsafeArchive(
            f"The archive names a file outside its root: {readable(name)[:200]!r}.",
            fix="Do not use this archive.",
        )
    return readable(path.as_posix())


def _check_size(unpacked: int, packed: int) -> None:
    if unpacked > MAX_ARCHIVE_BYTES or unpacked > MAX_ARCHIVE_RATIO * max(packed, 100_000):
        raise UnsafeArchive(
            f"The archive unpacks to {unpacked / 1e6:,.0f} MB or more.",
            fix=f"Archives may unpack to {MAX_ARCHIVE_BYTES / 1e6:,.0f} MB and"
            f" {MAX_ARCHIVE_RATIO} times their size.",
        )


def _check_number(files: int) -> None:
    if files > MAX_ARCHIVE_FILES:
        raise UnsafeArchive(
            f"The archive holds more than {MAX_ARCHIVE_FILES:,} files.",
            fix="Unpack it, and index the folder that matters.",
        )


def _without_root(members: dict[str, _Member]) -> dict[str, _Member]:
    """Take off the one folder that holds everything, such as `project-1.0`.

    What macOS puts beside it into a zip does not count.
    """
    roots = {path.partition("/")[0] for path in members} - {MAC_FOLDER}
    root = f"{min(roots, default='')}/"
    if len(roots) != 1 or not all(path.startswith((root, f"{MAC_FOLDER}/")) for path in members):
        return members
    return {path.removeprefix(root): member for path, member in members.items()}


def _read_zipped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Read a file of an archive.

    Raises:
        OSError: It is damaged, encrypted, or compressed in a way that is not supported.
    """
    try:
        return archive.read(entry)
    except _DAMAGED as exc:
        raise OSError(f"{entry.filename} cannot be unpacked") from exc


def _read_tarred(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    """Likewise for tar."""
    try:
        content = archive.extractfile(entry)
        assert content is not None  # Only regular files come here.
        with content:
            return content.read()
    except _DAMAGED as exc:
        raise OSError(f"{entry.name} cannot be read") from exc
