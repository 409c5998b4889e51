"""Mine hard negatives: search each query where it would be asked, keep what ranks near the answer.

Most queries are searched in their own repository; web-style ones, which name no repository, among
all code of their language.

`python -m training.mine --data <train sets> --encoder <all-MiniLM folder> --out <folder>` writes
`passages.jsonl.gz` and `groups.jsonl.gz` (query, kind, positive, negatives in fused order).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from training.data import (
    PERMISSIVE_SETS,
    SPREAD_OVER,
    Mined,
    Passage,
    load_passages,
    render,
    write_jsonl,
)
from training.first_stage import BM25_WEIGHT, Bm25, Embedder, Floats, tokens, top
from training.queries import make_query

# Groups per set and, within a set, per repository: large repositories must not drown the others.
GROUPS = {
    "oss_docstring_code": (14000, 900),
    "oss_docs_sections": (8000, 1100),
    "nl2bash": (1200, 1200),
    "tldr_examples": (1200, 1200),
    "mbxp": (900, 900),
    "thirty_seconds_js": (400, 400),
}
# A negative whose description or text is this close to the positive's is taken for an answer.
SAME_ABOUT, SAME_TEXT = 0.80, 0.93
SAME_ABOUT_WEB = 0.68  # Many repositories hold a function for a common task.


def choose(passages: Sequence[Passage], draw: random.Random) -> list[int]:
    """Passages that get a query, within the caps of `GROUPS`."""
    taken: dict[str, int] = defaultdict(int)
    per_pool: dict[tuple[str, str], int] = defaultdict(int)
    chosen = []
    order = list(range(len(passages)))
    draw.shuffle(order)
    for number in order:
        passage = passages[number]
        most, most_per_pool = GROUPS[passage.dataset]
        key = (passage.dataset, passage.pool)
        if taken[passage.dataset] < most and per_pool[key] < most_per_pool:
            taken[passage.dataset] += 1
            per_pool[key] += 1
            chosen.append(number)
    return chosen


def _covers(wanted: set[str], text: str) -> float:
    return len(wanted & set(tokens(text))) / max(len(wanted), 1)


def may_answer(
    query: str, kind: str, positive: Passage, other: Passage, about: float, text: float
) -> bool:
    """Whether another passage could answer the query as well, so that it is no negative.

    Args:
        query: The query.
        kind: Its kind.
        positive: The passage it was made from.
        other: The candidate negative.
        about: Cosine of the two descriptions.
        text: Cosine of the two texts.
    """
    if other.group == positive.group and positive.dataset != "oss_docs_sections":
        return True
    if (
        about >= (SAME_ABOUT_WEB if kind == "web" else SAME_ABOUT)
        or text >= SAME_TEXT
        or other.text == positive.text
    ):
        return True
    name = positive.symbol.rpartition(".")[2]
    if positive.is_code and name and other.symbol.rpartition(".")[2] == name:
        return kind in {"identifier", "body", "error", "web"} or other.path == positive.path
    if kind == "path":
        return other.path == positive.path
    if kind in {"error", "body", "sentence"}:
        wanted = set(tokens(query))
        return _covers(wanted, other.text) >= 0.95 * _covers(wanted, positive.text)
    return False


def mine_pool(
    numbers: Sequence[int],
    passages: Sequence[Passage],
    asked: dict[int, tuple[str, str]],
    texts: Floats,
    abouts: Floats,
    questions: dict[int, Floats],
    keep: int,
) -> Iterator[Mined]:
    """Mine all queries of one pool.

    `group` of a documentation row is its page. Sections of one page answer different questions, but
    may also overlap, so they are dropped as well unless they are far from the query's section.
    """
    pool = np.array(numbers)
    bm25 = Bm25([render(passages[n].path, passages[n].symbol, passages[n].text) for n in numbers])
    for place, number in enumerate(numbers):
        if number not in asked:
            continue
        query, kind = asked[number]
        positive = passages[number]
        fused = texts[pool] @ questions[number] + BM25_WEIGHT * bm25.scores(query)
        order = [int(i) for i in top(fused, 100)]
        if place not in order:
            continue  # Nothing in the query leads to the answer: it was cut too short, or is noise.
        best = fused[order[:SPREAD_OVER]]
        mean, spread = float(best.mean()), max(float(best.std()), 1e-6)
        negatives: list[int] = []
        priors = [(float(fused[place]) - mean) / spread]
        for i in order[:60]:
            other = numbers[i]
            if other == number or passages[other].group == positive.group:
                continue
            about = float(abouts[other] @ abouts[number])
            text = float(texts[other] @ texts[number])
            if not may_answer(query, kind, positive, passages[other], about, text):
                negatives.append(other)
                priors.append((float(fused[i]) - mean) / spread)
            if len(negatives) >= keep:
                break
        if len(negatives) >= 3:
            yield Mined(
                query=query,
                kind=kind,
                positive=number,
                rank=order.index(place) + 1,
                negatives=negatives,
                priors=[round(prior, 3) for prior in priors],
            )


def _log(started: float, fact: str) -> None:
    sys.stderr.write(f"{time.time() - started:7.1f} s  {fact}\n")


def main() -> None:
    """Read the arguments and mine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the train sets")
    parser.add_argument("--encoder", type=Path, required=True, help="all-MiniLM-L6-v2 folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--sets", nargs="+", default=list(PERMISSIVE_SETS))
    parser.add_argument("--keep", type=int, default=24, help="negatives kept per query")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    started, draw = time.time(), random.Random(args.seed)

    passages = load_passages(args.data, args.sets, seed=args.seed)
    asked = {number: make_query(passages[number], draw) for number in choose(passages, draw)}
    _log(started, f"{len(passages)} passages, {len(asked)} queries")
    embed = Embedder(args.encoder)
    questions = dict(zip(asked, embed([query for query, _ in asked.values()]), strict=True))
    _log(started, "queries embedded")
    abouts = embed([p.about for p in passages])
    _log(started, "descriptions embedded")
    texts = embed([render(p.path, p.symbol, p.text) for p in passages])
    _log(started, "texts embedded")

    pools: dict[tuple[bool, str], list[int]] = defaultdict(list)
    for number, passage in enumerate(passages):
        pools[False, passage.pool].append(number)
        if passage.lang != "en":
            pools[True, passage.lang].append(number)
    mined = []
    for (wide, _), numbers in pools.items():
        here = {n: q for n, q in asked.items() if (q[1] == "web") == wide}
        mined += mine_pool(numbers, passages, here, texts, abouts, questions, args.keep)
    draw.shuffle(mined)
    write_jsonl(args.out / "passages.jsonl.gz", (asdict(p) for p in passages))
    write_jsonl(args.out / "groups.jsonl.gz", (asdict(g) for g in mined))
    _log(started, f"{len(mined)} groups mined")


if __name__ == "__main__":
    main()
