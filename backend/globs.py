"""Path patterns, as `.gitignore` writes them, that choose files of a collection."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence

import pathspec
import re2
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from backend.errors import InvalidQuery

MAX_GLOB_CHARS = 1000
_NAMED = re.compile(r"\[:(\w+):\](?=[^\[]*\])")
_CHARACTERS = {
    **{"alnum": "A-Za-z0-9", "alpha": "A-Za-z", "digit": "0-9", "lower": "a-z", "upper": "A-Z"},
    **{"xdigit": "0-9A-Fa-f", "blank": " \t", "space": " \t"},
}
"""What git calls `[:digit:]` and the like within brackets."""


def matching(globs: Sequence[str], paths: Iterable[str]) -> list[str]:
    """The paths that the last pattern which speaks of them chooses.

    Args:
        globs: Patterns such as `*.py`, `src/**/*.rs`, `docs/`; `!tests/` leaves out. If all leave
            something out, everything else is chosen.
        paths: Relative, with forward slashes.

    Raises:
        InvalidQuery: A pattern is none.
    """
    lines = [_checked(glob) for glob in globs]
    if all(line.startswith("!") for line in lines):
        lines.insert(0, "**")
    return list(pathspec.PathSpec(_rules(lines)).match_files(paths))


def check_globs(globs: Sequence[str]) -> None:
    """Refuse what is not a pattern.

    Raises:
        InvalidQuery: A pattern is none.
    """
    for glob in globs:
        _checked(glob)


def ignoring(text: str) -> list[pathspec.GitIgnoreSpec]:
    """The rules of an ignore file in their order; lines that are no patterns say nothing.

    They come in several parts where there are more than RE2 takes at once.
    """
    return _compiled(_rules(text.removeprefix("\ufeff").splitlines()))


def _compiled(rules: Sequence[GitIgnoreSpecPattern]) -> list[pathspec.GitIgnoreSpec]:
    try:
        return [pathspec.GitIgnoreSpec(rules)] if rules else []
    except re2.error:
        half = len(rules) // 2
        return _compiled(rules[:half]) + _compiled(rules[half:]) if half else []


def _rules(lines: Iterable[str]) -> list[GitIgnoreSpecPattern]:
    """Lines as patterns, without those that are none.

    They are matched by RE2, in linear time: backtracking would take years for `*a*a*a*a*a*a*b`.
    """
    rules = []
    for line in lines:
        with contextlib.suppress(ValueError, re.error):
            line = _NAMED.sub(_characters, line.replace("[[]", "\\["))
            rules.append(GitIgnoreSpecPattern(line))
    return rules


def _characters(found: re.Match[str]) -> str:
    return _CHARACTERS.get(found[1], found[0])


def _checked(glob: str) -> str:
    line = glob.strip()
    pattern = line.removeprefix("!")
    if pattern.startswith("#"):  # A comment in a file, a name here.
        line = line.replace("#", "\\#", 1)
    if len(line) > MAX_GLOB_CHARS or not _compiled(_rules([line])):
        pattern = ""
    if not pattern.strip("/") or pattern.count("[") > pattern.count("]"):
        raise InvalidQuery(
            f"{glob!r} is not a path pattern.",
            fix="Write it as in .gitignore: *.py, src/**/*.rs, docs/, or !tests/ to leave out.",
        )
    return line
