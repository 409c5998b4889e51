"""Runs the user's own `git`: it asks nobody, runs nothing of a repository, and does not hang."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from loguru import logger

from backend.config import child_environment
from backend.errors import SourceUnavailable
from backend.ingestion.sources.source import readable

MAX_FETCH_BYTES = 2_000_000_000
"""What one fetch may bring."""
STALL_SECONDS = 60.0
"""A fetch is given up when for so long neither a byte nor a word came from the server."""
FETCH_SECONDS = 3600.0
"""A fetch is given up after this, however steadily it drips."""
_LOOK_SECONDS = 0.1
_HARMLESS = (
    *("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false", "-c", "core.askPass="),
    *("-c", "credential.interactive=false", "-c", "gc.autoDetach=false"),
    *("-c", "maintenance.autoDetach=false", "-c", "fetch.unpackLimit=1"),
)
_ELSEWHERE = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_CEILING_DIRECTORIES"),
    *("GIT_EXTERNAL_DIFF", "SSH_ASKPASS"),
)
"""Variables that would point git to another repository, or to a program that asks."""
_CREDENTIALS = re.compile(r"://[^/@\s]+@")


def read(folder: Path, *arguments: str, bare: bool = True, given: bytes = b"") -> bytes:
    """What git says of a repository on this machine; no other one is asked, whatever it needs.

    Raises:
        SourceUnavailable: git is not installed, or cannot read the repository.
    """
    process = start(folder, *arguments, bare=bare)
    said, complaint = process.communicate(given)
    if process.returncode != 0:
        why = readable(complaint.decode("utf-8", "replace").strip()[-300:])
        raise SourceUnavailable(
            f"git cannot read {folder}: {why}",
            fix=f"Delete {folder} and index again: it is fetched anew.",
        )
    return said


def start(folder: Path, *arguments: str, bare: bool = True) -> subprocess.Popen[bytes]:
    """Start git on a repository on this machine, with pipes to talk to it."""
    where = [f"--git-dir={folder}"] if bare else ["-C", str(folder)]
    return _start([*where, *arguments], stderr=subprocess.PIPE, transports="")


def fetch(store: Path, url: str, refspec: str, options: Sequence[str]) -> None:
    """Fetch into a bare repository, and give up when nothing arrives any more, or too much.

    Raises:
        SourceUnavailable: It could not be fetched.
    """
    command = [f"--git-dir={store}", "fetch", "--progress", "--no-tags"]
    command += ["--no-recurse-submodules", "--no-write-fetch-head"]
    logger.info("Fetching {url} with git", url=url)
    with tempfile.TemporaryFile() as said:
        process = _start(
            [*command, *options, "--", url, refspec],
            stderr=said,
            transports="https:http:ssh:file",
        )
        try:
            problem = _watch(process, store, said)
        finally:
            _kill(process)
        if problem or process.returncode != 0:
            said.seek(0)
            raise problem or _explained(url, said.read().decode("utf-8", "replace"))


def _watch(
    process: subprocess.Popen[bytes], store: Path, said: IO[bytes]
) -> SourceUnavailable | None:
    """Wait for a fetch to end; returns why it has to be ended."""
    began = moved = time.monotonic()
    before = seen = _size(store)
    words = 0
    while process.poll() is None:
        time.sleep(_LOOK_SECONDS)
        now, at = time.monotonic(), (_size(store), os.fstat(said.fileno()).st_size)
        if at != (seen, words):
            (seen, words), moved = at, now
        if seen - before > MAX_FETCH_BYTES:
            return SourceUnavailable(
                f"The repository is larger than {MAX_FETCH_BYTES / 1e9:.0f} GB.",
                fix="Clone the part that matters, and index the folder.",
            )
        if now - moved > STALL_SECONDS or now - began > FETCH_SECONDS:
            return SourceUnavailable(
                f"The server sent nothing more for {now - moved:.0f} s."
                if now - moved > STALL_SECONDS
                else f"The fetch did not end within {FETCH_SECONDS / 60:.0f} minutes.",
                fix="Check the URL and the network, then try again.",
            )
    return None


def _explained(url: str, said: str) -> SourceUnavailable:
    """What git's complaint means."""
    lines = [readable(line) for line in re.split(r"[\r\n]+", said)]
    lines = [line for line in lines if line.startswith(("fatal:", "error:", "remote: "))]
    reason = _CREDENTIALS.sub("://***@", " ".join(lines[-2:]))[-400:]
    if "terminal prompts disabled" in said or "Authentication failed" in said:
        return SourceUnavailable(
            f"{url} asks for a password, or does not exist.",
            fix="Check the URL. If it is private, let git's credential helper know the password,"
            " or use its ssh:// URL.",
        )
    if "couldn't find remote ref" in said or "not our ref" in said:
        return SourceUnavailable(
            f"{url} has no such branch, tag or commit.",
            fix="Check the revision; of a commit, give all 40 digits.",
        )
    return SourceUnavailable(
        f"git could not fetch {url}: {reason or 'it does not say why'}",
        fix="Check the URL and the network, then try again.",
    )


def _start(
    arguments: Sequence[str], *, stderr: int | IO[bytes], transports: str
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ["git", "--no-pager", *_HARMLESS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # Without a terminal nothing can ask there.
            env=child_environment(
                without=_ELSEWHERE,
                GIT_ALLOW_PROTOCOL=transports,
                GIT_ASKPASS="",
                GIT_NO_LAZY_FETCH="1",
                GIT_OPTIONAL_LOCKS="0",
                GIT_TERMINAL_PROMPT="0",
                GCM_INTERACTIVE="Never",
                SSH_ASKPASS_REQUIRE="never",
                LC_ALL="C",
            ),
        )
    except OSError as exc:
        raise SourceUnavailable(
            f"git cannot be run: {exc.strerror}.", fix="Install git, and see that it is on PATH."
        ) from exc


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End git and what it started: it may be waiting in a helper for a server."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.communicate()


def _size(store: Path) -> int:
    total = 0
    for path in store.glob("objects/pack/*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue  # It has just got its final name.
    return total
