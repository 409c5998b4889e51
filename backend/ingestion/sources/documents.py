"""Documents that arrive cut, one a line of JSON: each becomes one chunk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args
from urllib.parse import quote, urlencode

from backend.errors import InvalidSource
from backend.ingestion.chunking import MAX_CHARS
from backend.ingestion.files import Document, Skipped, SourceFile
from backend.ingestion.languages import language_of
from backend.ingestion.skipping import MAX_FILE_BYTES
from backend.ingestion.sources.origin import Origin
from backend.ingestion.sources.source import readable
from backend.types import Kind

FIELDS = ("text", "path", "symbol", "language", "kind", "start_line")
"""What a document has; each is read from the field of the same name unless an option names one."""
MAX_LINE_BYTES = 6 * MAX_FILE_BYTES
"""JSON may write a byte as `\\u0000`."""
MAX_GROUP_BYTES = 64_000_000
_LINK = re.compile(r"https?://[^\s{}]+(?:\{(?:path|start|end)\}[^\s{}]*)*")
_KINDS = frozenset(get_args(Kind))


class _Line(NamedTuple):
    """A line that is a document."""

    number: int
    path: str
    raw: bytes
    document: Document


@dataclass(frozen=True)
class Documents:
    """A JSON Lines file. Documents of one path stand together and are updated together.

    Args:
        path: The file.
        options: Where the fields of `FIELDS` are found (`text=body`), and a `link` template.

    Raises:
        ValueError: An option is not known, or the link is none.
    """

    path: Path
    options: Mapping[str, str]
    _long: list[int] = field(default_factory=lambda: [0, 0], compare=False, repr=False)
    """How many documents were read, and how many of them are longer than a chunk."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.options) - {*FIELDS, "link"})
        if unknown:
            known = ", ".join((*FIELDS, "link"))
            raise ValueError(f"{readable(unknown[0])!r} is none of its options: {known}")
        link = self.options.get("link")
        if link is not None and not _LINK.fullmatch(link):
            raise ValueError("link is not of the form https://host/{path}#L{start}-L{end}")

    @property
    def id(self) -> str:
        name = readable(self.path.as_posix())
        return f"jsonl:{quote(name)}?{urlencode(self.options)}" if self.options else f"jsonl:{name}"

    @property
    def package(self) -> str:
        return readable(self.path.stem)

    def origin(self, digests: Mapping[str, str]) -> Origin:
        read, long = self._long
        note = (
            f"{long:,} of {read:,} documents are longer than {MAX_CHARS:,} characters: the rest of"
            " each is found by its words alone, not by its meaning."
        )
        return Origin(link=self.options.get("link", ""), note=note if long else "")

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        """One file a path.

        Raises:
            InvalidSource: The file cannot be read, or comes back to a path after others.
        """
        self._long[:] = [0, 0]
        seen: set[int] = set()
        for path, lines in groupby(self._lines(skipped), key=lambda line: line.path):
            group = list(self._bounded(lines))
            if hash(path) in seen:
                raise InvalidSource(
                    f"Line {group[0].number} of {self.path.name} comes back to {path!r}.",
                    fix="Sort the documents so that those of one path stand together.",
                )
            seen.add(hash(path))
            documents = tuple(line.document for line in group)
            self._long[0] += len(documents)
            self._long[1] += sum(len(document.text) > MAX_CHARS for document in documents)
            data = repr(sorted(self.options.items())).encode() + b"".join(
                line.raw for line in group
            )
            yield SourceFile(path, len(data), partial(bytes, data), documents)

    def _bounded(self, lines: Iterator[_Line]) -> Iterator[_Line]:
        size = 0
        for line in lines:
            size += len(line.raw)
            if size > MAX_GROUP_BYTES:
                raise InvalidSource(
                    f"The documents of {line.path!r} take more than {MAX_GROUP_BYTES:,} bytes.",
                    fix="Give each document a path of its own.",
                )
            yield line

    def _lines(self, skipped: Skipped) -> Iterator[_Line]:
        try:
            with self.path.open("rb") as file:
                number = 0
                while raw := file.readline(MAX_LINE_BYTES):
                    number += 1
                    whole = raw
                    while not whole.endswith(b"\n") and (whole := file.readline(MAX_LINE_BYTES)):
                        raw = b""  # Longer than is read.
                    found = self._document(raw, number) if raw else "larger than 2 MB"
                    if isinstance(found, _Line):
                        yield found
                    elif found:
                        skipped.add(found, f"line {number}")
        except OSError as exc:
            raise InvalidSource(
                f"{self.path} cannot be read: {exc.strerror}.", fix="Check the file."
            ) from exc

    def _document(self, raw: bytes, number: int) -> _Line | str:
        """The document of a line, or the reason why it is none; empty for a blank line."""
        if not raw.strip():
            return ""
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError):
            return "not a line of JSON"
        if not isinstance(row, dict):
            return "not a line of JSON"
        text = self._value(row, "text").replace("\r\n", "\n").replace("\r", "\n")
        if not text.strip():
            return f"document without {self.options.get('text', 'text')!r}"
        if len(text) > MAX_FILE_BYTES:
            return "larger than 2 MB"
        path = readable(self._value(row, "path"))[:1000] or f"{self.package}#{number}"
        kind, line = self._value(row, "kind"), self._value(row, "start_line")
        document = Document(
            text=text,
            start_line=int(line) if re.fullmatch(r"[1-9]\d{0,8}", line) else 1,
            language=readable(self._value(row, "language"))[:40].lower()
            or language_of(path)
            or "text",
            symbol=readable(" ".join(self._value(row, "symbol").split()))[:300],
            kind=kind if kind in _KINDS else "text",  # type: ignore[arg-type]
        )
        return _Line(number, path, raw, document)

    def _value(self, row: Mapping[str, Any], name: str) -> str:
        """A field as text that every engine and page takes; empty if there is none."""
        value = row.get(self.options.get(name, name))
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            return ""
        return str(value).encode("utf-8", "replace").decode().replace("\0", "\ufffd")
