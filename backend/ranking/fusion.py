"""How much BM25 counts beside the cosine, chosen on the dev sets for all-MiniLM-L6-v2.

Models spread their cosines differently, so the weight is part of a model's catalogue entry.

nDCG@10 of the first stage (qdrant_ecosystem, anthropic_docs_qa, cosqa_dev): reciprocal ranks with
k = 10: 0.583, 0.797, 0.560; this sum with a weight of 0.012: 0.606, 0.796, 0.591; 0.015: 0.614,
0.797, 0.581; 0.018: 0.616, 0.807, 0.576; 0.020: 0.616, 0.810, 0.572; 0.025: 0.613, 0.813, 0.558.
Lists of 200 instead of 400 cost 0.005, of 100 another 0.01. Read them against each other: they
were taken in exact arithmetic, over document vectors of an earlier precision; the engine's own
figures for this weight, by `benchmarks/quality.py`, are in the README.
"""

from __future__ import annotations

LIST_DEPTH = 400
"""Hits that each of the two lists gives to the fusion."""
