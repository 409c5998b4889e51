"""What ignore files leave out, for folders that are walked and for lists of paths."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import pathspec

from backend.globs import ignoring
from backend.ingestion.files import SKIPPED_FOLDERS, Skipped
from backend.ingestion.sources.source import tree_order

GIT_IGNORE, OWN_IGNORE = ".gitignore", ".rankscopeignore"


@dataclass(frozen=True)
class Scope:
    """The ignore files that hold in a folder: each with the folder it lies in, innermost first."""

    rules: tuple[tuple[str, pathspec.GitIgnoreSpec], ...] = ()

    def within(self, folder: str, ignore_files: Sequence[str]) -> Scope:
        """The scope of a folder (`""` or `a/b/`) that holds these ignore files, given as text."""
        found = [(folder, spec) for text in ignore_files for spec in ignoring(text)]
        return Scope((*reversed(found), *self.rules)) if found else self

    def leaves_out(self, path: str) -> str:
        """The reason to leave out a path, which ends with `/` if it is a folder's; or nothing.

        The innermost ignore file that says anything decides, as in git.
        """
        for folder, spec in self.rules:
            verdict = spec.check_file(path[len(folder) :]).include
            if verdict is not None:
                if verdict:
                    return "ignored"
                break
        if path.endswith("/") and path.rsplit("/", 2)[-2] in SKIPPED_FOLDERS:
            return "tool or dependency folder"
        return ""


def select(
    paths: Collection[str],
    *,
    ignore_files: Sequence[str],
    read: Callable[[str], str],
    skipped: Skipped,
) -> Iterator[str]:
    """Walk a list of paths as if it were a folder: folders first, by name.

    Args:
        paths: Files relative to one root, with forward slashes.
        ignore_files: Names of the files that are honoured.
        read: The text of one of `paths`.
        skipped: Counts what is left out; a folder counts once.
    """
    scopes: dict[str, Scope | None] = {}  # None: the folder is left out.

    def enter(folder: str, outer: Scope) -> Scope:
        names = [folder + name for name in ignore_files if folder + name in paths]
        return outer.within(folder, [read(name) for name in names])

    scopes[""] = enter("", Scope())
    for path in sorted(paths, key=tree_order):
        folder = ""
        for part in path.split("/")[:-1]:
            outer, folder = scopes[folder], f"{folder}{part}/"
            if folder in scopes:
                continue
            reason = outer.leaves_out(folder) if outer else ""
            if reason:
                skipped.add(reason, folder)
            scopes[folder] = enter(folder, outer) if outer and not reason else None
        scope = scopes[folder]
        if scope is None:
            continue
        reason = scope.leaves_out(path)
        if reason:
            skipped.add(reason, path)
        else:
            yield path
