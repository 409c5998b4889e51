"""The last stage of a search: candidates in their final order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from backend.reranking.blend import blend
from backend.types import Candidates, Hit, PairScores, Reranked, ScoredChunk


class PairScorer(Protocol):
    """Anything that scores candidates against a query within a budget."""

    def score(
        self, query: str, candidates: Sequence[ScoredChunk], *, budget_ms: float
    ) -> PairScores:
        """A logit for each candidate; None where time ran out."""
        ...


@dataclass(frozen=True)
class Rerank:
    """Scores the best candidates and blends the scores with the order they came in."""

    scorer: PairScorer
    tokens_stored: bool
    """Whether the tokens that lie with the chunks are this scorer's."""
    name: str = "rerank"

    def __call__(self, candidates: Candidates, /) -> Reranked:
        query, found = candidates.query, candidates.found
        best = found[: query.candidates]
        if not self.tokens_stored:
            best = [replace(hit, tokens=b"") for hit in best]
        scores = self.scorer.score(query.text, best, budget_ms=query.budget_ms)
        logits = list(scores.logits)
        scored = sum(logit is not None for logit in logits)
        note = ""
        if scored < len(logits):
            note = f"stopped at {query.budget_ms:g} ms: {scored} of {len(logits)} candidates scored"
        logits += [None] * (len(found) - len(logits))
        hits = _ordered(found, logits)
        return Reranked(hits=hits, scored=scored, remembered=scores.remembered, note=note)


def first_stage_order(found: Sequence[ScoredChunk]) -> Reranked:
    """Candidates as they came: the answer when nothing is reranked."""
    return Reranked(hits=_ordered(found, [None] * len(found)), scored=0, remembered=0, note="")


def _ordered(found: Sequence[ScoredChunk], logits: Sequence[float | None]) -> tuple[Hit, ...]:
    final = blend([hit.score for hit in found], logits)
    order = sorted(range(len(found)), key=lambda i: -final[i])
    return tuple(
        Hit(
            chunk=found[i].chunk,
            score=final[i],
            rank=rank,
            first_rank=i + 1,
            first_score=found[i].score,
            rerank_score=logits[i],
        )
        for rank, i in enumerate(order, start=1)
    )
