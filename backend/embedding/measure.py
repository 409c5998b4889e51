"""How long a query takes on this machine."""

from __future__ import annotations

import statistics
import time

from backend.embedding.protocol import Embedder
from backend.models.prepare import Measured

QUERY = "where is a failed request sent again, and how long does the client wait before that"
"""Some 20 tokens: a question as people ask it."""
TURNS = 5


def measure(embedder: Embedder, *, threads: int) -> Measured:
    """Time a query, after one to warm up.

    Raises:
        ModelUnavailable: The model cannot answer.
    """
    spent = []
    for _ in range(TURNS + 1):
        started = time.perf_counter()
        embedder.embed_query(QUERY)
        spent.append((time.perf_counter() - started) * 1000)
    return Measured(query_ms=round(statistics.median(spent[1:]), 2), threads=threads)
