"""What indexing would read and how long it would take, without indexing."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from backend.ingestion.chunking import chunks_of
from backend.ingestion.collection import Opened
from backend.ingestion.files import Skipped, text_files
from backend.types import FloatArray, IndexProgress, Preview, SourceSummary

SAMPLE_CHUNKS = 32
"""Embedded to see how fast that goes here: some tenths of a second."""
_WARM_CHUNKS = 4


class DocumentEmbedder(Protocol):
    """Anything that embeds documents."""

    def embed_documents(self, texts: Sequence[str]) -> FloatArray: ...


def preview(
    sources: Sequence[Opened],
    *,
    collection: str,
    embedder: DocumentEmbedder,
    on_progress: Callable[[IndexProgress], None],
) -> Preview:
    """Read all sources as indexing would, and embed a few of their chunks to learn the pace.

    Raises:
        SearchError: A source cannot be read, or the model cannot embed.
    """
    skipped = Skipped()
    languages: Counter[str] = Counter()
    summaries: list[SourceSummary] = []
    sample = _Sample()
    seen: set[str] = set()
    chunks_total = 0
    for opened in sources:
        source, files, before = opened.source, {}, chunks_total
        for file in text_files(source.files(skipped), skipped):
            if file.digest in seen:
                skipped.add("identical to another file", file.path)
                continue
            seen.add(file.digest)
            files[file.path] = file.digest
            chunks = chunks_of(file, source=source.id, package=source.package)
            languages.update({chunk.language for chunk in chunks})
            chunks_total += len(chunks)
            if file.vectors is None:
                for chunk in chunks:
                    sample.offer(chunk.passage)
            progress = IndexProgress(phase="read", files=len(seen), chunks_total=chunks_total)
            on_progress(progress)
        origin = source.origin(files)
        summaries.append(
            SourceSummary(
                source=source.id,
                files=len(files),
                chunks=chunks_total - before,
                note=" ".join(note for note in (opened.note, origin.note) if note),
                revision=origin.revision,
            )
        )
    rate = _chunks_per_second(embedder, sample.passages)
    return Preview(
        collection=collection,
        sources=tuple(summaries),
        files=sum(summary.files for summary in summaries),
        chunks=chunks_total,
        languages=dict(languages.most_common()),
        skipped=dict(skipped.most_common()),
        examples={reason: tuple(paths) for reason, paths in skipped.examples.items()},
        chunks_per_second=rate,
        seconds=sample.offered / rate if rate else 0.0,
    )


class _Sample:
    """Passages of which each that is offered is kept with the same chance; the same every time."""

    def __init__(self) -> None:
        self.passages: list[str] = []
        self.offered = 0
        self._random = random.Random(0)

    def offer(self, passage: str) -> None:
        self.offered += 1
        if len(self.passages) < SAMPLE_CHUNKS:
            self.passages.append(passage)
        elif (place := self._random.randrange(self.offered)) < SAMPLE_CHUNKS:
            self.passages[place] = passage


def _chunks_per_second(embedder: DocumentEmbedder, passages: Sequence[str]) -> float:
    """0 when there is nothing to embed."""
    if not passages:
        return 0.0
    embedder.embed_documents(passages[:_WARM_CHUNKS])  # The first call loads the model.
    began = time.monotonic()
    embedder.embed_documents(passages)
    return len(passages) / max(time.monotonic() - began, 1e-6)
