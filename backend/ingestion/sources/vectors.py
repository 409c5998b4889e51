"""Chunks that arrive with their vectors: a folder that `scripts/embed_corpus.py` filled elsewhere.

It holds `chunks.jsonl`, as `python -m backend export` wrote it; `identity.json`, which says whose
vectors these are; and the vectors, in the order of the chunks: `vectors.npy`, `vectors.parquet`
with a column `vector`, or neither where each line of the chunks has a `vector` of its own.
Nothing in it is trusted: a line must be the very chunk that its id names, or all is refused.
Paths in it are labels that are never opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from backend.errors import InvalidSource, InvalidVector
from backend.ingestion.chunking import chunks_of
from backend.ingestion.files import Document, Skipped, SourceFile, TextFile
from backend.ingestion.skipping import MAX_FILE_BYTES
from backend.ingestion.sources.documents import MAX_GROUP_BYTES, MAX_LINE_BYTES
from backend.ingestion.sources.origin import Origin
from backend.ingestion.sources.source import readable
from backend.types import Chunk, ChunkId, FloatArray, Kind, VectorSpace

CHUNKS, IDENTITY, NUMPY, PARQUET = (
    *("chunks.jsonl", "identity.json"),
    *("vectors.npy", "vectors.parquet"),
)
MAX_IDENTITY_BYTES = 1_000_000
_READ_BYTES = 1 << 20
_AT_ONCE = 1024
"""Vectors of a Parquet file that are in memory together."""
_LINK = r"^(https?://[^\s{}]+(\{(path|start|end)\}[^\s{}]*)*)?$"
_AGAIN = "Copy the whole folder again, or run scripts/embed_corpus.py again."
_Checked = TypeVar("_Checked")
_Name = Annotated[str, Field(min_length=1, max_length=4096)]
_Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A source whose chunks were exported; they stand together."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: _Name
    package: _Name
    chunks: _Count
    revision: str = ""
    link: Annotated[str, Field(pattern=_LINK)] = ""
    unlinked: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, str]:
        """What filters and pages show of it."""
        return self.source, self.package


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of `chunks.jsonl`; each further line is a chunk and its `passage`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    format: Literal["rankscope chunks 1"] = "rankscope chunks 1"
    probe: str
    """The text whose vector tells models apart."""
    sources: Annotated[tuple[Exported, ...], Field(min_length=1, max_length=10_000)]
    models: Mapping[str, Mapping[str, str | int]]
    """What the catalogue says of each embedding model: how its passages are to be embedded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """What `identity.json` holds: `VectorSpace`, and what belongs together."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    format: Literal["rankscope vectors 1"]
    model: _Name
    dimension: Annotated[int, Field(ge=1, le=65_536)]
    pooling: str
    query_prefix: str
    document_prefix: str
    precision: str
    probe: str
    count: _Count
    revision: str = ""
    normalized: bool = False
    """They are made unit vectors here, whatever it says: only cosines are compared."""
    chunks_sha256: str = ""
    vectors_sha256: str = ""
    """Empty where whoever made the folder did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A chunk as its line says."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    source: str
    path: _Name
    start_line: Annotated[int, Field(ge=1, le=999_999_999)]
    end_line: int
    language: Annotated[str, Field(max_length=40)]
    symbol: str
    kind: Kind
    text: Annotated[str, Field(min_length=1, max_length=MAX_FILE_BYTES)]
    package: str
    passage: str
    defines: str = ""
    plain: str | None = None
    vector: Sequence[float] | None = None


class _Line(NamedTuple):
    number: int
    raw: bytes
    row: _Row
    vector: Sequence[float] | FloatArray


@dataclass(frozen=True)
class Vectors:
    """One exported source in such a folder.

    Args:
        folder: The folder.
        named: The source as it was called when it was exported; empty for the only one.

    Raises:
        InvalidSource: A file is missing or damaged, or they do not belong together.
    """

    folder: Path
    named: str = ""
    _identity: _Identity = field(init=False, compare=False, repr=False)
    _sources: tuple[Exported, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        identity, header = _opened(self.folder)
        object.__setattr__(self, "_identity", identity)
        object.__setattr__(self, "_sources", header.sources)
        names = [one.source for one in header.sources]
        if any(text != readable(text) for one in header.sources for text in one.named):
            raise _refused(self.folder, f"{CHUNKS} names a source that cannot be shown")
        if len(set(names)) < len(names):
            raise _refused(self.folder, f"{CHUNKS} names a source twice")
        if (self.named or names[0]) not in names or (not self.named and len(names) > 1):
            raise InvalidSource(
                f"{self.folder} holds {len(names)} sources, not just {readable(self.named)!r}.",
                fix="Name the folder alone to index all of them.",
            )
        if sum(one.chunks for one in header.sources) != identity.count:
            raise _refused(self.folder, f"{CHUNKS} and {IDENTITY} disagree about their number")

    @property
    def id(self) -> str:
        name = readable(self.folder.as_posix())
        return (
            f"vectors:{quote(name)}?{urlencode({'source': self.named})}"
            if self.named
            else (f"vectors:{name}")
        )

    @property
    def package(self) -> str:
        return self._exported.package

    @property
    def space(self) -> VectorSpace:
        """Whose vectors these are."""
        one = self._identity
        return VectorSpace(
            model=one.model,
            revision=one.revision,
            dimension=one.dimension,
            pooling=one.pooling,
            query_prefix=one.query_prefix,
            document_prefix=one.document_prefix,
            precision=one.precision,
            probe=one.probe,
        )

    def origin(self, digests: Mapping[str, str]) -> Origin:
        one = self._exported
        return Origin(revision=one.revision, link=one.link, unlinked=one.unlinked)

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        """One file a path, cut and with its vectors; all is refused where anything is wrong.

        Raises:
            InvalidSource: A line is not the chunk that its id names, or lines are missing.
            InvalidVector: A vector is not finite, has no length, or has the wrong dimension.
        """
        self._check_digests()
        seen: set[int] = set()
        for path, lines in groupby(self._lines(), key=lambda line: line.row.path):
            group = list(self._bounded(lines))
            if hash(path) in seen:
                raise _refused(self.folder, f"line {group[0].number} comes back to {path!r}")
            seen.add(hash(path))
            documents = tuple(_document(line.row) for line in group)
            self._check_ids(path, documents, group)
            dense = self._unit(group)
            data = b"".join(line.raw for line in group) + dense.tobytes()
            yield SourceFile(path, len(data), partial(bytes, data), documents, vectors=dense)

    @property
    def _exported(self) -> Exported:
        return next(one for one in self._sources if self.named in ("", one.source))

    def _check_digests(self) -> None:
        one = self._identity
        for name, said in ((CHUNKS, one.chunks_sha256), (NUMPY, one.vectors_sha256)):
            path = self.folder / name
            if said and (not path.is_file() or _sha256(path, _stamp(path)) != said):
                raise _refused(self.folder, f"{name} is not the file that {IDENTITY} was made for")

    def _lines(self) -> Iterator[_Line]:
        before = 0
        for one in self._sources:
            if one == self._exported:
                break
            before += one.chunks
        wanted = self._exported.chunks
        is_last = self._exported == self._sources[-1]
        vectors = _vectors(self.folder, self._identity, before)
        read = 0
        try:
            with (self.folder / CHUNKS).open("rb") as file:
                raws = iter(partial(file.readline, MAX_LINE_BYTES), b"")
                for raw in islice(raws, before + 1, before + 1 + wanted):
                    number = before + 2 + read
                    row = _parsed(_ROW, raw, self.folder, f"line {number} of {CHUNKS}")
                    vector = next(vectors, None) if vectors is not None else row.vector
                    if vector is None or (vectors is not None and row.vector is not None):
                        raise _refused(self.folder, f"line {number} has not one vector")
                    yield _Line(number, raw, row, vector)
                    read += 1
                if read < wanted or (is_last and next(raws, None) is not None):
                    raise _refused(self.folder, f"{CHUNKS} has not as many lines as it says")
        except OSError as exc:
            raise _refused(self.folder, f"{CHUNKS} cannot be read: {exc.strerror}") from exc

    def _bounded(self, lines: Iterator[_Line]) -> Iterator[_Line]:
        size = 0
        for line in lines:
            size += len(line.raw) + 4 * self._identity.dimension
            if size > MAX_GROUP_BYTES:
                raise _refused(
                    self.folder,
                    f"the chunks of {line.row.path!r} take more than {MAX_GROUP_BYTES:,} bytes",
                )
            yield line

    def _check_ids(
        self, path: str, documents: tuple[Document, ...], group: Sequence[_Line]
    ) -> None:
        """A vector is that of its passage: line, id and passage must say the same."""
        exported = self._exported
        file = TextFile(path, "", "", documents)
        chunks = chunks_of(file, source=exported.source, package=exported.package)
        for line, chunk in zip(group, chunks, strict=True):
            if "\0" in chunk.passage + chunk.text + chunk.language + chunk.defines:
                raise _refused(self.folder, f"line {line.number} holds a NUL")
            if (_chunk(line.row), line.row.passage) != (chunk, chunk.passage):
                raise _refused(
                    self.folder, f"line {line.number} is not the chunk that its id names"
                )

    def _unit(self, group: Sequence[_Line]) -> FloatArray:
        """The vectors of some lines, with unit norm, shape (len(group), dimension)."""
        dimension = self._identity.dimension
        for line in group:
            if len(line.vector) != dimension:
                raise InvalidVector(
                    f"The vector of line {line.number} of {self.folder / CHUNKS} has"
                    f" {len(line.vector)} dimensions, not {dimension}.",
                    fix=_AGAIN,
                )
        dense = np.array([line.vector for line in group], np.float32)
        norms = np.linalg.norm(dense.astype(np.float64), axis=1)
        bad = ~(np.isfinite(norms) & (norms > 0))
        if bad.any():
            raise InvalidVector(
                f"The vector of line {group[int(bad.argmax())].number} of {self.folder / CHUNKS}"
                " holds NaN or infinite values, or is zero.",
                fix="Embed again with --dtype float32: half precision may overflow.",
            )
        unit: FloatArray = (dense / norms[:, None]).astype(np.float32)
        return unit


def each_source(folder: Path) -> tuple[str, ...]:
    """The sources in a folder, as `Vectors` takes them: one alone has no name.

    Raises:
        InvalidSource: It is not such a folder.
    """
    names = tuple(one.source for one in _opened(folder)[1].sources)
    return names if len(names) > 1 else ("",)


def _opened(folder: Path) -> tuple[_Identity, Header]:
    try:
        with (folder / IDENTITY).open("rb") as file:
            said = file.read(MAX_IDENTITY_BYTES + 1)
        with (folder / CHUNKS).open("rb") as file:
            first = file.readline(MAX_LINE_BYTES)
    except OSError as exc:
        name = Path(str(exc.filename)).name
        raise _refused(folder, f"{name} cannot be read: {exc.strerror}") from exc
    return (
        _parsed(_SPACE, said, folder, IDENTITY),
        _parsed(_HEADER, first, folder, f"the first line of {CHUNKS}"),
    )


def _parsed(adapter: TypeAdapter[_Checked], raw: bytes, folder: Path, what: str) -> _Checked:
    try:
        return adapter.validate_json(raw)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        why = readable(f"{where} {first['msg']}".strip())[:200]
        raise _refused(folder, f"{what} is not what it should be ({why})") from exc


def _vectors(folder: Path, identity: _Identity, skip: int) -> Iterator[FloatArray] | None:
    """The vectors from one on, as they are needed; None where they stand in the lines."""
    shape = (identity.count, identity.dimension)
    if (folder / NUMPY).exists():
        try:
            # A memory map cannot hold pickled objects, so nothing is ever unpickled.
            dense = np.lib.format.open_memmap(folder / NUMPY, mode="r")
        except (OSError, ValueError, SyntaxError, EOFError) as exc:
            raise _refused(folder, f"{NUMPY} is cut off, or no array of numbers") from exc
        if dense.shape != shape or dense.dtype.kind != "f":
            raise InvalidVector(
                f"{folder / NUMPY} has the shape {dense.shape} of {dense.dtype}, not {shape} of"
                " float32 or float16.",
                fix=_AGAIN,
            )
        return iter(dense[skip:])
    if (folder / PARQUET).exists():
        return islice(_parquet(folder, shape), skip, None)
    return None


def _parquet(folder: Path, shape: tuple[int, int]) -> Iterator[FloatArray]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as exc:
        raise InvalidSource(
            f"{folder / PARQUET} needs pyarrow to be read.", fix="Run: pip install pyarrow"
        ) from exc
    try:
        with ParquetFile(folder / PARQUET) as file:
            if file.metadata.num_rows != shape[0]:
                raise _refused(folder, f"{PARQUET} has not {shape[0]:,} rows")
            for batch in file.iter_batches(_AT_ONCE, columns=["vector"]):
                yield from map(partial(np.asarray, dtype=np.float32), batch[0].to_pylist())
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as exc:
        raise _refused(folder, f"{PARQUET} holds no column vector of numbers") from exc


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=16)
def _sha256(path: Path, stamp: tuple[int, int]) -> str:
    """Once for all sources of a folder, as long as the file is as it was."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


def _document(row: _Row) -> Document:
    return Document(
        text=row.text,
        start_line=row.start_line,
        language=row.language,
        symbol=row.symbol,
        kind=row.kind,
        defines=row.defines,
        plain=row.plain,
    )


def _chunk(row: _Row) -> Chunk:
    fields: dict[str, Any] = asdict(row)
    del fields["passage"], fields["vector"]
    return Chunk(**{**fields, "id": ChunkId(row.id)})


def _refused(folder: Path, why: str) -> InvalidSource:
    return InvalidSource(f"The vectors in {folder} cannot be used: {readable(why)}.", fix=_AGAIN)


_SPACE, _HEADER, _ROW = TypeAdapter(_Identity), TypeAdapter(Header), TypeAdapter(_Row)
