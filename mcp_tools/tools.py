"""The tools as plain functions over a workspace: JSON values in and out, for any endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from loguru import logger

from backend.config import DEFAULT_COLLECTION
from backend.errors import InvalidQuery, SearchError
from backend.preparation import Preparation
from backend.types import Chunk, Hit, SearchResponse
from backend.workspace import Workspace

MAX_LINES = 200
ANSWER_CHARS = 24_000
"""Text of all hits of an answer together, about 6,000 tokens: agents pay for every one of them."""

_PLACE = ("source", "path", "start_line", "end_line", "symbol")
_FURTHER = ("rank", "start_line", "end_line", "symbol", "kind", "text", "text_cut", "url")
"""What a further hit of a file says: the rest is as in the hit above it."""

Result = TypeVar("Result")


class ToolError(Exception):
    """A message for the client. Nothing else of an exception ever reaches it."""


class Tools:
    """Answers what agents ask. Never waits for models or indexing.

    Args:
        workspace: What is searched.
        preparation: Tells how far the default collection has come.
    """

    def __init__(self, workspace: Workspace, preparation: Preparation) -> None:
        self._workspace = workspace
        self._preparation = preparation

    def search(
        self,
        query: str,
        *,
        collection: str = "",
        top_k: int = 8,
        packages: Sequence[str] | None = None,
        languages: Sequence[str] | None = None,
        kinds: Sequence[str] | None = None,
        path_prefix: str = "",
        paths: Sequence[str] | None = None,
        min_confidence: str = "",
        rerank: bool | None = None,
        max_lines: int = 40,
    ) -> dict[str, Any]:
        """Search, with every text cut to `max_lines` and all of them to a common budget.

        Raises:
            ToolError: The arguments cannot be searched with, or the search failed.
        """
        _check_lines(max_lines)
        collection = collection.strip() or DEFAULT_COLLECTION
        if self._preparation.awaited(collection):
            return self._preparing(collection)
        response = _guarded(
            lambda: self._workspace.search(
                query,
                collection=collection,
                top_k=top_k,
                packages=packages,
                languages=languages,
                kinds=kinds,
                path_prefix=path_prefix,
                paths=paths,
                min_confidence=min_confidence,
                rerank=rerank,
            )
        )
        return _answer(response, max_lines)

    def find_related(
        self, path: str, line: int, *, collection: str = "", top_k: int = 5, max_lines: int = 20
    ) -> dict[str, Any]:
        """Find chunks that resemble the one at a place.

        Raises:
            ToolError: There is no such place, or the search failed.
        """
        _check_lines(max_lines)
        collection = collection.strip() or DEFAULT_COLLECTION
        if self._preparation.awaited(collection):
            return self._preparing(collection)
        related = _guarded(
            lambda: self._workspace.find_related(path, line, collection=collection, top_k=top_k)
        )
        left, hits = ANSWER_CHARS, []
        for hit in related.hits:
            entry = {"similarity": round(hit.score, 3), **_chunk(hit.chunk, max_lines, left)}
            left -= len(entry["text"])
            hits.append(entry)
        place = _chunk(related.place, max_lines, 0)
        return {"place": {name: place[name] for name in _PLACE}, "hits": hits}

    def list_collections(self) -> dict[str, Any]:
        """What can be searched, and what is being prepared.

        Raises:
            ToolError: The collections cannot be read.
        """
        collections = _guarded(self._workspace.collections)
        answer: dict[str, Any] = {
            "default": DEFAULT_COLLECTION,
            "collections": [
                {
                    "name": info.name,
                    "description": info.description,
                    "chunks": info.chunks,
                    "files": info.files,
                    "sources": [summary.source for summary in info.sources],
                    "notes": [f"{s.source}: {s.note}" for s in info.sources if s.note],
                    "indexed_at": info.built_at,
                }
                for info in collections
            ],
        }
        if self._preparation.readiness.step != "ready":
            answer["preparing"] = self._state()
        return answer

    def _preparing(self, collection: str) -> dict[str, Any]:
        return {
            "status": "preparing",
            "message": f"Collection {collection!r} is not ready yet. Ask again in some seconds.",
            "progress": self._state(),
            "hits": [],
        }

    def _state(self) -> dict[str, Any]:
        readiness = self._preparation.readiness
        state: dict[str, Any] = {"step": readiness.step}
        if readiness.message:
            state["error"] = f"{readiness.message} {readiness.fix}".strip()
        if readiness.progress is not None:
            progress = readiness.progress
            left = progress.seconds_left
            state |= {
                "phase": progress.phase,
                "chunks": progress.chunks,
                "chunks_total": progress.chunks_total,
                "seconds_left": None if left is None else round(left),
            }
        return state


def _guarded(work: Callable[[], Result]) -> Result:
    """Run something and let only messages that are meant for clients out.

    Raises:
        ToolError: It failed.
    """
    try:
        return work()
    except SearchError as exc:
        raise ToolError(str(exc)) from None
    except Exception:
        logger.exception("A tool failed")
        raise ToolError("The search failed inside the server; its log says why.") from None


def _check_lines(max_lines: int) -> None:
    if not 1 <= max_lines <= MAX_LINES:
        refusal = InvalidQuery(
            f"max_lines is {max_lines}; it must lie between 1 and {MAX_LINES}.",
            fix="Pass max_lines within that range.",
        )
        raise ToolError(str(refusal))


def _answer(response: SearchResponse, max_lines: int) -> dict[str, Any]:
    left = ANSWER_CHARS
    hits = []
    for folded in response.folded:
        entry = _hit(folded.hit, max_lines, left)
        left -= len(entry["text"])
        hits.append(entry)
        for other in folded.also:
            further = _hit(other, max_lines, left)
            left -= len(further["text"])
            entry.setdefault("also", []).append({n: further[n] for n in further if n in _FURTHER})
    answer: dict[str, Any] = {
        "collection": response.query.collection,
        "confidence": response.confidence.label,
        "hits": hits,
        "candidates": len(response.candidates),
        "reranked": response.reranked,
        "timings_ms": {stage: round(ms, 1) for stage, ms in response.timings.items()},
    }
    if response.query.read_as:
        answer["read_as"] = response.query.read_as
    if response.withheld:
        answer["withheld"] = response.withheld
    if response.degraded:
        answer["degraded"] = response.degraded
    if response.rerank_note:
        answer["note"] = response.rerank_note
    return answer


def _hit(hit: Hit, max_lines: int, max_chars: int) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "rank": hit.rank,
        "first_rank": hit.first_rank,
        "score": round(hit.score, 4),
        **_chunk(hit.chunk, max_lines, max_chars),
    }
    if hit.url:
        entry["url"] = hit.url
    return entry


def _chunk(chunk: Chunk, max_lines: int, max_chars: int) -> dict[str, Any]:
    lines = chunk.text.split("\n")
    text = "\n".join(lines[:max_lines])[: max(0, max_chars)]
    entry: dict[str, Any] = {
        "source": chunk.source,
        "path": chunk.path,
        "start_line": chunk.start_line,
        "end_line": chunk.end_line,
        "symbol": chunk.symbol,
        "kind": chunk.kind,
        "language": chunk.language,
        "text": text,
    }
    if len(text) < len(chunk.text):
        entry["text_cut"] = True
    return entry
