"""The collections on a Qdrant server: whoever points at it sees the same.

A generation is a collection of the server, whose metadata says what it was made with and, once it
is searched, what it holds; an alias names the one that is searched. So nothing about a collection
is on this machine alone but the ledger of a generation that it built itself, which it can therefore
update in place; another machine, which has none, builds the next generation. One machine at a time
may index a collection: the server does not keep others from it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loguru import logger
from qdrant_client import models

from backend.catalog import Catalog, Record, read_record
from backend.errors import IndexDamaged, StoreError
from backend.store.connection import QdrantServer
from backend.types import CollectionInfo, IndexIdentity

PREFIX = "rankscope."
"""Of all names on the server: other applications may use it too."""
FRESH_S = 1.0
"""Seconds for which what the server said about its collections is believed."""
_MADE, _RECORD = "rankscope", "rankscope_record"


class ServerCatalog(Catalog):
    """Reads and changes the collections of one server.

    Args:
        server: Where they are.
        folder: Of this machine, for ledgers.
    """

    def __init__(self, server: QdrantServer, folder: Path) -> None:
        super().__init__(folder)
        self._server = server
        self._known: tuple[float, Mapping[str, str]] = (0.0, {})
        self._infos: list[CollectionInfo] = []

    def names(self) -> list[str]:
        return sorted(self._searched())

    def record(self, name: str) -> Record:
        searched = self._searched().get(name)
        if searched is None:
            raise self.unknown(name)
        try:
            return read_record(self._metadata(searched)[_RECORD])
        except (KeyError, TypeError, ValueError) as exc:
            raise IndexDamaged(
                f"The record of collection {name!r} on the server is damaged.",
                fix="Index it again.",
            ) from exc

    def infos(self) -> list[CollectionInfo]:
        """All collections whose record can be read; while the server is down, the last ones."""
        try:
            self._infos = super().infos()
        except StoreError as exc:
            logger.warning("{why}", why=exc)
        return self._infos

    def moved(self, name: str, generation: str) -> bool:
        self._known = (0.0, {})
        return self._searched().get(name) != server_name(name, generation)

    def close(self) -> None:
        self._server.close()

    def generations(self, name: str) -> Iterator[tuple[str, IndexIdentity]]:
        for held in self._collections(name):
            made = self._metadata(held).get(_MADE, {})
            try:
                if made["collection"] == name:
                    yield made["generation"], IndexIdentity(**made["identity"])
            except (KeyError, TypeError):
                continue  # Somebody else's.

    def commit(self, name: str, record: Record) -> None:
        searched = server_name(name, record.generation)
        self._server.ask(
            lambda client: client.update_collection(searched, metadata={_RECORD: asdict(record)})
        )
        self._switch(PREFIX + name, searched)
        self._known = (0.0, {})

    def discard_earlier(self, name: str) -> None:
        """Delete what this machine built and nobody searches; others may still be building."""
        keep = self.record(name).generation
        for path in self._folder.glob(f"{name}/generation-*"):
            if path.name != keep:
                self._drop(server_name(name, path.name))
        super().discard_earlier(name)

    def _switch(self, alias: str, searched: str) -> None:
        """Let the alias name another collection, in one step; the one before is deleted."""
        before = self._aliases().get(alias)
        if before == searched:
            return
        steps: list[models.AliasOperations] = [
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name=searched, alias_name=alias)
            )
        ]
        if before is not None:
            gone = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
            steps.insert(0, gone)
        self._server.ask(lambda client: client.update_collection_aliases(steps))
        if before is not None:
            self._drop(before)

    def _drop(self, held: str) -> None:
        self._server.ask(lambda client: client.delete_collection(held))

    def _searched(self) -> Mapping[str, str]:
        """Collection to what the server calls its searched generation."""
        until, known = self._known
        if time.monotonic() > until:
            known = {
                alias.removeprefix(PREFIX): name
                for alias, name in self._aliases().items()
                if alias.startswith(PREFIX)
            }
            self._known = (time.monotonic() + FRESH_S, known)
        return known

    def _aliases(self) -> dict[str, str]:
        listed = self._server.ask(lambda client: client.get_aliases()).aliases
        return {one.alias_name: one.collection_name for one in listed}

    def _collections(self, name: str) -> list[str]:
        listed = self._server.ask(lambda client: client.get_collections()).collections
        return sorted(one.name for one in listed if one.name.startswith(f"{PREFIX}{name}."))

    def _metadata(self, held: str) -> Mapping[str, Any]:
        config = self._server.ask(lambda client: client.get_collection(held)).config
        return config.metadata or {}


def server_name(name: str, generation: str) -> str:
    """What the server calls a generation of a collection."""
    return f"{PREFIX}{name}.{generation}"


def made_with(name: str, generation: str, identity: IndexIdentity) -> dict[str, Any]:
    """The metadata that a generation begins with."""
    made = {"collection": name, "generation": generation, "identity": asdict(identity)}
    return {_MADE: made}
