"""How the reranker's score and the first stage's order become the final order."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import zip_longest

from backend.types import ScoreUnit

RERANK_WEIGHT = 0.4
"""Standard deviations of the first stage's scores that one logit is worth. nDCG@10 by the first
stage alone, then with 0.25, 0.4 and 0.7: qdrant_ecosystem 0.624; 0.645, 0.652, 0.649; cosqa_dev
0.577; 0.587, 0.585, 0.586; anthropic_docs_qa 0.822; 0.823, 0.827, 0.826; 434 queries over 35
repositories in fourteen languages 0.812; 0.821, 0.813, 0.802; 1,200 written queries over packages
that training did not see 0.646; 0.669, 0.678, 0.689. Names and paths need no route past the
reranker: names of the default collection 0.924; 0.941, 0.941, 0.948. (`training/evaluate.py`, 30
candidates)"""
LIST_WEIGHT = 2.0
"""Standard deviations that one normal score of an ordered list is worth. Published pipelines let
the list replace the first stage's order; twice the first stage's own say leaves a clear winner its
place. Not measured: no list-making model was at hand for the dev sets."""
_WEIGHTS: dict[ScoreUnit, float] = {"logit": RERANK_WEIGHT, "rank": LIST_WEIGHT}


def blend(
    first_scores: Sequence[float],
    scores: Sequence[float | None],
    *,
    held_back: Sequence[float] = (),
    unit: ScoreUnit = "logit",
) -> list[float]:
    """Add the reranker's opinion to the first stage's, on the scale of the first stage's scores.

    A score counts by how far it lies from the median of its query, for logits of different queries
    are not comparable. A candidate that was not scored counts as the median, so that such
    candidates keep their order.

    Args:
        first_scores: First-stage scores of all hits, best first.
        scores: What the reranker says of the first ones, its candidates, or None. Hits beyond them
            take part in the order, but not in the measure of it: however many there are, it stays.
        held_back: What is added where it gave a score, on the scale of the first stage's; none of
            it if empty.
        unit: What its scores are.

    Returns:
        Final scores in the order of the hits.
    """
    known = [score for score in scores if score is not None]
    if not known:
        return list(first_scores)
    median = statistics.median(known)
    worth = _WEIGHTS[unit] * statistics.pstdev(first_scores[: len(scores)])
    return [
        first if score is None else first + (held or 0.0) + worth * (score - median)
        for first, score, held in zip_longest(first_scores, scores, held_back)
    ]


def normal_scores(places: Sequence[int]) -> list[float]:
    """An order as scores: what the best, the second, … of as many normal draws would be.

    Args:
        places: 0-based place of each candidate, each place once.

    Returns:
        Symmetric around 0, with about unit deviation; the best place scores highest.

    Source: Blom 1958, Statistical Estimates and Transformed Beta-Variables, p. 71.
    """
    normal, n = statistics.NormalDist(), len(places)
    return [normal.inv_cdf((n - place - 0.375) / (n + 0.25)) for place in places]
