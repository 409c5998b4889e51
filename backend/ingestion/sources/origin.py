"""Where a source's files can be looked at: the forge that keeps them, at the revision indexed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

_REMOTE = re.compile(
    r"(?:(?:https?|ssh|git)://(?:[^@/\s]+@)?(?P<host>[\w.-]+)(?::\d+)?/"
    r"|(?:[\w.-]+@)?(?P<scp>[\w.-]+\.\w+):)(?P<path>[\w.~/-]+?)(?:\.git)?/?"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """The revision that was read, and how links to its lines are made."""

    revision: str = ""
    """The commit; empty where there is none."""
    link: str = ""
    """A URL with `{path}`, `{start}` and `{end}` in it; empty where nothing can be linked to."""
    unlinked: tuple[str, ...] = ()
    """Paths of files that differ from the revision."""
    note: str = ""
    """What a reader of the answers should know of these files."""


NOWHERE = Origin()


def permalinks(remote: str, commit: str, folder: str = "") -> str:
    """The link template for a commit at GitHub or GitLab; nothing for a remote elsewhere.

    Args:
        remote: The repository's URL, as git has it.
        commit: Its full name.
        folder: Where in the repository the paths begin, `""` or `a/b/`.
    """
    match = _REMOTE.fullmatch(remote)
    if match is None:
        return ""
    host, path = (match["host"] or match["scp"]).lower(), match["path"].strip("/")
    file = quote(folder) + "{path}"
    if host == "github.com" or host.startswith("github."):
        return f"https://{host}/{path}/blob/{commit}/{file}#L{{start}}-L{{end}}"
    if host == "gitlab.com" or host.startswith("gitlab."):
        return f"https://{host}/{path}/-/blob/{commit}/{file}#L{{start}}-{{end}}"
    return ""
