"""The last stage of a search: candidates in their final order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from loguru import logger

from backend.errors import SearchError
from backend.reranking.blend import blend
from backend.types import Candidates, Hit, PairScores, Reranked, ScoredChunk, ScoreUnit


class PairScorer(Protocol):
    """Anything that scores candidates against a query within a budget."""

    def score(
        self, query: str, candidates: Sequence[ScoredChunk], *, budget_ms: float
    ) -> PairScores:
        """A score for each candidate; None where time ran out.

        Raises:
            SearchError: No candidate could be scored.
        """
        ...


@dataclass(frozen=True)
class Rerank:
    """Scores the best candidates and blends the scores with the order they came in.

    A scorer that fails leaves that order as it was, and the note says why.
    """

    scorer: PairScorer
    tokens_stored: bool
    """Whether the tokens that lie with the chunks are this scorer's."""
    name: str = "rerank"

    def __call__(self, candidates: Candidates, /) -> Reranked:
        query, found = candidates.query, candidates.found
        best = found[: query.candidates]
        if not self.tokens_stored:
            best = [replace(hit, tokens=b"") for hit in best]
        note = ""
        try:
            said = self.scorer.score(query.sought, best, budget_ms=query.budget_ms)
        except SearchError as exc:
            logger.warning("Nothing was reranked: {why}", why=exc)
            said, note = PairScores(scores=[None] * len(best)), f"not reranked: {exc}"
        scores = list(said.scores)
        scored = sum(score is not None for score in scores)
        if scored < len(scores) and not note:
            note = f"stopped at {query.budget_ms:g} ms: {scored} of {len(scores)} candidates scored"
        hits = _ordered(found, scores, said.unit)
        return Reranked(
            hits=hits, scored=scored, remembered=said.remembered, note=note, unit=said.unit
        )


def first_stage_order(found: Sequence[ScoredChunk]) -> Reranked:
    """Candidates as they came: the answer when nothing is reranked."""
    return Reranked(hits=_ordered(found, []), scored=0, remembered=0, note="")


def _ordered(
    found: Sequence[ScoredChunk], scores: Sequence[float | None], unit: ScoreUnit = "logit"
) -> tuple[Hit, ...]:
    final = blend(
        [hit.score for hit in found], scores, held_back=[hit.held_back for hit in found], unit=unit
    )
    order = sorted(range(len(found)), key=lambda i: -final[i])
    return tuple(
        Hit(
            chunk=found[i].chunk,
            score=final[i],
            rank=rank,
            first_rank=i + 1,
            first_score=found[i].score,
            fused_rank=found[i].fused_rank,
            fused_score=found[i].fused_score,
            signals=found[i].signals,
            held_back=found[i].held_back,
            rerank_score=scores[i] if i < len(scores) else None,
        )
        for rank, i in enumerate(order, start=1)
    )
