"""Archives that are read in place: nothing of them is ever unpacked."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from backend.errors import InvalidSource, UnsafeArchive
from backend.ingestion.files import Skipped, SourceFile
from backend.ingestion.sources.source import tree_order
from backend.wheels import parse_requirement

MAX_ARCHIVE_BYTES = 2_000_000_000
MAX_ARCHIVE_RATIO = 200
"""Unpacked to packed size of the whole archive; ordinary wheels stay below 20."""
_DAMAGED = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What `zipfile` raises when an archive is not what it says; RuntimeError is for encryption."""


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

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
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
            for member in sorted(members, key=lambda m: tree_order(m.filename)):
                if stat.S_ISLNK(member.external_attr >> 16):
                    skipped.add("symbolic link", member.filename)
                    continue
                yield SourceFile(
                    member.filename, member.file_size, partial(_read_member, archive, member)
                )


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
