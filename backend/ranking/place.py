"""From `path:line` to the chunk that stands there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rapidfuzz import process

from backend.errors import UnknownPlace
from backend.ranking.reading import Place
from backend.types import Chunk

_NAMED = 3
"""Files that an error names."""


def find_place(
    paths: Sequence[str], at: Callable[[str, int], Sequence[Chunk]], path: str, line: int
) -> Chunk:
    """The chunk that holds a line.

    Args:
        paths: All paths of the collection.
        at: The chunks of the files of a path that hold a line.
        path: One of them, or what `Place.among` takes for a single one.
        line: From 1.

    Raises:
        UnknownPlace: No file of that path, several, or none of its chunks holds the line.
    """
    held = [path] if path in paths else Place(path, line).among(paths)
    if len(held) > 1:
        named = ", ".join(sorted(held)[:_NAMED])
        raise UnknownPlace(
            f"{len(held)} files end with {path}: {named}…", fix="Give more of the path."
        )
    if not held:
        near = [one for one, _, _ in process.extract(path, paths, limit=_NAMED)]
        raise UnknownPlace(
            f"The collection has no file {path}.",
            fix=f"Did you mean {', '.join(near)}?" if near else "Index it first.",
        )
    chunks = sorted(at(held[0], line), key=lambda chunk: (chunk.source, chunk.start_line))
    if not chunks:
        raise UnknownPlace(
            f"No chunk of {held[0]} holds line {line}.",
            fix="Give a line of the file that is not blank.",
        )
    return chunks[0]
