"""Fetches releases with the user's own pip: nothing is installed, nothing of them is executed."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loguru import logger
from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    canonicalize_version,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from backend.errors import SourceUnavailable

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
_TIMEOUT_SECONDS = 600
_CREDENTIALS = re.compile(r"://[^/@\s]+@")
_ONLY_THE_WHEEL = (
    *("--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"),
    "--quiet",
)
_SDIST = Path(__file__).with_name("sdist.py")


class NoSuchRelease(SourceUnavailable):
    """No index that pip is set up to use has such a file, or none answered."""


def parse_requirement(requirement: str) -> tuple[str, Version]:
    """Split `name==version`.

    Raises:
        ValueError: It is anything else; nothing but a pinned release is ever handed to pip.
    """
    match = _REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise ValueError(f"{requirement!r} is not of the form name==version")
    try:
        return match[1], Version(match[2])
    except InvalidVersion as exc:
        raise ValueError(f"{match[2]!r} is not a version") from exc


def fetch_release(requirement: str, folder: Path) -> Path:
    """Download a wheel or, where the index has none for this machine, the source archive.

    Raises:
        ValueError: The requirement is malformed.
        SourceUnavailable: pip found neither, or reached no index.
    """
    found = _kept_sdist(requirement, folder)
    if found is not None:
        return found
    try:
        return fetch_wheel(requirement, folder)
    except NoSuchRelease:
        found = fetch_sdist(requirement, folder)
        if found is None:
            raise
        return found


def fetch_wheel(requirement: str, folder: Path, *, sha256: str = "") -> Path:
    """Download a wheel, or find it in `folder` from an earlier time.

    Args:
        requirement: `name==version`; versions that are equal, as 1.0 and 1.0.0 are, are one.
        folder: Cache; made if missing. A wheel appears there whole or not at all.
        sha256: Expected digest in hex; empty accepts what the index serves.

    Raises:
        ValueError: The requirement is malformed.
        SourceUnavailable: pip found no such wheel, reached no index, or the digest differs.
    """
    name, version = parse_requirement(requirement)
    for path in sorted(folder.glob("*.whl")):
        if _release(path) == (canonicalize_name(name), version) and _digest_agrees(path, sha256):
            return path
    with _scratch(folder) as scratch:
        _pip(
            requirement,
            ["-m", "pip", "download", *_ONLY_THE_WHEEL, requirement],
            scratch,
        )
        wheels = list(scratch.glob("*.whl"))
        if len(wheels) != 1 or not _digest_agrees(wheels[0], sha256):
            raise SourceUnavailable(
                f"The package index served a different file for {requirement} than expected.",
                fix="Check the index that pip is set up to use (pip config list).",
            )
        target = folder / wheels[0].name
        os.replace(wheels[0], target)
    return target


def fetch_sdist(requirement: str, folder: Path) -> Path | None:
    """Download a release's source archive, or find it in `folder` from an earlier time.

    Raises:
        ValueError: The requirement is malformed.
        SourceUnavailable: It could not be downloaded.

    Returns:
        The archive; None if pip finds none.
    """
    found = _kept_sdist(requirement, folder)
    if found is not None:
        return found
    name, version = parse_requirement(requirement)
    with _scratch(folder) as scratch:
        script = _SDIST.read_text("utf-8")
        fetched = _pip(requirement, ["-c", script, name, str(version)], scratch).strip()
        if not fetched:
            return None
        target = folder / (_sdist_stem(requirement) + fetched.removeprefix("sdist"))
        os.replace(scratch / fetched, target)
    return target


def _kept_sdist(requirement: str, folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob(f"{_sdist_stem(requirement)}.*"))), None)


def _sdist_stem(requirement: str) -> str:
    name, version = parse_requirement(requirement)
    return f"{canonicalize_name(name)}-{canonicalize_version(version)}.sdist"


def _release(wheel: Path) -> tuple[str, Version] | None:
    try:
        return parse_wheel_filename(wheel.name)[:2]
    except (InvalidWheelFilename, InvalidVersion):
        return None


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        yield Path(scratch)


def _digest_agrees(wheel: Path, sha256: str) -> bool:
    if not sha256:
        return True
    return hashlib.sha256(wheel.read_bytes()).hexdigest() == sha256


def _pip(requirement: str, arguments: list[str], folder: Path) -> str:
    """Run Python with something of pip's in a folder; returns what it prints."""
    logger.info("Fetching {requirement} with pip", requirement=requirement)
    try:
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise SourceUnavailable(
            f"pip did not fetch {requirement} within {_TIMEOUT_SECONDS} s.",
            fix="Check the network and pip's index and proxy settings, then try again.",
        ) from exc
    if result.returncode == 0:
        return result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
    reason = _CREDENTIALS.sub("://***@", errors[-1] if errors else result.stderr[-300:].strip())
    told = NoSuchRelease if "No matching distribution" in reason else SourceUnavailable
    has_pip = "No module named pip" not in result.stderr
    raise told(
        f"pip could not fetch {requirement}: {reason}",
        fix="Check the network and pip's index and proxy settings, then try again."
        if has_pip
        else f"Install pip for {sys.executable}: python -m ensurepip",
    )
