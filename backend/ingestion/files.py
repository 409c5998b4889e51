"""Which files of a source are read, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha1

from backend.ingestion.skipping import skip_read, skip_unread
from backend.types import FloatArray, Kind

MAC_FOLDER = "__MACOSX"
"""What macOS adds to a zip: what its file system knows of each file."""
SKIPPED_FOLDERS = frozenset(
    {
        *("__pycache__", "node_modules", "site-packages", "bower_components", "venv", ".venv"),
        *(".git", ".hg", ".svn", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
        *(".idea", ".vscode", ".gradle", ".next", ".terraform"),
        MAC_FOLDER,
    }
)


class Skipped(Counter[str]):
    """How many files were left out, by reason, with the first paths of each."""

    MAX_EXAMPLES = 5

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, path: str) -> None:
        """Count a file, or a folder that was not looked into."""
        self[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < self.MAX_EXAMPLES:
            examples.append(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A piece of a file that arrives already cut: it becomes one chunk as it is."""

    text: str
    start_line: int
    language: str
    symbol: str
    kind: Kind
    defines: str = ""
    plain: str | None = None
    """As in `Chunk`."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source, not yet read."""

    path: str
    """Relative to the source's root, with forward slashes."""
    size: int
    """Bytes, known without reading."""
    read: Callable[[], bytes]
    documents: tuple[Document, ...] = ()
    """Set when the file arrives already cut; the rules for files then do not apply to it."""
    stamp: str = ""
    """Differs whenever the content may: a file with the stamp that it had before is not read again.
    Empty where nothing tells but the content."""
    vectors: FloatArray | None = field(default=None, compare=False, repr=False)
    """Those of n documents, where they arrive as well: unit norm, shape (n, dimension)."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A decoded file."""

    path: str
    text: str
    digest: str
    """What `content_digest` says of its bytes."""
    documents: tuple[Document, ...] = ()
    """Pieces that become the file's chunks in place of what `text` would be cut into."""
    vectors: FloatArray | None = field(default=None, compare=False, repr=False)
    """As in `SourceFile`."""


def text_files(files: Iterable[SourceFile], skipped: Skipped) -> Iterator[TextFile]:
    """Read the files that hold searchable text; count the others by reason in `skipped`."""
    for file in files:
        reason = "" if file.documents else skip_unread(file.path, file.size)
        if reason:
            skipped.add(reason, file.path)
            continue
        try:
            data = file.read()
        except OSError:
            skipped.add("unreadable", file.path)
            continue
        digest = content_digest(data)
        if file.documents:
            yield TextFile(file.path, "", digest, file.documents, file.vectors)
            continue
        text = decode(data)
        reason = "binary" if text is None else skip_read(file.path, text)
        if text is None or reason:
            skipped.add(reason, file.path)
        else:
            yield TextFile(file.path, text, digest)


def content_digest(data: bytes) -> str:
    """The name that git gives a content, its lines ended as git keeps them by default."""
    data = data.replace(b"\r\n", b"\n")
    return sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def decode(data: bytes) -> str | None:
    """Decode UTF-8, or UTF-16 with a byte order mark; damaged characters become U+FFFD.

    Returns:
        The text with every line ended by `\\n`; None for binary data, told by its NUL bytes.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", "replace")
    else:
        text = data.decode("utf-8-sig", "replace")
    if "\0" in text:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")
