"""A collection's manifest, and opening the sources it names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from backend.errors import InvalidSource, SourceUnavailable
from backend.ingestion.files import Skipped, SourceFile
from backend.ingestion.sources.packages import Installed
from backend.ingestion.sources.parse import parse_source
from backend.ingestion.sources.source import Source
from backend.wheels import parse_requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FETCHES = 4  # Fetching waits for the network, not for a core.


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a collection is made of."""

    name: str
    description: str
    sources: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a TOML file with `name`, `description` and a list of `sources`.

        Raises:
            InvalidSource: The file is missing, not TOML, or lacks a key.
        """
        try:
            data = tomllib.loads(path.read_text("utf-8"))
            return cls(
                name=str(data["name"]),
                description=str(data["description"]),
                sources=tuple(map(str, data["sources"])),
            )
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise InvalidSource(
                f"The manifest {path} cannot be read: {exc}.",
                fix="It needs name, description and a list of sources.",
            ) from exc


@dataclass(frozen=True, slots=True)
class Opened:
    """A source, and a note where it is not the one that was asked for."""

    source: Source
    note: str = ""


@dataclass(frozen=True)
class Missing:
    """Stands for a source that could not be had, so that its absence is on record."""

    id: str

    @property
    def package(self) -> str:
        return self.id.partition(":")[2].partition("==")[0]

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        return iter(())


def open_sources(
    specs: Sequence[str], *, downloads: Path, on_fetched: Callable[[str], None]
) -> list[Opened]:
    """Open several sources; a package that cannot be fetched is read from where it is installed.

    Args:
        specs: As `parse_source` takes them.
        downloads: Where fetched archives are kept.
        on_fetched: Called with each source's name when it is there.

    Returns:
        The sources in the order asked for, with a note where one is replaced or missing.

    Raises:
        InvalidSource: A source is malformed or does not exist.
        SourceUnavailable: None of them could be had.
    """

    def open_one(spec: str) -> Opened | SourceUnavailable:
        try:
            return Opened(parse_source(spec, downloads=downloads))
        except SourceUnavailable as exc:
            logger.warning("{why}", why=exc)
            return _installed_instead(spec) or exc
        finally:
            on_fetched(spec)

    with ThreadPoolExecutor(_FETCHES) as pool:
        results = list(pool.map(open_one, specs))
    errors = [result for result in results if isinstance(result, SourceUnavailable)]
    if len(errors) == len(specs):
        raise errors[0]
    return [
        Opened(Missing(spec), result.message) if isinstance(result, SourceUnavailable) else result
        for spec, result in zip(specs, results, strict=True)
    ]


def _installed_instead(spec: str) -> Opened | None:
    scheme, _, requirement = spec.partition(":")
    if scheme != "pypi":
        return None
    source = Installed(parse_requirement(requirement)[0])
    try:
        installed = source.id.partition(":")[2]
    except SourceUnavailable:
        return None
    return Opened(source, f"{spec} could not be fetched; this is the installed {installed}.")
