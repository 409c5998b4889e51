"""Measures of a ranking, computed by `ir-measures`, which calls the reference trec_eval.

Hits are chunks and judgements are spans, so both are first written as documents. Walking down the
ranking, a target counts once, at the first hit that matches it; a hit that matches several new
targets stands for the one with the highest grade, and the others are used up: no later hit can have
them. The gain of a grade is 2^grade - 1, the discount log2(rank + 1), the ideal ranking has all
targets by grade. Recall counts every target that a hit reaches, also several at once.

Source: Järvelin & Kekäläinen 2002, doi:10.1145/582415.582418.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
from ir_measures import RR, SetR, Success, nDCG

from backend.evaluation.labels import LabelledQuery, Target
from backend.types import Chunk

NDCG = "nDCG@10"
DEPTH = 50
"""Hits of a ranking that the measures look at."""
_RECALL_AT = (10, DEPTH)
_ORDER = {nDCG @ 10: NDCG, RR @ 10: "MRR@10", Success @ 1: "hit@1"}
MEASURES = (NDCG, *(f"recall@{k}" for k in _RECALL_AT), "MRR@10", "hit@1")

Scores = Mapping[str, Mapping[str, float]]
"""Measure → query id → value in [0, 1]."""


def newly_matched(ranking: Sequence[Chunk], targets: Sequence[Target]) -> list[list[int]]:
    """For each hit, best first, the targets (by place) that it is the first to match."""
    left = dict(enumerate(targets))
    found = []
    for chunk in ranking:
        new = [i for i, target in left.items() if target.matches(chunk)]
        for i in new:
            del left[i]
        found.append(new)
    return found


def score(rankings: Mapping[str, Sequence[Chunk]], queries: Sequence[LabelledQuery]) -> Scores:
    """Score rankings.

    Args:
        rankings: Query id to its hits, best first; hits beyond `DEPTH` do not count.
        queries: What answers each query.

    Returns:
        A value for every measure and every query, also for one that found nothing.
    """
    gains: dict[str, dict[str, int]] = {}
    order: dict[str, dict[str, float]] = {}
    reached: dict[int, dict[str, dict[str, float]]] = {k: {} for k in _RECALL_AT}
    # trec_eval gets names of ours: one of a label that holds a NUL would abort the process.
    ids = {f"q{number}": query.id for number, query in enumerate(queries)}
    for name, query in zip(ids, queries, strict=True):
        new = newly_matched(rankings[query.id][:DEPTH], query.targets)
        gains[name] = {f"t{i}": 2**t.grade - 1 for i, t in enumerate(query.targets)}
        order[name] = {
            _stands_for(hit, query.targets) or f"hit {rank}": -float(rank)
            for rank, hit in enumerate(new, start=1)
        }
        for k, runs in reached.items():
            runs[name] = {f"t{i}": 1.0 for hit in new[:k] for i in hit}
    values = {measure: dict.fromkeys(ids.values(), 0.0) for measure in MEASURES}
    for metric in ir_measures.iter_calc(list(_ORDER), gains, order):
        values[_ORDER[metric.measure]][ids[metric.query_id]] = metric.value
    for k, runs in reached.items():
        for metric in ir_measures.iter_calc([SetR], gains, runs):
            values[f"recall@{k}"][ids[metric.query_id]] = metric.value
    return values


def first_answer(ranking: Sequence[Chunk], targets: Sequence[Target]) -> int | None:
    """1-based rank of the first hit with the highest grade there is; None if there is none."""
    best = max(target.grade for target in targets)
    answers = [target for target in targets if target.grade == best]
    for rank, chunk in enumerate(ranking, start=1):
        if any(target.matches(chunk) for target in answers):
            return rank
    return None


def _stands_for(matched: Sequence[int], targets: Sequence[Target]) -> str:
    """The document that a hit is written as; empty for a hit that matches nothing new."""
    return f"t{max(matched, key=lambda i: (targets[i].grade, -i))}" if matched else ""
