"""Cuts a file into chunks: code along its definitions, prose along its headings.

The chunks of a file cover each of its lines exactly once; only blank stretches are dropped. The
idea of cutting along the syntax tree and merging small neighbours: Zhang et al. 2025, "cAST",
arXiv:2506.15655.
"""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import accumulate

from backend.ingestion.files import TextFile
from backend.ingestion.languages import language_of
from backend.ingestion.prose import section_starts
from backend.ingestion.syntax import Definition, definitions
from backend.types import Chunk, ChunkId, Kind

CHUNKER = "syntax-1"
"""Changes whenever the same file would be cut differently: an index knows what cut it."""

MAX_CHARS = 1600
"""About what 256 to 400 tokens hold. Longer definitions are split."""
MERGE_CHARS = 600
"""Neighbours are merged up to this size, so that one-line methods do not each become a chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Lines `start` up to, not including, `end`, counted from 0."""

    start: int
    end: int
    symbol: str
    kind: Kind


def chunk_file(text: str, *, source: str, path: str, package: str) -> list[Chunk]:
    """Cut one file.

    Args:
        text: The decoded file, its lines ended by `\\n`.
        source, path, package: Copied to every chunk; the language comes from `path`.

    Returns:
        Chunks in file order, none of them blank.
    """
    metadata = path.endswith(".dist-info/METADATA")
    language = "markdown" if metadata else language_of(path) or "text"
    cutter = _Cutter(text.split("\n"))
    if language in {"markdown", "rst", "asciidoc"}:
        spans = cutter.sections(section_starts(cutter.lines, language, metadata=metadata))
    elif found := definitions(text, language):
        spans = cutter.code(cutter.whole(kind="module"), found)
    else:
        spans = cutter.split(cutter.whole(kind="text"))
    return _with_ids(
        Chunk(
            id=ChunkId(""),
            source=source,
            path=path,
            start_line=span.start + 1,
            end_line=span.end,
            language=language,
            symbol=span.symbol,
            kind=span.kind,
            text="\n".join(cutter.lines[span.start : span.end]),
            package=package,
        )
        for span in map(cutter.without_blank_ends, spans)
        if span.start < span.end
    )


def chunks_of(file: TextFile, *, source: str, package: str) -> list[Chunk]:
    """The chunks of a file: as it arrived cut, or else as `chunk_file` cuts it."""
    if not file.documents:
        return chunk_file(file.text, source=source, path=file.path, package=package)
    return _with_ids(
        Chunk(
            id=ChunkId(""),
            source=source,
            path=file.path,
            start_line=document.start_line,
            end_line=document.start_line + document.text.count("\n"),
            language=document.language,
            symbol=document.symbol,
            kind=document.kind,
            text=document.text,
            package=package,
        )
        for document in file.documents
    )


class _Cutter:
    """Partitions the lines of one file."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self._offsets = [0, *accumulate(len(line) + 1 for line in lines)]

    def whole(self, *, kind: Kind) -> Span:
        return Span(start=0, end=len(self.lines), symbol="", kind=kind)

    def code(self, within: Span, found: Sequence[Definition]) -> list[Span]:
        """Partition `within` into the definitions found directly in it and what lies between."""
        spans: list[Span] = []
        at = within.start
        for definition in found:
            start, end = max(definition.start, at), min(definition.end, within.end)
            if start >= end:
                continue  # Shares its lines with the definition before.
            if at < start:
                spans += self.split(replace(within, start=at, end=start))
            method = definition.kind == "function" and within.kind == "class"
            span = Span(
                start=start,
                end=end,
                symbol=f"{within.symbol}.{definition.name}".strip("."),
                kind="method" if method else definition.kind,
            )
            if self._size(span) > MAX_CHARS and definition.inner:
                spans += self.code(span, definition.inner)
            else:
                spans += self.split(span)
            at = end
        if at < within.end:
            spans += self.split(replace(within, start=at))
        return self._merged(spans, within)

    def sections(self, starts: Sequence[tuple[int, str]]) -> list[Span]:
        """One span a section; `starts` holds the first line and the heading path of each."""
        edges = [(0, ""), *starts] if not starts or starts[0][0] > 0 else list(starts)
        ends = [start for start, _ in edges[1:]] + [len(self.lines)]
        spans: list[Span] = []
        for (start, symbol), end in zip(edges, ends, strict=True):
            spans += self.split(Span(start=start, end=end, symbol=symbol, kind="section"))
        return spans

    def split(self, span: Span) -> list[Span]:
        """Cut a span that is too long before the best line of the half where it must end."""
        parts: list[Span] = []
        while self._size(span) > MAX_CHARS and span.end - span.start > 1:
            limit = bisect_right(self._offsets, self._offsets[span.start] + MAX_CHARS) - 1
            limit = min(max(limit, span.start + 1), span.end - 1)
            first = max((span.start + limit + 1) // 2, span.start + 1)
            cut = min(range(first, limit + 1), key=lambda i: (_cut_cost(self.lines, i), -i))
            parts.append(replace(span, end=cut))
            span = replace(span, start=cut)
        return [*parts, span]

    def without_blank_ends(self, span: Span) -> Span:
        start, end = span.start, span.end
        while start < end and not self.lines[start].strip():
            start += 1
        while start < end and not self.lines[end - 1].strip():
            end -= 1
        return replace(span, start=start, end=end)

    def _merged(self, spans: Iterable[Span], within: Span) -> list[Span]:
        """Join small neighbours up to `MERGE_CHARS`."""
        merged: list[Span] = []
        for span in spans:
            last = merged[-1] if merged else None
            if last is None or self._offsets[span.end] - self._offsets[last.start] > MERGE_CHARS:
                merged.append(span)
            elif self._is_blank(span):
                merged[-1] = replace(last, end=span.end)
            elif self._is_blank(last):
                merged[-1] = replace(span, start=last.start)
            else:
                merged[-1] = _joined(last, span, within)
        return merged

    def _size(self, span: Span) -> int:
        return self._offsets[span.end] - self._offsets[span.start]

    def _is_blank(self, span: Span) -> bool:
        return not any(line.strip() for line in self.lines[span.start : span.end])


def _joined(first: Span, second: Span, within: Span) -> Span:
    """Members are named by what they stand in, top-level definitions by all their names."""
    both = replace(within, start=first.start, end=second.end)
    named = [span for span in (first, second) if span.symbol]
    if within.symbol or not named:
        return both
    kind = named[0].kind if named[0].kind == named[-1].kind else within.kind
    return replace(both, symbol=", ".join(span.symbol for span in named), kind=kind)


def _cut_cost(lines: Sequence[str], at: int) -> int:
    """Cutting between paragraphs is best, then before shallow lines; never before a closing one."""
    line = lines[at] if at < len(lines) else ""
    text = line.lstrip()
    if (
        not text
        or text[0] in ")]}"
        or text.startswith(("else", "elif", "except", "finally", "end"))
    ):
        return 1000
    after_blank = at > 0 and not lines[at - 1].strip()
    return 2 * (len(line) - len(text)) - (3 if after_blank else 0)


def _with_ids(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Name each chunk by what it says and where it belongs, so that moved lines keep their vector.

    Equal texts under one symbol are told apart by counting them.
    """
    seen: Counter[bytes] = Counter()
    named: list[Chunk] = []
    for chunk in chunks:
        digest = blake2b(
            f"{chunk.source}\0{chunk.passage}".encode("utf-8", "replace"), digest_size=16
        )
        seen[digest.digest()] += 1
        digest.update(str(seen[digest.digest()]).encode())
        named.append(replace(chunk, id=ChunkId(str(uuid.UUID(bytes=digest.digest())))))
    return named
