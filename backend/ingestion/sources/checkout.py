"""A folder that is a git work tree: which of its files are what a published commit holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from backend.errors import SourceUnavailable
from backend.ingestion.sources import git
from backend.ingestion.sources.origin import Origin, permalinks
from backend.ingestion.sources.source import readable


@dataclass(frozen=True)
class Checkout:
    """The commit that is checked out, and which files read so far differ from it.

    Contents are compared here rather than by `git status`, which runs the filters and monitors
    that a repository's own configuration names.
    """

    commit: str = ""
    link: str = ""
    blobs: dict[str, str] = field(default_factory=dict)
    """Path to object name of the commit's files, below the folder."""
    changed: set[str] = field(default_factory=set)

    @property
    def origin(self) -> Origin:
        """Links to the commit, but for the files that differ."""
        unlinked = tuple(sorted(self.changed)) if self.link else ()
        return Origin(revision=self.commit, link=self.link, unlinked=unlinked)

    def saw(self, path: str, data: bytes) -> None:
        """Note what a file holds now; with CRLF for LF it is the same to git, and has its lines."""
        if self.link:
            committed = self.blobs.get(path, "")
            same = committed in (_blob(data, committed), _blob(_with_lf(data), committed))
            (self.changed.discard if same else self.changed.add)(readable(path))


def checkout_of(folder: Path) -> Checkout:
    """The checkout that a folder is, or lies in; an empty one if it is none, or git cannot say."""
    try:
        asked = ("rev-parse", "--show-prefix", "--verify", "HEAD^{commit}")
        prefix, commit = git.read(folder, *asked, bare=False).decode().split("\n")[:2]
        remote = git.read(folder, "config", "--get", "remote.origin.url", bare=False)
        link = permalinks(remote.decode().strip(), commit, prefix)
        published = ("for-each-ref", "--count=1", f"--contains={commit}", "refs/remotes/")
        if not link or not git.read(folder, *published, bare=False):
            return Checkout(commit=commit)
        blobs = {}
        for entry in git.read(folder, "ls-tree", "-r", "-z", commit, bare=False).split(b"\0")[:-1]:
            facts, _, name = entry.partition(b"\t")
            blobs[name.decode("utf-8", "surrogateescape")] = facts.split(b" ")[2].decode()
        return Checkout(commit=commit, link=link, blobs=blobs)
    except (SourceUnavailable, ValueError):
        return Checkout()


def _blob(data: bytes, like: str) -> str:
    """The object name of a content, of the same kind as another name."""
    digest = hashlib.sha256 if len(like) == 64 else hashlib.sha1
    return digest(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _with_lf(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n")
