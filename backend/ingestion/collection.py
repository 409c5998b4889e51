"""A collection's manifest, and opening the sources it names."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from loguru import logger

from backend.errors import InvalidSource, SourceUnavailable
from backend.ingestion.files import Skipped, SourceFile
from backend.ingestion.sources.origin import NOWHERE, Origin
from backend.ingestion.sources.packages import Installed
from backend.ingestion.sources.parse import (
    SCHEMES,
    anchored,
    expanded,
    parse_source,
    split_spec,
    with_options,
)
from backend.ingestion.sources.repository import fetched_before
from backend.ingestion.sources.source import Source
from backend.wheels import parse_requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FETCHES = 4  # Fetching waits for the network, not for a core.
_KEYS = ("name", "description", "sources")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a collection is made of."""

    name: str
    description: str
    sources: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a TOML file with `name`, `description` and a list of `sources`.

        A source is a spec, or a table of its spec as `source` and its options. Paths that are not
        absolute begin at the manifest's folder.

        Raises:
            InvalidSource: The file is missing, not TOML, or does not hold just that.
        """
        try:
            if path.stat().st_size > 1_000_000:
                raise ValueError("it is larger than 1 MB")
            data = tomllib.loads(path.read_text("utf-8"))
            unknown = sorted(set(data) - set(_KEYS))
            if unknown:
                raise ValueError(f"{unknown[0]!r} is none of its keys")
            name, description = (_string(data, key) for key in _KEYS[:2])
            rows = data.get("sources")
            if not isinstance(rows, list) or not rows:
                raise ValueError("sources is not a list that names any")
            specs = [_spec(row, number) for number, row in enumerate(rows, start=1)]
        except (OSError, ValueError, RecursionError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            raise InvalidSource(
                f"The manifest {path} cannot be read: {why}.",
                fix="It needs name, description and a list of sources.",
            ) from exc
        folder = path.resolve().parent
        sources = tuple(anchored(spec, folder) for spec in specs)
        return cls(name=name, description=description, sources=sources)


def is_manifest(source: str) -> bool:
    """Whether what a user names is the path of a manifest."""
    try:
        return source.endswith(".toml") and Path(source).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def collection_name(source: Source) -> str:
    """What a collection of this source is called if nobody says: its name, fit for a folder's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", source.package).strip("-._")[:64]


@dataclass(frozen=True, slots=True)
class Opened:
    """A source, as what it was asked for, and a note where it is not that."""

    source: Source
    note: str = ""
    asked: str = ""
    """What asks for it again, be it a later version or the one that could not be had; empty where
    its own id does."""


@dataclass(frozen=True)
class Missing:
    """Stands for a source that could not be had, so that its absence is on record."""

    id: str

    @property
    def package(self) -> str:
        return self.id.partition(":")[2].partition("==")[0]

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        return iter(())

    def origin(self, digests: Mapping[str, str]) -> Origin:
        return NOWHERE


def open_sources(
    specs: Sequence[str], *, downloads: Path, on_fetched: Callable[[str], None]
) -> list[Opened]:
    """Open several sources; one that cannot be fetched is replaced by what is here of it.

    That is what an earlier fetch of the same branch brought, or the installed package.

    Args:
        specs: As `parse_source` takes them.
        downloads: Where fetched archives and repositories are kept.
        on_fetched: Called with each source's name when it is there.

    Returns:
        The sources in the order asked for, each once, with a note where one is replaced or missing.

    Raises:
        InvalidSource: A source is malformed or does not exist.
        SourceUnavailable: None of them could be had.
    """

    def open_one(spec: str) -> list[Opened] | SourceUnavailable:
        try:
            return [
                Opened(parse_source(one, downloads=downloads), asked=_asked(one))
                for one in expanded(spec)
            ]
        except SourceUnavailable as exc:
            logger.warning("{why}", why=exc)
            instead = _instead(spec, exc, downloads)
            return [instead] if instead else exc
        finally:
            on_fetched(spec)

    with ThreadPoolExecutor(_FETCHES) as pool:
        results = list(pool.map(open_one, specs))
    errors = [result for result in results if isinstance(result, SourceUnavailable)]
    if len(errors) == len(specs):
        raise errors[0]
    opened = [
        [Opened(Missing(spec), result.message)] if isinstance(result, SourceUnavailable) else result
        for spec, result in zip(specs, results, strict=True)
    ]
    named: dict[str, Opened] = {}
    for one in chain.from_iterable(opened):
        named.setdefault(one.source.id, one)
    return list(named.values())


def _asked(spec: str) -> str:
    """A spec, unless where it leads depends on where it is read, as with a path."""
    return "" if SCHEMES[split_spec(spec)[0]].local else spec


def _instead(spec: str, why: SourceUnavailable, downloads: Path) -> Opened | None:
    scheme, rest = split_spec(spec)
    if scheme == "git" and (before := fetched_before(rest, downloads)) is not None:
        note = f"{why.message} This is {before.commit[:12]}, fetched earlier."
        return Opened(before, note, asked=spec)
    if scheme != "pypi":
        return None
    source = Installed(parse_requirement(rest)[0])
    try:
        installed = source.id.partition(":")[2]
    except SourceUnavailable:
        return None
    note = f"{spec} could not be fetched; this is the installed {installed}."
    return Opened(source, note, asked=spec)


def _string(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is {'missing' if value is None else 'not a string'}")
    return value


def _spec(row: object, number: int) -> str:
    """The spec of a list's entry."""
    if isinstance(row, str) and row.strip():
        return row
    if not isinstance(row, dict) or not isinstance(row.get("source"), str):
        raise ValueError(f"source {number} is neither a string nor a table with a source")
    options = {str(key): value for key, value in row.items() if key != "source"}
    if not all(isinstance(value, str) for value in options.values()):
        raise ValueError(f"source {number} has an option that is not a string")
    if options and split_spec(row["source"])[0] != "jsonl":
        raise ValueError(f"source {number} takes no options")
    return with_options(row["source"], options)
