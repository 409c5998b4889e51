"""The ranking before and after, as rows and the lines between them."""

from __future__ import annotations

from dataclasses import dataclass

from backend.types import Hit, SearchResponse

ROW_PX = 30
"""Height of a row: the css has the same number."""
WIDTH = 100
"""Width of the drawing in its own units; it is stretched to its column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A line from a hit's place before to its place after."""

    rank: int
    path: str
    """SVG path data."""
    trend: str
    """up, down, same, new or gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """How far a hit moved, in a glyph, in words and as a trend that decides its colour."""

    mark: str
    words: str
    trend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Both orders of one answer."""

    before: tuple[Hit, ...]
    after: tuple[Hit, ...]
    gone: tuple[Hit, ...]
    """Hits that the first stage had among the top k and the reranker has not."""
    links: tuple[Link, ...]
    height: int
    moved: int
    """How many of the top k stand elsewhere than before."""


def ranking(response: SearchResponse) -> Ranking:
    """Lay out a final answer."""
    shown = len(response.hits)
    before = response.candidates[:shown]
    gone = tuple(hit for hit in before if hit.rank > shown)
    links = [_link(hit, shown) for hit in (*gone, *response.hits)]
    return Ranking(
        before=before,
        after=response.hits,
        gone=gone,
        links=tuple(links),
        height=shown * ROW_PX,
        moved=sum(hit.moved != 0 for hit in response.hits),
    )


def movement(hit: Hit, shown: int) -> Movement:
    """Name a hit's movement, among the `shown` best."""
    if hit.first_rank > shown >= hit.rank:
        return Movement(
            mark=f"new · #{hit.first_rank}",
            words=f"new, from place {hit.first_rank} of the first stage",
            trend="new",
        )
    if hit.moved > 0:
        return Movement(mark=f"▲{hit.moved}", words=f"up {hit.moved}", trend="up")
    if hit.moved < 0:
        return Movement(mark=f"▼{-hit.moved}", words=f"down {-hit.moved}", trend="down")
    return Movement(mark="=", words="same place", trend="same")


def _link(hit: Hit, shown: int) -> Link:
    """A curve; one that comes from, or leads to, below the list meets its edge."""
    left = _middle(min(hit.first_rank, shown + 1), shown)
    right = _middle(min(hit.rank, shown + 1), shown)
    bend = WIDTH / 2
    trend = "gone" if hit.rank > shown else movement(hit, shown).trend
    return Link(
        rank=hit.rank,
        path=f"M0 {left:g} C{bend:g} {left:g} {bend:g} {right:g} {WIDTH} {right:g}",
        trend=trend,
    )


def _middle(place: int, shown: int) -> float:
    return shown * ROW_PX if place > shown else (place - 0.5) * ROW_PX
