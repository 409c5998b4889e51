"""What lies in a store beside a chunk's vectors, and which of it filters accept."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from backend.globs import matching
from backend.types import Chunk, ChunkId, Filters

_TOKENS = "tokens"


def payload(chunk: Chunk, tokens: bytes) -> dict[str, object]:
    """All of a chunk but its id, and its passage as the reranker's tokenizer wrote it."""
    fields = asdict(chunk)
    del fields["id"]
    return fields | {_TOKENS: b64encode(tokens).decode()}


def from_payload(id: object, fields: Mapping[str, Any] | None) -> tuple[Chunk, bytes]:
    """The chunk and the tokens that `payload` was made of.

    Raises:
        KeyError, TypeError, ValueError: It was not.
    """
    kept = dict(fields or {})
    tokens = b64decode(str(kept.pop(_TOKENS)))
    return Chunk(id=ChunkId(str(id)), **kept), tokens


def accepted(filters: Filters, paths: Callable[[], Sequence[str]]) -> dict[str, list[str]]:
    """Field to the values of which a chunk must have one; all but the prefix of the path.

    Args:
        filters: What is asked.
        paths: All there are, read only if patterns are to be matched with them.
    """
    wanted = {
        "package": list(filters.packages),
        "language": list(filters.languages),
        "kind": list(filters.kinds),
        "source": list(filters.sources),
    }
    if filters.paths:
        wanted["path"] = list(matching(filters.paths, paths())) or [""]  # No path is empty.
    return {field: values for field, values in wanted.items() if values}
