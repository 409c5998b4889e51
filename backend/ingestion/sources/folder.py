"""A folder on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from backend.errors import InvalidSource
from backend.ingestion.files import Skipped, SourceFile, decode
from backend.ingestion.skipping import MAX_FILE_BYTES
from backend.ingestion.sources.checkout import checkout_origin
from backend.ingestion.sources.ignoring import GIT_IGNORE, OWN_IGNORE, Scope
from backend.ingestion.sources.origin import Origin
from backend.ingestion.sources.source import readable, stamp


@dataclass(frozen=True)
class Folder:
    """A folder and all below it that `.gitignore` and `.rankscopeignore` do not leave out.

    Raises:
        InvalidSource: It does not exist or is not a folder.
    """

    root: Path

    def __post_init__(self) -> None:
        found = existing(self.root, "folder")
        if not found.is_dir():
            raise InvalidSource(f"{found} is not a folder.", fix="Name the folder it lies in.")
        object.__setattr__(self, "root", found)

    @property
    def id(self) -> str:
        return f"dir:{readable(self.root.as_posix())}"

    @property
    def package(self) -> str:
        return readable(self.root.name)

    def origin(self, digests: Mapping[str, str]) -> Origin:
        """The commit that is checked out, if it is a git work tree."""
        return checkout_origin(self.root, digests)

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        """Walk the folder; links are not followed.

        Raises:
            InvalidSource: The folder itself cannot be listed, at the latest when all of it has been
                gone through: an index is not to be emptied because a disk was unplugged.
        """
        depths = [self._entries("", Scope(), skipped)]
        while depths:
            found = next(depths[-1], None)
            if found is None:
                depths.pop()
            elif isinstance(found, SourceFile):
                yield found
            else:
                depths.append(self._entries(*found, skipped))
        try:
            os.scandir(self.root).close()
        except OSError as exc:
            raise InvalidSource(
                f"The folder {readable(str(self.root))!r} cannot be read: {exc.strerror}.",
                fix="Check the path and its permissions.",
            ) from exc

    def concerns(self, path: Path) -> bool:
        """Whether what happens at an absolute path may change what `files` yields."""
        try:
            *folders, name = path.relative_to(self.root).parts
        except ValueError:
            return False
        if name in (GIT_IGNORE, OWN_IGNORE):
            return True
        scope, place = self._scope("", Scope()), ""
        for part in folders:
            place += f"{part}/"
            if scope.leaves_out(place):
                return False
            scope = self._scope(place, scope)
        return not scope.leaves_out(place + name)

    def _scope(self, folder: str, outer: Scope) -> Scope:
        files = [self.root / folder / name for name in (GIT_IGNORE, OWN_IGNORE)]
        return outer.within(
            folder, [_text(file) for file in files if file.is_file() and not file.is_symlink()]
        )

    def _entries(
        self, folder: str, scope: Scope, skipped: Skipped
    ) -> Iterator[SourceFile | tuple[str, Scope]]:
        """Files of one folder, given as `""` or `a/b/`, and the folders in it with their scope."""
        try:
            with os.scandir(self.root / folder) as found:
                entries = sorted(found, key=lambda entry: (not _is_folder(entry), entry.name))
        except OSError:
            skipped.add("unreadable", readable(folder))
            return
        scope = scope.within(
            folder,
            [
                _text(Path(entry.path))
                for entry in entries  # By name: our own file comes after git's, and overrides it.
                if entry.name in (GIT_IGNORE, OWN_IGNORE) and entry.is_file(follow_symlinks=False)
            ],
        )
        for entry in entries:
            path = folder + entry.name + ("/" if _is_folder(entry) else "")
            reason = "symbolic link" if entry.is_symlink() else scope.leaves_out(path)
            if reason:
                skipped.add(reason, readable(path))
            elif _is_folder(entry):
                yield path, scope
            elif not entry.is_file(follow_symlinks=False):
                skipped.add("not a regular file", readable(path))
            else:
                try:
                    facts = entry.stat(follow_symlinks=False)
                except OSError:  # It vanished since the folder was listed.
                    skipped.add("unreadable", readable(path))
                    continue
                read = Path(entry.path).read_bytes
                yield SourceFile(readable(path), facts.st_size, read, stamp=stamp(facts))


def existing(path: Path, what: str) -> Path:
    """The absolute path of something that a user named.

    Raises:
        InvalidSource: It does not exist.
    """
    try:
        return path.expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as exc:
        raise InvalidSource(
            f"There is no {what} {readable(str(path))!r}.", fix="Check the path."
        ) from exc


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _text(path: Path) -> str:
    """An ignore file; one that is too large to be one says nothing."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError:
        return ""
    return (decode(data) or "") if len(data) <= MAX_FILE_BYTES else ""
