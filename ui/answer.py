"""A search response as the three panels of its answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from backend.config import Settings
from backend.types import Chunk, CollectionInfo, Hit, Related, SearchResponse
from ui.highlight import code_lines
from ui.panel import render
from ui.ranking import Movement, movement, ranking

FOLD_LINES = 20
"""Lines of a hit that are shown before "show all"."""
SIMILAR = "similar:"
"""What a query begins with that asks for chunks like the one at `path:line`."""
_STAGES = {
    "read": "Read",
    "embed": "Embed query",
    "retrieve": "Retrieve",
    "rank": "Signals",
    "assess": "Assess",
    "rerank": "Rerank",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """HTML for the three places below the query."""

    verdict: str = ""
    order: str = ""
    hits: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """A segment of the bar of milliseconds."""

    name: str
    label: str
    ms: float
    share: float
    """Per cent of the total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A hit with its code, and further hits of its file."""

    hit: Hit
    movement: Movement | None
    """None while the order is not final, or was not reranked."""
    head: tuple[Markup, ...]
    rest: tuple[Markup, ...]
    why: str
    """The scores and what each signal added."""
    also: tuple[Card, ...] = ()

    @property
    def lines(self) -> int:
        return len(self.head) + len(self.rest)


def show(response: SearchResponse) -> Answer:
    """Show a response, first-stage or final."""
    if not response.hits:
        return nothing_found(response)
    moves = not response.pending and response.reranked > 0
    return Answer(
        verdict=render(
            "verdict.html",
            sentence=sentence(response),
            stages=_stages(response),
            total=response.timings["total"],
            pending=response.pending,
            degraded=response.degraded,
            confidence=response.confidence.label,
            read_as=response.query.read_as,
        ),
        order=render(
            "order.html",
            r=ranking(response),
            response=response,
            moves=moves,
            movement=movement,
            shown=len(response.hits),
            place=place,
            near=near,
            owner=owner,
            tail=tail,
        ),
        hits=_cards(
            _card(
                folded.hit,
                shown=len(response.hits),
                moves=moves,
                also=tuple(
                    _card(hit, shown=len(response.hits), moves=moves) for hit in folded.also
                ),
            )
            for folded in response.folded
        ),
    )


def show_related(related: Related) -> Answer:
    """Show what resembles a place."""
    cards = [
        _card(
            Hit(
                chunk=hit.chunk,
                score=hit.score,
                rank=rank,
                first_rank=rank,
                first_score=hit.score,
                fused_rank=rank,
                fused_score=hit.score,
                signals={},
                held_back=0.0,
                rerank_score=None,
            ),
            shown=len(related.hits),
            moves=False,
            why=f"similarity {hit.score:.3f}",
        )
        for rank, hit in enumerate(related.hits, start=1)
    ]
    return Answer(
        verdict=render("related.html", place=place(related.place), symbol=related.place.symbol),
        hits=_cards(cards),
    )


def problem(message: str, fix: str = "") -> Answer:
    """An error in the place where the answer would have been."""
    return Answer(verdict=render("problem.html", message=message, fix=fix))


def nothing_found(response: SearchResponse) -> Answer:
    """An answer without hits: filters can bring that about, or words that nothing holds."""
    return Answer(verdict=render("nothing.html", response=response))


def introduction(settings: Settings, info: CollectionInfo | None) -> str:
    """What stands below the query before anything was asked."""
    return render("intro.html", settings=settings, info=info)


def waiting(collection: str) -> Answer:
    """The query came before its collection; the page asks again when that is ready."""
    return Answer(verdict=render("waiting.html", collection=collection))


def sentence(response: SearchResponse) -> str:
    """What the two stages did, in a sentence or two."""
    timings, shown = response.timings, len(response.hits)
    found = len(response.candidates)
    asked = min(response.query.candidates, found)
    if response.pending:
        return f"First-stage hits in {_ms(timings['total'])}. Reranking {asked} candidates…"
    if not response.query.rerank:
        return f"{shown} first-stage hits in {_ms(timings['total'])}. Reranking is off."
    spent = _ms(timings["rerank"])
    moved = ranking(response).moved
    effect = f"{moved} of the top {shown} moved" if moved else "the order stayed as it was"
    if response.reranked == 0 and response.rerank_note.startswith("not reranked"):
        return f"{shown} first-stage hits, {response.rerank_note}"
    if response.reranked < asked:
        budget = f"Stopped at {response.query.budget_ms:g} ms"
        return f"{budget}: {response.reranked} of {asked} reranked; {effect}."
    done = f"{response.reranked} of {asked} candidates reranked in {spent}"
    if response.remembered:
        done += f", {response.remembered} of them remembered from an earlier search"
    return f"{done}; {effect}."


def place(chunk: Chunk) -> str:
    """`path:first-last`, as editors and terminals take it."""
    return f"{chunk.path}:{chunk.start_line}-{chunk.end_line}"


def near(chunk: Chunk) -> str:
    """The place without its folders."""
    return place(chunk).rsplit("/", 1)[-1]


def tail(chunk: Chunk) -> str:
    """What tells a hit from its neighbours in little room: its symbol, or its file."""
    symbol = chunk.symbol.split(" > ")[-1]
    return symbol.removeprefix(f"{owner(chunk)}.") or chunk.path.rsplit("/", 1)[-1]


def owner(chunk: Chunk) -> str:
    """The class of a method, or nothing: a narrow screen leaves it out."""
    return chunk.symbol.rpartition(".")[0] if chunk.kind == "method" else ""


def _stages(response: SearchResponse) -> list[StageTime]:
    total = response.timings["total"] or 1.0
    return [
        StageTime(name=name, label=_STAGES.get(name, name), ms=ms, share=100 * ms / total)
        for name, ms in response.timings.items()
        if name != "total"
    ]


def _why(hit: Hit, *, moves: bool) -> str:
    """How a hit came to its place: what retrieval gave, what each signal added, the reranker."""
    parts = [f"retrieved #{hit.fused_rank}, fused {hit.fused_score:.3f}"]
    parts += [f"{name} {worth:+.3f}" for name, worth in hit.signals.items()]
    if hit.rerank_score is not None:
        parts.append(f"reranker {hit.rerank_score:+.2f}")
        if hit.held_back:
            parts.append(f"held back {hit.held_back:+.2f}")
    elif moves:
        parts.append("not reranked")
    return " · ".join(parts)


def _cards(cards: Iterable[Card]) -> str:
    return render("hits.html", cards=list(cards), place=place, similar=SIMILAR)


def _card(hit: Hit, *, shown: int, moves: bool, also: tuple[Card, ...] = (), why: str = "") -> Card:
    lines = code_lines(hit.chunk.text, hit.chunk.language)
    fold = FOLD_LINES if len(lines) > FOLD_LINES + 4 else len(lines)
    return Card(
        hit=hit,
        movement=movement(hit, shown) if moves else None,
        head=lines[:fold],
        rest=lines[fold:],
        why=why or _why(hit, moves=moves),
        also=also,
    )


def _ms(ms: float) -> str:
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"
