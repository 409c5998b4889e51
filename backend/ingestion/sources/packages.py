"""Packages of a language's own tools: PyPI and npm, and what is installed here."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from backend.errors import SourceUnavailable
from backend.ingestion.files import Skipped, SourceFile
from backend.ingestion.sources.archive import Archive
from backend.ingestion.sources.ignoring import OWN_IGNORE
from backend.ingestion.sources.origin import NOWHERE, Origin
from backend.ingestion.sources.source import tree_order
from backend.wheels import fetch_release, parse_requirement

_NPM_NAME = r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9~-][A-Za-z0-9._~-]*"
_NPM_RELEASE = re.compile(
    rf"({_NPM_NAME})@(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?)"
)
_NPM_OPTIONS = (
    *("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"),
    *("--fetch-retries=1", "--fetch-timeout=60000"),
)
_NPM_TIMEOUT_SECONDS = 300
_CREDENTIALS = re.compile(r"://[^/@\s]+@")


def pypi(requirement: str, downloads: Path) -> Archive:
    """A release of PyPI: its wheel or, where there is none, its source archive.

    Raises:
        ValueError: It is not of the form `name==version`.
        SourceUnavailable: It cannot be fetched.
    """
    name, _ = parse_requirement(requirement)
    return _fetched(fetch_release(requirement, downloads), f"pypi:{requirement}", name)


def npm(release: str, downloads: Path) -> Archive:
    """A release of npm, fetched with the user's own `npm`; its scripts are not run.

    Raises:
        ValueError: It is not of the form `name@version`.
        SourceUnavailable: It cannot be fetched.
    """
    match = _NPM_RELEASE.fullmatch(release)
    if match is None or release.startswith("-"):
        raise ValueError(f"{release!r} is not of the form name@1.2.3")
    folder = downloads / "npm"
    path = folder / f"{release.replace('/', '+')}.tgz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=downloads) as scratch:
            os.replace(_npm_pack(release, Path(scratch)), path)
    return _fetched(path, f"npm:{release}", match[1])


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

    def origin(self, digests: Mapping[str, str]) -> Origin:
        """Its name and version are all that is known."""
        return NOWHERE

    def _distribution(self) -> importlib.metadata.Distribution:
        try:
            return importlib.metadata.distribution(self.name)
        except (importlib.metadata.PackageNotFoundError, ValueError) as exc:
            raise SourceUnavailable(
                f"{self.name} is not installed.", fix=f"Run pip install {self.name}."
            ) from exc


def _fetched(path: Path, id: str, package: str) -> Archive:
    """What its authors published counts, whatever their `.gitignore` says of built files."""
    remedy = f"Delete {path} and index again: it is fetched anew."
    return Archive(path, id, package, ignore_files=(OWN_IGNORE,), remedy=remedy)


def _npm_pack(release: str, scratch: Path) -> Path:
    """Have npm write a release's archive into an empty folder.

    The folder is its project, so that no `.npmrc` and no workspace around it has a say.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SourceUnavailable(
            f"npm, which is needed to fetch {release}, is not installed.",
            fix="Install Node.js, or name the package's archive: tar:package.tgz.",
        )
    logger.info("Fetching {release} with npm", release=release)
    try:
        result = subprocess.run(
            [npm, "pack", *_NPM_OPTIONS, f"--prefix={scratch}", "--", release],
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_NPM_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise SourceUnavailable(
            f"npm did not fetch {release} within {_NPM_TIMEOUT_SECONDS} s.",
            fix="Check the network and npm's registry and proxy settings, then try again.",
        ) from exc
    archives = list(scratch.glob("*.tgz"))
    if result.returncode != 0 or len(archives) != 1:
        said = [line for line in result.stderr.splitlines() if " error " in line or "ERR!" in line]
        reason = _CREDENTIALS.sub("://***@", " ".join(said[:2] or [result.stderr[-300:]]))
        raise SourceUnavailable(
            f"npm could not fetch {release}: {reason.strip()}",
            fix="Check the name, the version, the network and npm's registry (npm config list).",
        )
    return archives[0]
