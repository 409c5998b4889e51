"""INDEX: sources → files → chunks → vectors and BM25 → an index that replaces the one before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np
from loguru import logger

from backend.catalog import Catalog, Record
from backend.embedding.bm25 import document_vector
from backend.embedding.probe import same_vectors
from backend.errors import InvalidSource, SearchError
from backend.ingestion.chunking import chunks_of
from backend.ingestion.collection import Opened
from backend.ingestion.files import Skipped, text_files
from backend.store.protocol import ChunkStore
from backend.types import (
    Chunk,
    ChunkId,
    CollectionInfo,
    FloatArray,
    IndexIdentity,
    IndexProgress,
    IndexReport,
    SourceSummary,
)

BATCH_CHUNKS = 128
"""Chunks embedded and written at a time: a second or two of work, the step of the progress bar."""
OnProgress = Callable[[IndexProgress], None]


class DocumentEmbedder(Protocol):
    """Anything that embeds documents."""

    def embed_documents(self, texts: Sequence[str]) -> FloatArray:
        """Unit norm, shape (len(texts), dimension)."""
        ...


class PassageTokenizer(Protocol):
    """Anything that prepares passages for the reranker."""

    def tokenize(self, passages: Sequence[str]) -> Sequence[bytes]:
        """One value a passage, kept with it."""
        ...


class Stores(Protocol):
    """Makes and opens indexes in folders."""

    def create(self, folder: Path) -> ChunkStore: ...
    def open(self, folder: Path) -> ChunkStore: ...


@dataclass
class _Reading:
    """What the sources hold."""

    chunks: list[Chunk] = field(default_factory=list)
    summaries: list[SourceSummary] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    digests: set[str] = field(default_factory=set)
    content: list[str] = field(default_factory=list)
    """Source, path and digest of every file: what the fingerprint is taken over."""

    @property
    def progress(self) -> IndexProgress:
        """How much there is, for reports on what follows."""
        return IndexProgress(phase="read", files=len(self.content), chunks_total=len(self.chunks))


@dataclass(frozen=True)
class Indexer:
    """Builds the index of a collection beside the one in use, and then switches.

    Vectors of chunks that stand in an earlier generation, or in one that was cut off, are copied
    from there: a change costs what it changes, and an interrupted run goes on where it stopped.
    """

    catalog: Catalog
    stores: Stores
    embedder: DocumentEmbedder
    tokenizer: PassageTokenizer
    identity: IndexIdentity

    def index(
        self,
        name: str,
        sources: Sequence[Opened],
        *,
        description: str,
        current: ChunkStore | None,
        on_progress: OnProgress,
    ) -> tuple[IndexReport, ChunkStore | None]:
        """Index a collection.

        Args:
            name: The collection's name.
            sources: Where its files come from.
            description: A sentence for people and agents who choose a collection; empty keeps the
                one it has.
            current: The open index of the collection, if it has one.
            on_progress: Called some times a second with where the run stands.

        Returns:
            What was done, and the new open index; None if nothing had changed. The files of the
            generation before remain: searches may still be reading them.

        Raises:
            InvalidSource: The name is not one, or the sources hold no searchable text.
        """
        started = time.monotonic()
        self.catalog.check_name(name)
        reading = self._read(sources, on_progress)
        if not reading.chunks:
            raise InvalidSource(
                f"{' and '.join(opened.source.id for opened in sources)} holds no text that can be"
                f" searched ({_reasons(reading.skipped)}).",
                fix="Choose a folder with source code or documentation.",
            )
        record = self.catalog.record(name) if current is not None else None
        if record is not None:
            description = description or record.info.description
        fingerprint = self._fingerprint(reading)
        if (
            record is not None
            and record.fingerprint == fingerprint
            and same_vectors(record.info.identity, self.identity)
        ):
            described = replace(record.info, description=description)
            if described != record.info:
                self.catalog.commit(name, replace(record, info=described))
            report = IndexReport(
                info=described,
                embedded=0,
                reused=0,
                seconds=time.monotonic() - started,
                changed=False,
            )
            return report, None
        generation = self.catalog.begin(name, self.identity)
        store = self.stores.create(self.catalog.index_folder(name, generation))
        try:
            with self._earlier(name, record, current, besides=generation) as earlier:
                embedded = self._fill(store, reading, earlier, on_progress)
            total = len(reading.chunks)
            on_progress(replace(reading.progress, phase="optimize", chunks=total))
            store.optimize()
            info = CollectionInfo(
                name=name,
                description=description,
                chunks=total,
                files=sum(summary.files for summary in reading.summaries),
                sources=tuple(reading.summaries),
                skipped=dict(reading.skipped.most_common()),
                identity=self.identity,
                built_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
            self.catalog.commit(
                name, Record(generation=generation, fingerprint=fingerprint, info=info)
            )
        except BaseException:
            store.close()  # What it holds so far is reused by the next run.
            raise
        seconds = time.monotonic() - started
        logger.info("Indexed {n} chunks of {name} in {s:.1f} s", n=total, name=name, s=seconds)
        report = IndexReport(
            info=info,
            embedded=embedded,
            reused=total - embedded,
            seconds=seconds,
            changed=True,
        )
        return report, store

    def _read(self, sources: Sequence[Opened], on_progress: OnProgress) -> _Reading:
        reading = _Reading()
        for opened in sources:
            source = opened.source
            chunks_before = len(reading.chunks)
            files: dict[str, str] = {}
            for file in text_files(source.files(reading.skipped), reading.skipped):
                if file.digest in reading.digests:
                    reading.skipped.add("identical to another file", file.path)
                    continue
                reading.digests.add(file.digest)
                reading.content.append(f"{source.id}\0{file.path}\0{file.digest}")
                reading.chunks += chunks_of(file, source=source.id, package=source.package)
                files[file.path] = file.digest
                message = f"{source.package}: {file.path}"
                on_progress(replace(reading.progress, message=message))
            origin = source.origin(files)
            reading.summaries.append(
                SourceSummary(
                    source=source.id,
                    files=len(files),
                    chunks=len(reading.chunks) - chunks_before,
                    note=" ".join(note for note in (opened.note, origin.note) if note),
                    revision=origin.revision,
                    link=origin.link,
                    unlinked=origin.unlinked,
                )
            )
        return reading

    def _fill(
        self,
        store: ChunkStore,
        reading: _Reading,
        earlier: Sequence[ChunkStore],
        on_progress: OnProgress,
    ) -> int:
        """Write all chunks; returns how many had to be embedded."""
        chunks = reading.chunks
        embedded, seconds = 0, 0.0
        for start in range(0, len(chunks), BATCH_CHUNKS):
            batch = chunks[start : start + BATCH_CHUNKS]
            vectors = _known_vectors([chunk.id for chunk in batch], earlier)
            missing = [chunk for chunk in batch if chunk.id not in vectors]
            if missing:
                began = time.monotonic()
                fresh = self.embedder.embed_documents([chunk.passage for chunk in missing])
                seconds += time.monotonic() - began
                embedded += len(missing)
                vectors |= {chunk.id: vector for chunk, vector in zip(missing, fresh, strict=True)}
            dense = np.stack([vectors[chunk.id] for chunk in batch])
            tokens = self.tokenizer.tokenize([chunk.passage for chunk in batch])
            store.upsert(batch, dense, [document_vector(chunk) for chunk in batch], tokens)
            done = start + len(batch)
            rate = embedded / seconds if seconds else 0.0
            on_progress(
                replace(
                    reading.progress,
                    phase="embed",
                    chunks=done,
                    chunks_per_second=rate,
                    seconds_left=(len(chunks) - done) / rate if rate else None,
                    message=batch[-1].path,
                )
            )
        return embedded

    @contextmanager
    def _earlier(
        self, name: str, record: Record | None, current: ChunkStore | None, *, besides: str
    ) -> Iterator[list[ChunkStore]]:
        """Generations whose vectors can be copied, the current one first."""
        usable: list[ChunkStore] = []
        with ExitStack() as opened:
            for generation, identity in self.catalog.generations(name):
                if generation == besides or not same_vectors(identity, self.identity):
                    continue
                if record is not None and generation == record.generation and current is not None:
                    usable.insert(0, current)
                    continue
                folder = self.catalog.index_folder(name, generation)
                try:
                    usable.append(opened.enter_context(closing(self.stores.open(folder))))
                except SearchError as exc:
                    logger.warning("Cannot reuse {name}: {why}", name=generation, why=exc)
            yield usable

    def _fingerprint(self, reading: _Reading) -> str:
        state = blake2b(repr(self.identity).encode(), digest_size=16)
        for line in sorted(reading.content) + [repr(summary) for summary in reading.summaries]:
            state.update(line.encode("utf-8", "surrogateescape"))
        return state.hexdigest()


def _known_vectors(
    ids: Sequence[ChunkId], stores: Sequence[ChunkStore]
) -> dict[ChunkId, FloatArray]:
    known: dict[ChunkId, FloatArray] = {}
    for store in stores:
        missing = [id for id in ids if id not in known]
        if missing:
            known.update(store.vectors(missing))
    return known


def _reasons(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "it is empty"
