"""QUERY: text → read → embed → retrieve → rank → rerank → answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from backend.links import Links
from backend.timing import Stage, StageClock, Step
from backend.types import (
    Candidates,
    Confidence,
    ConfidenceLabel,
    IndexIdentity,
    Located,
    Query,
    Reranked,
    ScoredChunk,
    SearchResponse,
)


@dataclass(frozen=True)
class SearchPipeline:
    """The stages of a search over one index."""

    read: Stage[Query, Query]
    embed: Stage[Query, Located]
    retrieve: Stage[Located, Sequence[ScoredChunk]]
    rank: Stage[Candidates, Candidates]
    assess: Callable[[Located, Sequence[ScoredChunk]], Confidence]
    rerank: Stage[Candidates, Reranked]
    unreranked: Callable[[Sequence[ScoredChunk]], Reranked]
    identity: IndexIdentity
    links: Links = field(default_factory=Links)

    def search(self, query: Query) -> SearchResponse:
        """Answer a query with the final order."""
        *_, response = self.stream(query)
        return response

    def stream(self, query: Query) -> Iterator[SearchResponse]:
        """Answer with the first stage's hits as soon as they are there, then with the final order.

        Yields:
            A response that is `pending` if the reranker is still to come, then the final one.
        """
        clock = StageClock()
        query = clock.run(self.read, query)
        located = clock.run(self.embed, query)
        found = clock.run(self.retrieve, located)
        ranked = clock.run(self.rank, Candidates(query=query, found=found))
        confidence = clock.run(Step("assess", partial(self.assess, located)), ranked.found)
        answer = partial(self._response, query, located, confidence, clock)
        if _below(confidence.label, query.min_confidence):
            yield answer(self.unreranked(()), withheld=min(len(ranked.found), query.top_k))
        elif not query.rerank or not found:
            yield answer(self.unreranked(ranked.found))
        else:
            yield answer(self.unreranked(ranked.found), pending=True)
            yield answer(clock.run(self.rerank, ranked))

    def _response(
        self,
        query: Query,
        located: Located,
        confidence: Confidence,
        clock: StageClock,
        ranked: Reranked,
        *,
        withheld: int = 0,
        pending: bool = False,
    ) -> SearchResponse:
        hits = [replace(hit, url=self.links.url(hit.chunk)) for hit in ranked.hits]
        return SearchResponse(
            query=query,
            hits=tuple(hits[: query.top_k]),
            candidates=tuple(sorted(hits, key=lambda hit: hit.first_rank)),
            timings=clock.timings,
            reranked=ranked.scored,
            remembered=ranked.remembered,
            rerank_note=ranked.note,
            rerank_unit=ranked.unit,
            index=self.identity,
            confidence=confidence,
            withheld=withheld,
            degraded=located.degraded,
            pending=pending,
        )


def _below(label: ConfidenceLabel, floor: ConfidenceLabel | None) -> bool:
    """Whether a label says less than was asked for; one that is unknown does not."""
    order: tuple[ConfidenceLabel, ...] = ("none", "low", "medium", "high")
    return floor is not None and label in order and order.index(label) < order.index(floor)
