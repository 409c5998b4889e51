"""What lies in an index: its files, and which chunks each of them gave.

The next run compares the sources with it, so that a file that has not changed costs a look at its
stamp. It is written before the index is: an index never holds a chunk that its ledger does not
know, whenever the process is killed. Vectors of chunks that left are kept for a while, for a file
that comes back, as when a branch is checked out again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from uuid import UUID

import numpy as np

from backend.errors import DataFolderUnusable, IndexDamaged
from backend.types import Chunk, ChunkId, FloatArray

INDEXED, COPY = "indexed", "identical to another file"
KEPT_VECTORS = 20_000
"""Vectors of chunks that left; 30 MB at 384 dimensions."""
_AT_ONCE = 500
"""Parameters of one statement, which SQLite limits."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, path TEXT NOT NULL, stamp TEXT NOT NULL,
    digest TEXT NOT NULL, state TEXT NOT NULL, chunks INTEGER NOT NULL, UNIQUE (source, path));
CREATE TABLE IF NOT EXISTS chunks (
    id BLOB PRIMARY KEY, file INTEGER NOT NULL, passage BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS chunks_of_file ON chunks (file);
CREATE INDEX IF NOT EXISTS chunks_of_passage ON chunks (passage);
CREATE TABLE IF NOT EXISTS kept (
    number INTEGER PRIMARY KEY, passage BLOB NOT NULL UNIQUE, vector BLOB NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file as it was indexed, or why it was not."""

    id: int
    source: str
    path: str
    stamp: str
    """What `SourceFile.stamp` was; empty when only reading tells whether the file has changed."""
    digest: str
    """Hash of its bytes; empty while it is being written, and if that was cut off."""
    state: str
    """`INDEXED`, `COPY`, or the reason why the file is skipped."""
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A file that is new or has changed, with its chunks as they are to be."""

    source: str
    path: str
    stamp: str
    digest: str
    state: str
    chunks: Sequence[Chunk]
    vectors: FloatArray | None = field(default=None, compare=False, repr=False)
    """Those of the chunks, where they arrived with them: unit norm, shape (chunks, dimension)."""


class Ledger:
    """The files and chunks of one index. For one thread at a time.

    Raises:
        IndexDamaged: The file is not a ledger.
        DataFolderUnusable: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def files(self) -> Iterator[FileRecord]:
        """All files."""
        with self._translated():
            for row in self._db.execute(
                "SELECT id, source, path, stamp, digest, state, chunks FROM files"
            ):
                yield FileRecord(**dict(zip(FileRecord.__slots__, row, strict=True)))

    def totals(self) -> Mapping[str, tuple[int, int]]:
        """Source to the number of its files that are indexed, and of their chunks."""
        with self._translated():
            rows = self._db.execute(
                "SELECT source, COUNT(*), SUM(chunks) FROM files WHERE state = ? GROUP BY source",
                (INDEXED,),
            )
            return {source: (files, chunks) for source, files, chunks in rows}

    def chunk_ids(self, file: int) -> list[ChunkId]:
        """The chunks that the index may hold of a file."""
        with self._translated():
            rows = self._db.execute("SELECT id FROM chunks WHERE file = ?", (file,))
            return [ChunkId(str(UUID(bytes=id))) for (id,) in rows]

    def begin(self, changes: Iterable[Change]) -> list[int]:
        """Note what is about to be written; until `finish`, the files count as changed.

        Returns:
            The number of each file.
        """
        numbers = []
        with self._transaction():
            for change in changes:
                (number,) = self._db.execute(
                    "INSERT INTO files (source, path, stamp, digest, state, chunks)"
                    " VALUES (?, ?, '', '', ?, ?) ON CONFLICT DO UPDATE"
                    " SET stamp = '', digest = '' RETURNING id",
                    (change.source, change.path, change.state, len(change.chunks)),
                ).fetchone()
                self._db.executemany(
                    "INSERT OR REPLACE INTO chunks (id, file, passage) VALUES (?, ?, ?)",
                    [
                        (UUID(chunk.id).bytes, number, passage_digest(chunk.passage))
                        for chunk in change.chunks
                    ],
                )
                numbers.append(number)
        return numbers

    def finish(self, changes: Iterable[Change]) -> None:
        """Note that files are in the index as they are now, and durably so."""
        with self._transaction():
            for change in changes:
                (number,) = self._db.execute(
                    "UPDATE files SET stamp = ?, digest = ?, state = ?, chunks = ?"
                    " WHERE source = ? AND path = ? RETURNING id",
                    (
                        *(change.stamp, change.digest, change.state, len(change.chunks)),
                        *(change.source, change.path),
                    ),
                ).fetchone()
                stay = {UUID(chunk.id).bytes for chunk in change.chunks}
                rows = self._db.execute("SELECT id FROM chunks WHERE file = ?", (number,))
                gone = [(id,) for (id,) in rows if id not in stay]
                self._db.executemany("DELETE FROM chunks WHERE id = ?", gone)

    def leave(self, files: Iterable[int]) -> None:
        """Note that files are about to leave; should they come back, they count as changed."""
        with self._transaction():
            self._db.executemany(
                "UPDATE files SET stamp = '', digest = '' WHERE id = ?", [(id,) for id in files]
            )

    def restamp(self, stamps: Iterable[tuple[int, str]]) -> None:
        """Note new stamps of files whose content is as it was."""
        with self._transaction():
            self._db.executemany(
                "UPDATE files SET stamp = ? WHERE id = ?",
                [(stamp, number) for number, stamp in stamps],
            )

    def forget(self, files: Iterable[int]) -> None:
        """Drop files whose chunks have left the index."""
        numbers = [(number,) for number in files]
        with self._transaction():
            self._db.executemany("DELETE FROM chunks WHERE file = ?", numbers)
            self._db.executemany("DELETE FROM files WHERE id = ?", numbers)

    def holders(self, passages: Sequence[bytes]) -> dict[bytes, ChunkId]:
        """For each passage digest that the index knows, a chunk that has it."""
        rows = self._among("SELECT passage, id FROM chunks WHERE passage", passages)
        return {passage: ChunkId(str(UUID(bytes=id))) for passage, id in rows}

    def keep(self, vectors: Mapping[ChunkId, FloatArray]) -> None:
        """Keep the vectors of chunks that are about to leave."""
        ids = [UUID(id).bytes for id in vectors]
        passages = dict(self._among("SELECT id, passage FROM chunks WHERE id", ids))
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO kept (passage, vector) VALUES (?, ?)",
                [
                    (passages[id], np.asarray(vector, "<f4").tobytes())
                    for id, vector in zip(ids, vectors.values(), strict=True)
                    if id in passages
                ],
            )

    def kept(self, passages: Sequence[bytes]) -> dict[bytes, FloatArray]:
        """Vectors of passages that were in the index before."""
        rows = self._among("SELECT passage, vector FROM kept WHERE passage", passages)
        return {passage: np.frombuffer(vector, "<f4") for passage, vector in rows}

    def trim(self) -> None:
        """Let go of the oldest kept vectors."""
        with self._transaction():
            self._db.execute(
                "DELETE FROM kept WHERE number <= (SELECT MAX(number) FROM kept) - ?",
                (KEPT_VECTORS,),
            )

    @property
    def unsettled(self) -> bool:
        """Whether something was written since the index was last optimized and put on record."""
        with self._translated():
            return bool(self._db.execute("PRAGMA user_version").fetchone()[0])

    def settle(self, *, settled: bool = True) -> None:
        """Note that nothing is, or that something will be."""
        with self._translated():
            self._db.execute(f"PRAGMA user_version = {int(not settled)}")

    def _among(self, query: str, values: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(part))
            with self._translated():
                yield from self._db.execute(f"{query} IN ({marks})", part).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._db.execute("BEGIN")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite ends it by itself when the disk is full.
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as exc:
            raise DataFolderUnusable(
                f"{self._path} cannot be written: {exc}.",
                fix="Check the data folder's permissions and the free disk space.",
            ) from exc
        except sqlite3.DatabaseError as exc:
            raise IndexDamaged(
                f"{self._path} cannot be read: {exc}.", fix="Index the collection again."
            ) from exc


def passage_digest(passage: str) -> bytes:
    """What stands for a passage: equal ones have one vector, wherever they stand."""
    return blake2b(passage.encode("utf-8", "surrogatepass"), digest_size=16).digest()
