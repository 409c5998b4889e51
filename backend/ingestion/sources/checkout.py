"""A folder that is a git work tree: which of its files are what a published commit holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backend.errors import SourceUnavailable
from backend.ingestion.sources import git
from backend.ingestion.sources.origin import NOWHERE, Origin, permalinks
from backend.ingestion.sources.source import readable


def checkout_origin(folder: Path, digests: Mapping[str, str]) -> Origin:
    """The commit that is checked out in a folder, and links to it for the files that it holds.

    Contents are compared by their digests, which are git's own, rather than by `git status`: that
    runs filters and monitors which the repository's configuration names, and anyone may have
    written that.

    Args:
        folder: A work tree, or a folder in one; any other has no origin.
        digests: Path to content digest of the files that are indexed.
    """
    asked = _said(folder, "rev-parse", "--show-prefix", "--verify", "HEAD^{commit}").split("\n")
    if len(asked) < 2:
        return NOWHERE
    prefix, commit = asked[:2]
    link = permalinks(_said(folder, "config", "--get", "remote.origin.url").strip(), commit, prefix)
    published = ("for-each-ref", "--count=1", f"--contains={commit}", "refs/remotes/")
    if not link or not _said(folder, *published):
        return Origin(revision=commit)
    committed = {}
    for entry in _said(folder, "ls-tree", "-r", "-z", commit).split("\0")[:-1]:
        facts, _, path = entry.partition("\t")
        committed[readable(path)] = facts.split(" ")[2]
    unlinked = sorted(path for path, digest in digests.items() if committed.get(path) != digest)
    return Origin(revision=commit, link=link, unlinked=tuple(unlinked))


def _said(folder: Path, *arguments: str) -> str:
    """What git answers; empty where it cannot."""
    try:
        return git.read(folder, *arguments, bare=False).decode("utf-8", "surrogateescape")
    except SourceUnavailable:
        return ""
