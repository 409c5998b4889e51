"""Candidates of the dev queries, found once, so that rerankers are compared on the same lists.

`python -m training.devsets <folder with the dev sets> --out <folder>` embeds and searches with the
product's own pipeline, and writes one `<set>.jsonl` a set: per query the best candidates of the
first stage, their scores, and which targets each of them matches. Beside the labelled sets there
are `names` and `paths`, which the default collection labels by itself.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.types import Hit
from benchmarks.labelled import SPANS, LabelledSet, load_all, lookups
from training.data import write_jsonl


@dataclass(frozen=True, slots=True)
class Judged:
    """One dev query with its candidates in fused order.

    Attributes:
        id: Query id.
        query: Its text.
        grades: Grade of every target of the query.
        passages: What the reranker reads.
        matches: Per candidate the targets it matches, by place in `grades`.
        fused: First-stage score per candidate, not increasing.
        held_back: What is added to it beside a reranker's score, per candidate.
    """

    id: str
    query: str
    grades: list[int]
    passages: list[str]
    matches: list[list[int]]
    fused: list[float]
    held_back: list[float]


def ndcg(matches: Sequence[Sequence[int]], grades: Sequence[int], *, k: int = 10) -> float:
    """nDCG where each target counts once, at the first hit that matches it.

    Args:
        matches: Per hit, best rank first, the targets it matches.
        grades: Grade of every target.
        k: Ranks that count.

    Returns:
        nDCG@k in [0, 1]; a hit that matches several new targets takes the highest grade and uses
        up all of them.
    """
    used: set[int] = set()
    gain = 0.0
    for rank, hit in enumerate(matches[:k], start=1):
        new = [target for target in hit if target not in used]
        if new:
            used.update(new)
            gain += (2 ** max(grades[t] for t in new) - 1) / math.log2(rank + 1)
    ideal = sorted(grades, reverse=True)[:k]
    best = sum((2**grade - 1) / math.log2(rank + 1) for rank, grade in enumerate(ideal, start=1))
    return gain / best if best else 0.0


def main() -> None:
    """Read the arguments, search, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder with the dev sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="for models and downloads")
    parser.add_argument("--depth", type=int, default=50, help="candidates kept")
    args = parser.parse_args()

    from backend.build import load_models
    from backend.config import load_settings
    from benchmarks.quality import Measured

    models = load_models(load_settings(data_dir=args.data_dir))
    for labelled in load_all(args.source, downloads=args.data_dir / "downloads"):
        corpus = Measured.of(labelled, models)
        sets = [labelled, *(lookups(labelled) if labelled.name == SPANS else ())]
        with tempfile.TemporaryDirectory() as folder:
            search = corpus.first_stage(models, folder, depth=args.depth)
            for one in sets:
                found = [
                    judged(one, number, search(text)) for number, text in enumerate(one.queries)
                ]
                write_jsonl(args.out / f"{one.name}.jsonl", (asdict(item) for item in found))
                mean = sum(ndcg(item.matches, item.grades) for item in found) / len(found)
                sys.stderr.write(f"{one.name}: {len(found)} queries, first stage {mean:.4f}\n")


def judged(labelled: LabelledSet, number: int, hits: Sequence[Hit]) -> Judged:
    """What a first stage found for a query, beside the query's targets."""
    targets = labelled.targets[number]
    return Judged(
        id=f"{labelled.name}-{number}",
        query=labelled.queries[number],
        grades=[int(target.grade) for target in targets],
        passages=[hit.chunk.passage for hit in hits],
        matches=[[i for i, t in enumerate(targets) if t.matches(hit.chunk)] for hit in hits],
        fused=[hit.first_score for hit in hits],
        held_back=[hit.held_back for hit in hits],
    )


if __name__ == "__main__":
    main()
