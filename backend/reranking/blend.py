"""How the reranker's score and the first stage's order become the final order."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

RERANK_WEIGHT = 0.3
"""What the best logit gains over the worst, in points of the first stage's score (a cosine)."""
TEMPERATURE = 2.5
"""Logits above the median that raise its share of that from a half to 73%."""


def blend(first_scores: Sequence[float], logits: Sequence[float | None]) -> list[float]:
    """Add the reranker's opinion to the first stage's.

    A logit counts by how far it lies from the median of its query, for logits of different queries
    are not comparable. A candidate that was not scored counts as the median, so that such
    candidates keep their order.

    Args:
        first_scores: Fused scores of the candidates.
        logits: The reranker's logits, or None; same length.

    Returns:
        Final scores in the order of the candidates.
    """
    known = [logit for logit in logits if logit is not None]
    if not known:
        return list(first_scores)
    median = statistics.median(known)
    return [
        first + RERANK_WEIGHT * _sigmoid(0.0 if logit is None else logit - median)
        for first, logit in zip(first_scores, logits, strict=True)
    ]


def _sigmoid(distance: float) -> float:
    return 1 / (1 + math.exp(-distance / TEMPERATURE))
