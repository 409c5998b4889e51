"""The collections in a data folder: what is searched, and what an interrupted run left behind.

A collection is a folder of *generations*, each a whole index with the ledger of what lies in it,
and one `collection.json` that names the generation to search. What is searched is updated in place;
only what is made otherwise (another model, another chunker) is built beside it as a new generation,
and becomes current by replacing that file, which either happens or does not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from loguru import logger

from backend.errors import DataFolderUnusable, IndexDamaged, InvalidSource, UnknownCollection
from backend.types import CollectionInfo, IndexIdentity, SourceSummary

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RECORD, _IDENTITY, _KEPT = "collection.json", "identity.json", "keep-fresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What `collection.json` holds."""

    generation: str
    info: CollectionInfo


class Catalog:
    """Reads and changes the collections below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Collections that can be searched, by name."""
        return sorted(path.parent.name for path in self._folder.glob(f"*/{_RECORD}"))

    def record(self, name: str) -> Record:
        """Read what is known of a collection.

        Raises:
            UnknownCollection: There is none of that name.
            IndexDamaged: Its record cannot be read.
        """
        path = self._folder / name / _RECORD
        if _NAME.fullmatch(name) is None or not path.exists():
            raise self.unknown(name)
        try:
            return read_record(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise IndexDamaged(
                f"The record of collection {name!r} is damaged.", fix="Index it again."
            ) from exc

    def unknown(self, name: str) -> UnknownCollection:
        """What to raise when there is no collection of that name."""
        known = ", ".join(self.names()) or "none yet"
        return UnknownCollection(
            f"There is no collection {name!r}.",
            fix=f"Known collections: {known}. Make one with python -m backend index.",
        )

    def moved(self, name: str, generation: str) -> bool:
        """Whether another process has made another generation the one that is searched.

        None can: this one holds the data folder.
        """
        return False

    def close(self) -> None:
        """Nothing is held."""

    def infos(self) -> list[CollectionInfo]:
        """All collections whose record can be read, by name."""
        infos = []
        for name in self.names():
            try:
                infos.append(self.record(name).info)
            except IndexDamaged as exc:
                logger.warning("{why}", why=exc)
        return infos

    def index_folder(self, name: str, generation: str) -> Path:
        """Where the engine keeps a generation."""
        return self._folder / name / generation / "index"

    def ledger_file(self, name: str, generation: str) -> Path:
        """Where the files and chunks of a generation are noted."""
        return self._folder / name / generation / "ledger.sqlite"

    def scratch_file(self) -> IO[bytes]:
        """An empty file without a name, which is gone when it is closed.

        Raises:
            DataFolderUnusable: The folder cannot be written.
        """
        with _writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=self._folder)

    def check_name(self, name: str) -> None:
        """Refuse what cannot be a folder's name on every system.

        Raises:
            InvalidSource: The name cannot be a collection's.
        """
        if _NAME.fullmatch(name) is None:
            raise InvalidSource(
                f"{name!r} cannot name a collection.",
                fix="Use up to 64 letters, digits, '.', '_' and '-'; begin with a letter or digit.",
            )

    def begin(self, name: str, identity: IndexIdentity) -> str:
        """Make room for a new generation of a collection."""
        generation = f"generation-{uuid.uuid4().hex[:12]}"
        folder = self._folder / name / generation
        with _writing(folder):
            folder.mkdir(parents=True)
            (folder / _IDENTITY).write_text(json.dumps(asdict(identity)))
        return generation

    def generations(self, name: str) -> Iterator[tuple[str, IndexIdentity]]:
        """All generations of a collection, finished or not, with what they were made with."""
        for path in sorted(self._folder.glob(f"{name}/generation-*/{_IDENTITY}")):
            try:
                yield path.parent.name, IndexIdentity(**json.loads(path.read_bytes()))
            except (OSError, ValueError, TypeError):
                continue  # Cut off while it was begun: there is nothing in it.

    def searched_generation(self, name: str) -> str | None:
        """The generation on record, if there is one."""
        try:
            return self.record(name).generation
        except (UnknownCollection, IndexDamaged):
            return None

    def commit(self, name: str, record: Record) -> None:
        """Make a generation the one that is searched."""
        path = self._folder / name / _RECORD
        scratch = path.with_suffix(".part")
        with _writing(path):
            with scratch.open("w") as file:
                json.dump(asdict(record), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)

    def keep_fresh(self, name: str, *, on: bool) -> None:
        """Note on this machine whether a collection is to follow its folders."""
        note = self._folder / name / _KEPT
        with _writing(note):
            if on:
                note.parent.mkdir(parents=True, exist_ok=True)
                note.touch()
            else:
                note.unlink(missing_ok=True)

    def is_kept_fresh(self, name: str) -> bool:
        """Whether that was noted."""
        return (self._folder / name / _KEPT).exists()

    def discard_earlier(self, name: str) -> None:
        """Delete all generations but the current one."""
        keep = self.record(name).generation
        for path in self._folder.glob(f"{name}/generation-*"):
            if path.name != keep:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise DataFolderUnusable(
            f"{path} cannot be written: {exc.strerror}.",
            fix="Check the data folder's permissions and the free disk space.",
        ) from exc


def read_record(data: dict[str, Any]) -> Record:
    """What `asdict` made of a record."""
    info = data["info"]
    return Record(
        generation=data["generation"],
        info=CollectionInfo(
            **{
                **info,
                "sources": tuple(
                    SourceSummary(**{**source, "unlinked": tuple(source.get("unlinked", ()))})
                    for source in info["sources"]
                ),
                "identity": IndexIdentity(**info["identity"]),
            }
        ),
    )
