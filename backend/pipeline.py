"""QUERY: text → read → embed → retrieve → rank → rerank → answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from backend.links import Links
from backend.timing import Stage, StageClock
from backend.types import (
    Candidates,
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
        first = self.unreranked(ranked.found)
        if not query.rerank or not found:
            yield self._response(query, located, first, clock)
            return
        yield self._response(query, located, first, clock, pending=True)
        yield self._response(query, located, clock.run(self.rerank, ranked), clock)

    def _response(
        self,
        query: Query,
        located: Located,
        ranked: Reranked,
        clock: StageClock,
        *,
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
            index=self.identity,
            degraded=located.degraded,
            pending=pending,
        )
