"""Packages of a language's own tools."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backend.errors import SourceUnavailable
from backend.ingestion.files import Skipped, SourceFile
from backend.ingestion.sources.source import tree_order


@dataclass(frozen=True)
class Installed:
    """A distribution of the running Python, for when its wheel cannot be fetched."""

    name: str

    @property
    def id(self) -> str:
        return f"installed:{self.name}=={self._distribution().version}"

    @property
    def package(self) -> str:
        return self.name

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        for entry in sorted(self._distribution().files or (), key=lambda e: tree_order(str(e))):
            path = Path(str(entry.locate()))
            if ".." in entry.parts or not path.is_file() or path.is_symlink():
                continue  # Scripts in bin/, and files that were removed after the installation.
            yield SourceFile(entry.as_posix(), path.stat().st_size, path.read_bytes)

    def _distribution(self) -> importlib.metadata.Distribution:
        try:
            return importlib.metadata.distribution(self.name)
        except (importlib.metadata.PackageNotFoundError, ValueError) as exc:
            raise SourceUnavailable(
                f"{self.name} is not installed.", fix=f"Run pip install {self.name}."
            ) from exc
