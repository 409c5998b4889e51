"""Writes down what indexing would embed, so that another machine's GPU can do so."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from backend.embedding.probe import PROBE
from backend.errors import InvalidSource, SearchError
from backend.ingestion.collection import Opened
from backend.ingestion.sources.vectors import Exported, Header
from backend.models.catalogue import Catalogue
from backend.reading import OnProgress, read

_CARD = ("revision", "dimension", "pooling", "query_prefix", "document_prefix", "max_tokens")
"""What embedding passages as the catalogue says takes."""


def export_chunks(
    sources: Sequence[Opened], path: Path, *, catalogue: Catalogue, on_progress: OnProgress
) -> int:
    """Write a `Header`, then a line of JSON for each chunk: its fields, and the passage.

    Args:
        sources: Where the chunks come from.
        path: The file; it is there when all of it has been written.
        catalogue: The models that may embed them.
        on_progress: Called with every file that is read.

    Returns:
        The number of chunks.

    Raises:
        InvalidSource: The sources hold no searchable text.
        SearchError: The file cannot be written.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent) as waiting:
            reading = read(sources, (), waiting, on_progress)
            counts = Counter[str]()
            for change in reading.changes():
                counts[change.source] += len(change.chunks)
            if not counts.total():
                raise InvalidSource(
                    f"{' and '.join(one.source.id for one in sources)} holds no text that can be"
                    " searched.",
                    fix="Choose a folder with source code or documentation.",
                )
            header = Header(
                probe=PROBE,
                sources=tuple(
                    Exported(
                        source=one.source.id,
                        package=one.source.package,
                        chunks=counts[one.source.id],
                        revision=(origin := reading.origins[one.source.id]).revision,
                        link=origin.link,
                        unlinked=origin.unlinked,
                    )
                    for one in sources
                    if counts[one.source.id]
                ),
                models={
                    card.id: {name: getattr(card, name) for name in _CARD}
                    for card in catalogue.cards
                    if card.kind == "embedding"
                },
            )
            part = path.with_name(f"{path.name}.part")
            with part.open("w", encoding="ascii") as file:
                file.write(json.dumps(asdict(header)) + "\n")
                for change in reading.changes():
                    for chunk in change.chunks:
                        line = {**asdict(chunk), "passage": chunk.passage}
                        file.write(json.dumps(line) + "\n")
            os.replace(part, path)
    except OSError as exc:
        raise SearchError(
            f"{path} cannot be written: {exc.strerror}.", fix="Name a file that can be written."
        ) from exc
    return counts.total()
