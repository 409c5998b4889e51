"""The weights of the first stage's fusion, chosen on the dev sets by `benchmarks/quality.py`."""

from __future__ import annotations

from backend.types import Fusion

FUSION = Fusion(k=10, dense_weight=1.0, bm25_weight=1.0, depth=100)
