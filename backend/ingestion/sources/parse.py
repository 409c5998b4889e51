"""From what a user or a manifest names to the source it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

from backend.errors import InvalidSource
from backend.ingestion.sources.archive import Archive, is_archive, package_name
from backend.ingestion.sources.documents import Documents
from backend.ingestion.sources.folder import Folder, existing
from backend.ingestion.sources.packages import Installed, npm, pypi
from backend.ingestion.sources.repository import fetch
from backend.ingestion.sources.source import Source, readable
from backend.ingestion.sources.vectors import Vectors, each_source

_SCHEME = re.compile(r"([a-z]{3,}):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Scheme:
    """A kind of source."""

    open: Callable[[str, Path], Source]
    """From what follows the colon, and the folder of downloads. `ValueError` if it is malformed."""
    example: str
    local: bool = False
    """Whether it names a path on this machine."""


def parse_source(spec: str, *, downloads: Path) -> Source:
    """Open what a user or a collection's manifest names; what is not here yet is fetched.

    Args:
        spec: A scheme of `SCHEMES` and what it takes, a folder's, archive's or JSON Lines file's
            path, or the https URL of a git repository.
        downloads: Where fetched archives and repositories are kept.

    Raises:
        InvalidSource: It is none of these, or the path does not exist.
        SourceUnavailable: It cannot be fetched.
    """
    name, rest = split_spec(spec)
    scheme = SCHEMES[name]
    try:
        return scheme.open(rest, downloads)
    except ValueError as exc:
        raise InvalidSource(
            f"The source {_shown(spec)!r} cannot be read: {exc}.",
            fix=f"Name {scheme.example}.",
        ) from exc


def expanded(spec: str) -> list[str]:
    """What is opened for a spec: itself, or all sources that a folder of vectors holds.

    Raises:
        InvalidSource: It is no such folder.
    """
    name, rest = split_spec(spec)
    if name != "vectors" or "?" in rest:
        return [spec]
    names = each_source(existing(Path(rest), "folder"))
    if names == ("",):
        return [spec]
    return [with_options(f"{name}:{quote(rest)}", {"source": source}) for source in names]


def split_spec(spec: str) -> tuple[str, str]:
    """The scheme of a source and what it takes; a bare path or URL gets its scheme."""
    match = _SCHEME.fullmatch(spec)
    if match is not None and match[1] in SCHEMES:
        return match[1], match[2]
    if re.match(r"https?://", spec):
        return "git", spec
    try:
        is_file = Path(spec).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):
        is_file = False
    if is_file and is_archive(Path(spec)):
        return "zip" if spec.lower().endswith((".zip", ".whl")) else "tar", spec
    if is_file and spec.lower().endswith(".jsonl"):
        return "jsonl", spec
    return "dir", spec


def with_options(spec: str, options: Mapping[str, str]) -> str:
    """A source's spec with options, as `split_options` reads them."""
    return f"{spec}{'&' if '?' in spec else '?'}{urlencode(options)}" if options else spec


def split_options(rest: str) -> tuple[Path, dict[str, str]]:
    """Split `path?name=value&…`; without a `?` it is a path as it stands.

    Raises:
        ValueError: An option has no value, or stands there twice.
    """
    path, mark, query = rest.partition("?")
    if not mark:
        return Path(rest), {}
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    if len(dict(pairs)) < len(pairs) or not all(value for _, value in pairs):
        raise ValueError("every option needs one value")
    return Path(unquote(path)), dict(pairs)


def anchored(spec: str, folder: Path) -> str:
    """A spec whose path, if it has one, begins at a folder and not where the program runs."""
    name, rest = split_spec(spec)
    if not SCHEMES[name].local or not rest.strip() or rest.startswith("~"):
        return spec
    return f"{name}:{folder / rest}"


def _archive(kind: str) -> Callable[[str, Path], Archive]:
    def open_archive(rest: str, downloads: Path) -> Archive:
        path = _file(Path(rest), "archive")
        return Archive(path, f"{kind}:{readable(path.as_posix())}", package_name(path))

    return open_archive


def _documents(rest: str, downloads: Path) -> Documents:
    path, options = split_options(rest)
    return Documents(_file(path, "file"), options)


def _vectors(rest: str, downloads: Path) -> Vectors:
    path, options = split_options(rest)
    if set(options) - {"source"}:
        raise ValueError("its only option is source")
    return Vectors(existing(path, "folder"), options.get("source", ""))


def _folder(rest: str, downloads: Path) -> Folder:
    if not rest.strip():
        raise InvalidSource("No folder was named.", fix="Name one; `.` is the current folder.")
    return Folder(Path(rest))


def _file(path: Path, what: str) -> Path:
    found = existing(path, what)
    if not found.is_file():
        raise InvalidSource(f"{found} is not a file.", fix="Name the file itself.")
    return found


def _shown(spec: str) -> str:
    """A spec without what may be a password in it."""
    masked = re.sub(r"://[^/\s]*@", "://***@", readable(spec))
    return re.sub(r"(://[^?]*\?).+", r"\1***", masked, flags=re.DOTALL)[:200]


SCHEMES: Mapping[str, _Scheme] = {
    "dir": _Scheme(_folder, "a folder, such as dir:src", local=True),
    "git": _Scheme(
        fetch, "a URL and a revision, such as git:https://github.com/qdrant/qdrant@v1.15.0"
    ),
    "zip": _Scheme(_archive("zip"), "an archive, such as zip:project.zip", local=True),
    "tar": _Scheme(_archive("tar"), "an archive, such as tar:project.tar.gz", local=True),
    "pypi": _Scheme(pypi, "a pinned release, such as pypi:qdrant-client==1.20.0"),
    "npm": _Scheme(npm, "a pinned release, such as npm:@qdrant/js-client-rest@1.15.0"),
    "installed": _Scheme(
        lambda rest, downloads: Installed(rest), "a distribution, such as installed:qdrant-client"
    ),
    "jsonl": _Scheme(
        _documents, "a file and its fields, such as jsonl:a.jsonl?text=body", local=True
    ),
    "vectors": _Scheme(
        _vectors, "what scripts/embed_corpus.py wrote, such as vectors:folder", local=True
    ),
}
