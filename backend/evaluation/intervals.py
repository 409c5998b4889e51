"""How far a mean over queries can be trusted: bootstrap intervals over the queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and where it lies in 95 % of the resamples."""

    mean: float
    low: float
    high: float


class Bootstrap:
    """Draws queries with replacement; all rows get the same draws, so differences are paired.

    Args:
        queries: How many there are, at least 1.
        seed: The same seed gives the same intervals.

    Source: Efron 1979, doi:10.1214/aos/1176344552; for retrieval Sakai 2006,
    doi:10.1145/1148170.1148261.
    """

    def __init__(self, queries: int, *, seed: int) -> None:
        drawn = np.random.default_rng(seed).multinomial(
            queries, np.full(queries, 1 / queries), size=RESAMPLES
        )
        self._weights = drawn.astype(np.float32) / queries

    def interval(self, values: Sequence[float]) -> Interval:
        """The interval of the mean of one value a query, or of one difference a query."""
        means = self._weights @ np.asarray(values, np.float32)
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = np.percentile(means, [tail, 100 - tail])
        return Interval(mean=float(np.mean(values)), low=float(low), high=float(high))
