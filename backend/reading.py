"""The first half of a run: what the sources hold now, compared with what the ledger knows.

Chunks that are to be written wait on disk, so that memory does not grow with the collection, the
number of chunks is known before the first is embedded, and each file is read just once.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO

from backend.errors import DataFolderUnusable
from backend.ingestion.chunking import chunks_of
from backend.ingestion.collection import Opened
from backend.ingestion.files import Skipped, SourceFile, TextFile, text_files
from backend.ingestion.sources.origin import Origin
from backend.ledger import COPY, INDEXED, Change, FileRecord
from backend.types import Chunk, IndexProgress

OnProgress = Callable[[IndexProgress], None]
_SAME_PATH = "another file of the same path"


@dataclass
class Reading:
    """What the sources hold, and what of it has changed."""

    waiting: IO[bytes]
    """The changes, one after the other."""
    skipped: Skipped = field(default_factory=Skipped)
    files: int = 0
    """Files with searchable text, those of equal content counted once."""
    chunks: int = 0
    """Chunks that wait."""
    changed: dict[str, int] = field(default_factory=dict)
    """Path to the number of changes that wait under it."""
    origins: dict[str, Origin] = field(default_factory=dict)
    """Source to where its files can be looked at."""
    left: list[FileRecord] = field(default_factory=list)
    """Files that the sources hold no longer."""
    added: int = 0
    altered: int = 0
    removed: int = 0
    """Files with searchable text that are new, hold something else, or are gone."""
    restamped: list[tuple[int, str]] = field(default_factory=list)
    """Files that were touched but hold what they held, with their new stamps."""

    @property
    def progress(self) -> IndexProgress:
        """How much there is."""
        return IndexProgress(phase="read", files=self.files, chunks_total=self.chunks)

    def changes(self) -> Iterator[Change]:
        """All that wait, in the order of the sources."""
        self.waiting.seek(0)
        for _ in range(sum(self.changed.values())):
            yield pickle.load(self.waiting)

    def wait(self, change: Change) -> None:
        """Let a change wait.

        Raises:
            DataFolderUnusable: There is no room for it.
        """
        try:
            pickle.dump(change, self.waiting, pickle.HIGHEST_PROTOCOL)
        except OSError as exc:
            raise DataFolderUnusable(
                f"Chunks cannot be written down: {exc.strerror}.", fix="Free some disk space."
            ) from exc
        self.changed[change.path] = self.changed.get(change.path, 0) + 1
        self.chunks += len(change.chunks)


def read(
    sources: Sequence[Opened],
    known: Iterable[FileRecord],
    waiting: IO[bytes],
    on_progress: OnProgress,
) -> Reading:
    """Read what is new or may have changed.

    Args:
        sources: Where the files come from. Of equal contents the first is indexed.
        known: The files as they are in the index.
        waiting: An empty file that the changes are written to.
        on_progress: Called with every file.
    """
    before = {(record.source, record.path): record for record in known}
    reading = Reading(waiting)
    digests: set[str] = set()
    for opened in sources:
        source = opened.source
        comparison = _Comparison(source.id, source.package, reading, digests)
        paths: set[str] = set()
        indexed: dict[str, str] = {}
        for file in source.files(reading.skipped):
            if file.path in paths:
                reading.skipped.add(_SAME_PATH, file.path)
                continue
            paths.add(file.path)
            digest = comparison.look(file, before.pop((source.id, file.path), None))
            if digest:
                indexed[file.path] = digest
                message = f"{source.package}: {file.path}"
                on_progress(replace(reading.progress, message=message))
        reading.origins[source.id] = source.origin(indexed)
    reading.left += before.values()
    reading.removed += sum(record.state == INDEXED for record in reading.left)
    return reading


@dataclass(frozen=True)
class _Comparison:
    """Compares the files of one source with what is known of them."""

    source: str
    package: str
    reading: Reading
    digests: set[str]
    """Contents that were seen, in this source and those before it."""

    def look(self, file: SourceFile, before: FileRecord | None) -> str:
        """Note what has changed in a file; returns its digest if it is indexed."""
        text: TextFile | None = None
        if before is not None and self._is_as_before(file, before):
            digest, state = before.digest, before.state
        else:
            text, state, read = _read(file)
            if not read:  # Left out by its name or size, or unreadable: to be looked at again.
                self._leave_out(file, state, before)
                return ""
            digest = text.digest if text else state
        if state in (INDEXED, COPY):
            state = COPY if digest in self.digests else INDEXED
            self.digests.add(digest)
        if before is not None and (before.digest, before.state) == (digest, state):
            if before.stamp != file.stamp:
                self.reading.restamped.append((before.id, file.stamp))
        else:
            self._change(file, digest, state, text)
            self._count(before is not None and before.state == INDEXED, state == INDEXED)
        if state != INDEXED:
            self.reading.skipped.add(state, file.path)
            return ""
        self.reading.files += 1
        return digest

    def _is_as_before(self, file: SourceFile, before: FileRecord) -> bool:
        """Whether a file need not be read."""
        if not (before.digest and file.stamp and before.stamp == file.stamp):
            return False
        # The copy of a file that is gone now is to be indexed after all.
        return before.state != COPY or before.digest in self.digests

    def _change(self, file: SourceFile, digest: str, state: str, text: TextFile | None) -> None:
        chunks: Sequence[Chunk] = ()
        if text is not None and state == INDEXED:
            chunks = chunks_of(text, source=self.source, package=self.package)
        self.reading.wait(
            Change(
                source=self.source,
                path=file.path,
                stamp=file.stamp,
                digest=digest,
                state=state,
                chunks=chunks,
                vectors=text.vectors if text is not None and chunks else None,
            )
        )

    def _count(self, was_indexed: bool, is_indexed: bool) -> None:
        self.reading.added += is_indexed and not was_indexed
        self.reading.altered += is_indexed and was_indexed
        self.reading.removed += was_indexed and not is_indexed

    def _leave_out(self, file: SourceFile, reason: str, before: FileRecord | None) -> None:
        self.reading.skipped.add(reason, file.path)
        if before is not None:
            self.reading.left.append(before)


def _read(file: SourceFile) -> tuple[TextFile | None, str, bool]:
    """The text of a file, or why it has none, and whether it could be read."""
    opened = []

    def read() -> bytes:
        data = file.read()
        opened.append(file)
        return data

    skipped = Skipped()
    for text in text_files([replace(file, read=read)], skipped):
        return text, INDEXED, True
    return None, next(iter(skipped)), bool(opened)
