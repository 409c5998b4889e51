"""From what somebody typed to a query that every stage can rely on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from backend.config import Settings
from backend.errors import InvalidQuery
from backend.globs import check_globs
from backend.types import ConfidenceLabel, Filters, Kind, Query

MAX_QUERY_CHARS = 10_000
MAX_TOP_K = 100
MAX_CANDIDATES = 100
MAX_BUDGET_MS = 60_000
MAX_GLOBS = 50
MAX_LINE = 100_000_000
MAX_PATH_CHARS = 4_096
KINDS = frozenset(get_args(Kind))
CONFIDENCE_FLOORS: tuple[ConfidenceLabel, ...] = ("low", "medium", "high")
"""From the least to the most demanding."""


def make_query(
    text: str,
    *,
    collection: str,
    settings: Settings,
    top_k: int = 10,
    filters: Filters | None = None,
    rerank: bool | None = None,
    candidates: int | None = None,
    budget_ms: float | None = None,
    min_confidence: str | None = None,
) -> Query:
    """Validate a search; an option that is None takes its value from the settings.

    Raises:
        InvalidQuery: The text is blank, too long or not Unicode, or an option is out of range.
    """
    return Query(
        text=_text(text),
        collection=collection,
        top_k=int(_in_range("top_k", top_k, 1, MAX_TOP_K)),
        filters=_filters(filters or Filters()),
        rerank=settings.rerank if rerank is None else bool(rerank),
        candidates=int(
            _in_range(
                "candidates",
                settings.rerank_candidates if candidates is None else candidates,
                1,
                MAX_CANDIDATES,
            )
        ),
        budget_ms=_in_range(
            "budget_ms",
            settings.rerank_budget_ms if budget_ms is None else budget_ms,
            0,
            MAX_BUDGET_MS,
        ),
        min_confidence=_floor(min_confidence),
    )


def check_place(path: str, line: int, top_k: int) -> tuple[str, int, int]:
    """Validate what `find_related` is asked; returns it with a path as collections have them.

    Raises:
        InvalidQuery: The path is blank or not Unicode, or a number is out of range.
    """
    _check_unicode(path, "A path")
    path = path.strip().replace("\\", "/").removeprefix("./").strip("/")
    if not path:
        raise InvalidQuery("The path is empty.", fix="Name a file of the collection.")
    if len(path) > MAX_PATH_CHARS:
        raise InvalidQuery(
            f"The path has {len(path):,} characters.", fix="Name a file as search gives it."
        )
    line = int(_in_range("line", line, 1, MAX_LINE))
    return path, line, int(_in_range("top_k", top_k, 1, MAX_TOP_K))


def values(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """One value, several, or none, as filters take them; blanks are dropped."""
    given = [given] if isinstance(given, str) else given or []
    return tuple(value.strip() for value in given if value.strip())


def _floor(label: str | None) -> ConfidenceLabel | None:
    if not label:
        return None
    for known in CONFIDENCE_FLOORS:
        if label == known:
            return known
    raise InvalidQuery(
        f"min_confidence is {label!r}.", fix=f"Pass one of {', '.join(CONFIDENCE_FLOORS)}."
    )


def _filters(filters: Filters) -> Filters:
    given = (*filters.packages, *filters.languages, *filters.kinds, *filters.sources)
    for value in (*given, filters.path_prefix, *filters.paths):
        _check_unicode(value, "A filter")
    if len(filters.paths) > MAX_GLOBS:
        raise InvalidQuery(
            f"{len(filters.paths)} path patterns were given; {MAX_GLOBS} are allowed.",
            fix="Use a pattern that covers more.",
        )
    check_globs(filters.paths)
    kinds = tuple(kind.lower() for kind in filters.kinds)
    if unknown := set(kinds) - KINDS:
        raise InvalidQuery(
            f"There is no kind {min(unknown)!r}.", fix=f"Pass one of {', '.join(sorted(KINDS))}."
        )
    languages = tuple(language.lower() for language in filters.languages)
    return replace(filters, kinds=kinds, languages=languages)


def _check_unicode(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidQuery(
            f"{what} is not valid UTF-8.", fix="Type it again, or convert it to UTF-8."
        ) from exc


def _text(text: str) -> str:
    if not isinstance(text, str):
        raise InvalidQuery(f"A query is text, not {type(text).__name__}.", fix="Pass a string.")
    if len(text) > MAX_QUERY_CHARS:
        raise InvalidQuery(
            f"The query has {len(text):,} characters; {MAX_QUERY_CHARS:,} are allowed.",
            fix="Ask for one thing in a sentence, or paste only the lines that matter.",
        )
    _check_unicode(text, "The query")
    text = " ".join(text.replace("\0", " ").split())
    if not text:
        raise InvalidQuery("The query is empty.", fix="Describe the code or text to find.")
    return text


def _in_range(name: str, value: float, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidQuery(
            f"{name} is {value!r}; it must lie between {low:g} and {high:g}.",
            fix=f"Pass {name} within that range.",
        )
    return value
