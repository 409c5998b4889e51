"""Cuts a file into chunks: code along its definitions, prose along its headings.

The chunks of a file cover each of its lines exactly once; only blank stretches are dropped. The
idea of cutting along the syntax tree and merging small neighbours: Zhang et al. 2025, "cAST",
arXiv:2506.15655.
"""

from __future__ import annotations

import re
import uuid
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import accumulate

from backend.ingestion.documents import DOCUMENTS, read_document
from backend.ingestion.files import TextFile
from backend.ingestion.languages import language_in
from backend.ingestion.syntax import Definition, read_syntax
from backend.types import Chunk, ChunkId, Kind

CHUNKER = "syntax-3"
"""Changes whenever the same file would be cut differently: an index knows what cut it."""

MAX_CHARS = 1600
"""About what 256 to 400 tokens hold. Longer definitions are split."""
MERGE_CHARS = 600
"""Neighbours are merged up to this size, so that one-line methods do not each become a chunk."""
MAX_SYMBOL_CHARS = 200
"""Merged members with longer names together are named by what they stand in."""
MAX_DEFINES = 100
"""Names a chunk lists; only generated files have more in so few lines."""

_CLOSING = re.compile(r"\s*(?:[)\]};,]+|(?:#endif|@end|end|fi|done|esac)\b).*")
_CLOSING_CHARS = 200
_SMALL_CHARS = 120
"""Less than this between definitions is too little to be found, and too little to be shown."""
_COMMENT = re.compile(r"\s*(?://|#|--|/?\*|;).*")
_COMMENT_CHARS = 300
_CONTINUATIONS = ("else", "elif", "except", "finally", "end")


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
        source, path, package: Copied to every chunk; the language comes from `path` and
            from what the text begins with.

    Returns:
        Chunks in file order, none of them blank.
    """
    metadata = path.endswith(".dist-info/METADATA")
    language = "markdown" if metadata else language_in(path, text) or "text"
    lines = text.split("\n")
    plain: Mapping[int, str] | None = None
    if language in DOCUMENTS:
        document = read_document(text, language, metadata=metadata)
        plain, names = document.plain, document.names
        cutter = _Cutter(lines, document.borders)
        spans = cutter.sections(document.sections)
    else:
        syntax = read_syntax(text, language)
        names = syntax.names
        cutter = _Cutter(lines, syntax.borders)
        whole = cutter.whole(kind="module" if syntax.definitions else "text")
        spans = cutter.code(whole, syntax.definitions)
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
            text="\n".join(lines[span.start : span.end]),
            package=package,
            defines=_defined(names, span),
            plain=_said(plain, span),
        )
        for span in map(cutter.without_blank_ends, spans)
        if span.start < span.end and (plain is None or (_said(plain, span) or "").strip())
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
            defines=document.defines,
            plain=document.plain,
        )
        for document in file.documents
    )


class _Cutter:
    """Partitions the lines of one file.

    Args:
        lines: All of them.
        borders: Lines on which a statement or paragraph begins, and how deep; may be empty.
    """

    def __init__(self, lines: list[str], borders: Mapping[int, int]) -> None:
        self.lines = lines
        self._borders = borders
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
            span = Span(start=start, end=end, symbol=definition.symbol, kind=definition.kind)
            if definition.inner and (self._size(span) > MAX_CHARS or _holds_types(definition)):
                spans += self.code(span, definition.inner)
            else:
                spans += self.split(span)
            at = end
        if at < within.end:
            spans += self.split(replace(within, start=at))
        return self._merged(self._without_scraps(spans, within), within)

    def sections(self, starts: Sequence[tuple[int, str]]) -> list[Span]:
        """One span a section; `starts` holds the first line and the heading path of each."""
        edges = [(0, ""), *starts] if not starts or starts[0][0] > 0 else list(starts)
        ends = [start for start, _ in edges[1:]] + [len(self.lines)]
        spans: list[Span] = []
        for (start, symbol), end in zip(edges, ends, strict=True):
            spans += self.split(Span(start=start, end=end, symbol=symbol, kind="section"))
        return spans

    def split(self, span: Span) -> list[Span]:
        """Cut a span that is too long into parts of about one size, each at the best line."""
        parts: list[Span] = []
        while (size := self._size(span)) > MAX_CHARS and span.end - span.start > 1:
            begin = self._offsets[span.start]
            aim = size / -(-size // MAX_CHARS)
            first = bisect_left(self._offsets, begin + aim / 2)
            last = bisect_right(self._offsets, begin + min(aim * 1.5, MAX_CHARS)) - 1
            first = min(max(first, span.start + 1), span.end - 1)
            rows = range(first, min(max(last, first), span.end - 1) + 1)
            cut = min(
                rows, key=lambda row: (self._cut_cost(row), abs(self._offsets[row] - begin - aim))
            )
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

    def _cut_cost(self, row: int) -> float:
        """Best is between paragraphs, then before a shallow statement; never inside of one."""
        after_blank = 3 if row > 0 and not self.lines[row - 1].strip() else 0
        if row in self._borders:
            return 4 * self._borders[row] - after_blank
        line = self.lines[row]
        text = line.lstrip()
        if not text or text[0] in ")]}" or text.startswith(_CONTINUATIONS):
            return 2000
        inside = 1000 if self._borders else 0
        return inside + 2 * (len(line) - len(text)) - after_blank

    def _without_scraps(self, spans: Sequence[Span], within: Span) -> list[Span]:
        """Give what says little alone to the neighbour that it belongs to."""
        kept: list[Span] = []
        for span in spans:
            last = kept[-1] if kept else None
            if last is not None and _between(last, within) and self._is_head(last, span, within):
                kept[-1] = replace(span, start=last.start)
            elif last is not None and _between(span, within) and self._is_end(last, span):
                kept[-1] = replace(last, end=span.end)
            else:
                kept.append(span)
        return kept

    def _merged(self, spans: Iterable[Span], within: Span) -> list[Span]:
        """Join small neighbours up to `MERGE_CHARS`."""
        merged: list[Span] = []
        group: list[Span] = []
        for span in spans:
            if group and self._offsets[span.end] - self._offsets[group[0].start] > MERGE_CHARS:
                merged.append(_joined(group, within))
                group = []
            group.append(span)
        return [*merged, _joined(group, within)] if group else merged

    def _size(self, span: Span) -> int:
        return self._offsets[span.end] - self._offsets[span.start]

    def _is_head(self, span: Span, below: Span, within: Span) -> bool:
        """Whether it is the line `namespace shop {` and no more, or a remark on what is below."""
        lines = self._written(span)
        if within.symbol and within.kind == "module" and span.start == within.start:
            return len([line for line in lines if line.strip() != "{"]) == 1
        remark = sum(map(len, lines)) <= _COMMENT_CHARS and all(map(_COMMENT.fullmatch, lines))
        fits = self._offsets[below.end] - self._offsets[span.start] <= MAX_CHARS
        return remark and fits and not _between(below, within)

    def _is_end(self, above: Span, span: Span) -> bool:
        """Whether it is `}`, `end` and the like, or a line or two after a definition."""
        lines = self._written(span)
        size = sum(map(len, lines))
        fits = self._offsets[span.end] - self._offsets[above.start] <= MAX_CHARS
        closing = size <= _CLOSING_CHARS and all(map(_CLOSING.fullmatch, lines))
        remark = all(map(_COMMENT.fullmatch, lines))
        return closing or (fits and size <= _SMALL_CHARS and not remark)

    def _written(self, span: Span) -> list[str]:
        return [line for line in self.lines[span.start : span.end] if line.strip()]


def _between(span: Span, within: Span) -> bool:
    """Whether it is what stands between the definitions of `within`."""
    return (span.symbol, span.kind) == (within.symbol, within.kind)


def _holds_types(definition: Definition) -> bool:
    """Whether it is a namespace around types, rather than a unit of functions."""
    inner = {one.kind for one in definition.inner}
    return definition.kind == "module" and bool(inner & {"class", "module"})


def _joined(group: Sequence[Span], within: Span) -> Span:
    """Neighbours as one, named by all their names."""
    if len(group) == 1:
        return group[0]
    both = replace(within, start=group[0].start, end=group[-1].end)
    # What lies between members has the name of what they stand in: that is told by its head alone.
    named = [
        span
        for span in group
        if span.symbol and (span.symbol != within.symbol or span.start == within.start)
    ]
    names = list(dict.fromkeys(span.symbol for span in named))
    symbol = ", ".join(names)
    if not names or (within.symbol and len(symbol) > MAX_SYMBOL_CHARS):
        return both
    kinds = {span.kind for span in named}
    return replace(both, symbol=symbol, kind=kinds.pop() if len(kinds) == 1 else within.kind)


def _defined(names: Sequence[tuple[int, str]], span: Span) -> str:
    first = bisect_left(names, (span.start, ""))
    end = min(bisect_left(names, (span.end, "")), first + MAX_DEFINES)
    return " ".join(dict.fromkeys(name for _, name in names[first:end]))


def _said(plain: Mapping[int, str] | None, span: Span) -> str | None:
    """What the lines of a span say, where that is not what stands in them."""
    if plain is None:
        return None
    return "\n".join(plain[row] for row in range(span.start, span.end) if row in plain)


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
