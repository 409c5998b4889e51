"""From what a user or a manifest names to the source it is."""

from __future__ import annotations

from pathlib import Path

from backend.errors import InvalidSource
from backend.ingestion.sources.archive import Wheel
from backend.ingestion.sources.folder import Folder
from backend.ingestion.sources.packages import Installed
from backend.ingestion.sources.source import Source
from backend.wheels import fetch_wheel


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
