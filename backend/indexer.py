"""INDEX: sources → files → chunks → vectors and BM25 → the index that is searched.

A run reads what has changed and writes it in place, whole files at a time: whoever searches
meanwhile finds each file as it was or as it is. Only a collection that is new, or made otherwise
than is configured now, gets a new index beside the old one. Nothing here grows with the collection
but a few bytes a file.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Protocol

import numpy as np
from loguru import logger

from backend.catalog import Catalog, Record
from backend.embedding.bm25 import document_vector
from backend.embedding.probe import check_arriving, same_vectors
from backend.errors import InvalidSource, SearchError
from backend.ingestion.collection import Opened
from backend.ingestion.sources.origin import Origin
from backend.ingestion.sources.vectors import Vectors
from backend.ledger import Change, FileRecord, Ledger, passage_digest
from backend.reading import OnProgress, Reading, read
from backend.store.protocol import ChunkStore
from backend.types import (
    CollectionInfo,
    FloatArray,
    IndexIdentity,
    IndexReport,
    SourceSummary,
)

BATCH_CHUNKS = 128
"""Chunks embedded and written at a time: a second or two of work, the step of the progress bar."""
DURABLE_SECONDS = 10.0
"""How often what was written is made durable. A power cut costs what was written since; a process
that is killed without one loses nothing."""
Publish = Callable[[Record, ChunkStore], None]


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
    """Makes and opens the indexes of a collection's generations."""

    def create(self, name: str, generation: str, identity: IndexIdentity) -> ChunkStore: ...
    def open(self, name: str, generation: str, identity: IndexIdentity) -> ChunkStore: ...


@dataclass(frozen=True)
class _Generation:
    """An open index with its ledger."""

    name: str
    identity: IndexIdentity
    store: ChunkStore
    ledger: Ledger

    def vectors(self, passages: Sequence[bytes]) -> dict[bytes, FloatArray]:
        """Of those passages that are, or recently were, in the index."""
        holders = self.ledger.holders(passages)
        stored = self.store.vectors(list(holders.values()))
        found = {passage: stored[id] for passage, id in holders.items() if id in stored}
        return found | self.ledger.kept([one for one in passages if one not in found])


@dataclass(frozen=True)
class Indexer:
    """Brings the index of a collection up to date, or makes it.

    A passage that is, or recently was, anywhere in the collection is not embedded again, whatever
    file or generation it stood in. A file that moves is: its path is part of its passages.
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
        publish: Publish,
        on_progress: OnProgress,
    ) -> IndexReport:
        """Index a collection.

        Args:
            name: The collection's name.
            sources: Where its files come from.
            description: A sentence for people and agents who choose a collection; empty keeps the
                one it has.
            current: The open index of the collection, if it has one that can be read.
            publish: Called with what is to be on record, and the index to search from now on, if
                either has changed. Searches may still be reading the index before.
            on_progress: Called some times a second with where the run stands.

        Raises:
            InvalidSource: The name is not one, or the sources hold no searchable text.
            IdentityMismatch: Chunks arrive with vectors that the configured model would not give.
            DataFolderUnusable: The data folder cannot be written, or its disk is full.
        """
        started = time.monotonic()
        self.catalog.check_name(name)
        for one in sources:
            if isinstance(one.source, Vectors):
                check_arriving(one.source.id, one.source.space, self.identity)
        record = self.catalog.record(name) if current is not None else None
        with ExitStack() as opened, ExitStack() as unpublished:
            target = self._in_place(name, record, current, opened)
            target = target or self._resumed(name, opened, unpublished)
            waiting = opened.enter_context(self.catalog.scratch_file())
            known = target.ledger.files() if target else ()
            reading = read(sources, known, waiting, on_progress)
            if not reading.files:
                raise InvalidSource(
                    f"{' and '.join(one.source.id for one in sources)} holds no text that can be"
                    f" searched ({_reasons(reading.skipped)}).",
                    fix="Choose a folder with source code or documentation.",
                )
            target = target or self._begun(name, opened, unpublished)
            is_new = target.store is not current
            changed = bool(is_new or reading.changed or reading.left or target.ledger.unsettled)
            embedded = 0
            if changed:
                target.ledger.settle(settled=False)
                others = self._others(name, target, record, current, opened)
                embedded = _Writing(self, target, others, reading, on_progress).run()
                on_progress(replace(reading.progress, phase="optimize", chunks=reading.chunks))
                target.store.optimize()
            target.ledger.restamp(reading.restamped)
            info = _info(name, sources, target, reading)
            if record is not None:
                info = replace(info, description=record.info.description)
                if not changed:
                    info = replace(info, built_at=record.info.built_at)
            info = replace(info, description=description or info.description)
            if record is None or changed or info != record.info:
                publish(Record(generation=target.name, info=info), target.store)
                target.ledger.settle()
            unpublished.pop_all()
        seconds = time.monotonic() - started
        logger.info(
            "Indexed {n} chunks of {name} in {s:.1f} s", n=info.chunks, name=name, s=seconds
        )
        return IndexReport(
            info=info,
            embedded=embedded,
            reused=info.chunks - embedded if changed else 0,
            seconds=seconds,
            changed=changed,
            added=reading.added,
            altered=reading.altered,
            removed=reading.removed,
        )

    def _in_place(
        self, name: str, record: Record | None, current: ChunkStore | None, opened: ExitStack
    ) -> _Generation | None:
        """The generation that is searched now, if it can simply be updated."""
        if record is None or current is None or not self._made_as_now(record.info.identity):
            return None
        ledger = self._ledger(name, record.generation, opened)
        if ledger is None:
            return None
        return _Generation(record.generation, record.info.identity, current, ledger)

    def _resumed(self, name: str, opened: ExitStack, unpublished: ExitStack) -> _Generation | None:
        """A generation that was never finished, if it can be gone on with."""
        searched = self.catalog.searched_generation(name)
        for generation, identity in self.catalog.generations(name):
            if generation == searched or not self._made_as_now(identity):
                continue
            found = self._open(name, generation, identity, opened, unpublished)
            if found is not None:
                return found
        return None

    def _begun(self, name: str, opened: ExitStack, unpublished: ExitStack) -> _Generation:
        generation = self.catalog.begin(name, self.identity)
        store = self.stores.create(name, generation, self.identity)
        unpublished.callback(store.close)  # What it holds is gone on with by the next run.
        ledger = opened.enter_context(closing(Ledger(self.catalog.ledger_file(name, generation))))
        return _Generation(generation, self.identity, store, ledger)

    def _others(
        self,
        name: str,
        target: _Generation,
        record: Record | None,
        current: ChunkStore | None,
        opened: ExitStack,
    ) -> list[_Generation]:
        """Generations besides the target whose vectors can be copied."""
        usable = []
        for generation, identity in self.catalog.generations(name):
            if generation == target.name or not same_vectors(identity, self.identity):
                continue
            if record is not None and generation == record.generation and current is not None:
                ledger = self._ledger(name, generation, opened)
                found = ledger and _Generation(generation, identity, current, ledger)
            else:
                found = self._open(name, generation, identity, opened, opened)
            if found:
                usable.append(found)
        return usable

    def _open(
        self,
        name: str,
        generation: str,
        identity: IndexIdentity,
        ledgers: ExitStack,
        stores: ExitStack,
    ) -> _Generation | None:
        ledger = self._ledger(name, generation, ledgers)
        if ledger is None:
            return None
        try:
            store = self.stores.open(name, generation, identity)
        except SearchError as exc:
            logger.warning("Cannot use {generation}: {why}", generation=generation, why=exc)
            return None
        stores.callback(store.close)
        return _Generation(generation, identity, store, ledger)

    def _ledger(self, name: str, generation: str, opened: ExitStack) -> Ledger | None:
        path = self.catalog.ledger_file(name, generation)
        if not path.exists():
            return None
        try:
            return opened.enter_context(closing(Ledger(path)))
        except SearchError as exc:
            logger.warning("Cannot use {generation}: {why}", generation=generation, why=exc)
            return None

    def _made_as_now(self, identity: IndexIdentity) -> bool:
        return identity == self.identity and same_vectors(identity, self.identity)


@dataclass
class _Writing:
    """The second half of a run: what has changed goes into the index, what has left leaves it."""

    indexer: Indexer
    target: _Generation
    others: Sequence[_Generation]
    reading: Reading
    on_progress: OnProgress
    done: int = 0
    embedded: int = 0
    written: list[Change] = field(default_factory=list)
    """What is in the index, but perhaps not yet durably."""
    removed: list[int] = field(default_factory=list)
    """Files that are not, likewise."""

    def __post_init__(self) -> None:
        self._leaving: dict[str, list[FileRecord]] = defaultdict(list)
        """Files that leave while another of the same path comes: both in one step."""
        self._began = self._durable = time.monotonic()

    def run(self) -> int:
        """Write everything; returns how many chunks had to be embedded."""
        ledger = self.target.ledger
        ledger.leave(file.id for file in self.reading.left)
        gone: list[int] = []
        for file in self.reading.left:
            if file.path in self.reading.changed:
                self._leaving[file.path].append(file)
            else:
                gone.append(file.id)
        for start in range(0, len(gone), BATCH_CHUNKS):
            self._remove(gone[start : start + BATCH_CHUNKS])
        for changes in _batches(self.reading.changes()):
            self._write(changes)
            if time.monotonic() - self._durable > DURABLE_SECONDS:
                self._make_durable()
        self._make_durable()
        ledger.trim()
        return self.embedded

    def _remove(self, files: Sequence[int]) -> None:
        ids = [id for file in files for id in self.target.ledger.chunk_ids(file)]
        self.target.ledger.keep(self.target.store.vectors(ids))
        self.target.store.delete(ids)
        self.removed += files

    def _write(self, changes: Sequence[Change]) -> None:
        """Put some whole files into the index in one step."""
        ledger, store = self.target.ledger, self.target.store
        chunks = [chunk for change in changes for chunk in change.chunks]
        dense = self._vectors(changes)
        leaving = [file.id for change in changes for file in self._leaving.pop(change.path, ())]
        known = [id for file in leaving for id in ledger.chunk_ids(file)]
        known += [id for file in ledger.begin(changes) for id in ledger.chunk_ids(file)]
        gone = set(known).difference(chunk.id for chunk in chunks)
        ledger.keep(store.vectors(list(gone)))
        tokens = self.indexer.tokenizer.tokenize([chunk.passage for chunk in chunks])
        sparse = [document_vector(chunk) for chunk in chunks]
        store.upsert(chunks, dense, sparse, tokens, remove=gone)
        self.removed += leaving
        self.written += changes
        self.done += len(chunks)
        self._tell(changes[-1].path)

    def _vectors(self, changes: Sequence[Change]) -> FloatArray:
        """Vectors that arrive or are known where there are any; the others are embedded."""
        chunks = [chunk for change in changes for chunk in change.chunks]
        passages = [passage_digest(chunk.passage) for chunk in chunks]
        vectors: dict[bytes, FloatArray] = {
            passage_digest(chunk.passage): vector
            for change in changes
            if change.vectors is not None
            for chunk, vector in zip(change.chunks, change.vectors, strict=True)
        }
        for generation in (self.target, *self.others):
            missing = [passage for passage in passages if passage not in vectors]
            vectors |= generation.vectors(missing)
        unknown = {
            passage: chunk
            for passage, chunk in zip(passages, chunks, strict=True)
            if passage not in vectors
        }
        waiting = list(unknown)
        for start in range(0, len(waiting), BATCH_CHUNKS):
            part = waiting[start : start + BATCH_CHUNKS]
            texts = [unknown[passage].passage for passage in part]
            embedded = self.indexer.embedder.embed_documents(texts)
            vectors |= dict(zip(part, embedded, strict=True))
            self.embedded += len(part)
            if start + BATCH_CHUNKS < len(waiting):
                self._tell(unknown[part[-1]].path, ahead=len(vectors))
        dimension = self.target.identity.dimension
        return np.array([vectors[one] for one in passages], np.float32).reshape(-1, dimension)

    def _make_durable(self) -> None:
        """Only what outlasts a power cut may the ledger call done."""
        self.target.store.flush()
        self.target.ledger.finish(self.written)
        self.target.ledger.forget(self.removed)
        self.written, self.removed = [], []
        self._durable = time.monotonic()

    def _tell(self, path: str, *, ahead: int = 0) -> None:
        done, total = self.done + ahead, self.reading.chunks
        rate = done / (time.monotonic() - self._began)
        self.on_progress(
            replace(
                self.reading.progress,
                phase="embed",
                chunks=done,
                chunks_per_second=rate,
                seconds_left=(total - done) / rate if rate else None,
                message=path,
            )
        )


def _batches(changes: Iterator[Change]) -> Iterator[list[Change]]:
    """Whole files, as many as have the chunks of a batch together; at least one."""
    batch: list[Change] = []
    size = 0
    for change in changes:
        batch.append(change)
        size += len(change.chunks)
        if size >= BATCH_CHUNKS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _info(
    name: str, sources: Sequence[Opened], target: _Generation, reading: Reading
) -> CollectionInfo:
    totals = target.ledger.totals()
    return CollectionInfo(
        name=name,
        description="",
        chunks=sum(chunks for _, chunks in totals.values()),
        files=sum(files for files, _ in totals.values()),
        sources=tuple(
            _summary(opened, reading.origins[opened.source.id], totals) for opened in sources
        ),
        skipped=dict(reading.skipped.most_common()),
        identity=target.identity,
        built_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _summary(
    opened: Opened, origin: Origin, totals: Mapping[str, tuple[int, int]]
) -> SourceSummary:
    files, chunks = totals.get(opened.source.id, (0, 0))
    return SourceSummary(
        source=opened.source.id,
        files=files,
        chunks=chunks,
        note=" ".join(note for note in (opened.note, origin.note) if note),
        revision=origin.revision,
        link=origin.link,
        unlinked=origin.unlinked,
        asked=opened.asked,
    )


def _reasons(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "it is empty"
