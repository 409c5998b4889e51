"""Candidates of the dev queries, found once, so that rerankers are compared on the same lists.

`python -m training.devsets <folder with the dev sets> --out <folder>` embeds and searches with the
product's own chunker, embedding model and BM25, and writes one `<set>.jsonl` a set: per query the
best candidates of the fused first stage, their scores, and which targets each of them matches.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from training.data import write_jsonl
from training.first_stage import Floats, top


@dataclass(frozen=True, slots=True)
class Judged:
    """One dev query with its candidates in fused order.

    Attributes:
        id: Query id.
        query: Its text.
        category: Kind of query, "" when the set names none.
        grades: Grade of every target of the query.
        passages: What the reranker reads.
        matches: Per candidate the targets it matches, by place in `grades`.
        fused: First-stage score per candidate, not increasing.
        dense: Cosine per candidate.
        lexical: BM25 score per candidate.
    """

    id: str
    query: str
    category: str
    grades: list[int]
    passages: list[str]
    matches: list[list[int]]
    fused: list[float]
    dense: list[float]
    lexical: list[float]


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


def lexical_scores(chunks: Sequence[object], queries: Sequence[str]) -> Floats:
    """BM25 of every chunk for every query with the product's own terms, shape (queries, chunks)."""
    from backend.embedding.bm25 import document_vector, query_vector

    postings: dict[int, list[tuple[int, float]]] = {}
    for number, chunk in enumerate(chunks):
        vector = document_vector(chunk)  # type: ignore[arg-type]
        for term, weight in zip(vector.indices, vector.values, strict=True):
            postings.setdefault(term, []).append((number, weight))
    scores = np.zeros((len(queries), len(chunks)), np.float32)
    for row, query in enumerate(queries):
        vector = query_vector(query)
        for term, weight in zip(vector.indices, vector.values, strict=True):
            found = postings.get(term, [])
            idf = math.log(1 + (len(chunks) - len(found) + 0.5) / (len(found) + 0.5))
            for number, frequency in found:
                scores[row, number] += weight * idf * frequency
    return scores


def main() -> None:
    """Read the arguments, search, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder with the dev sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="for models and downloads")
    parser.add_argument("--depth", type=int, default=60, help="candidates kept")
    parser.add_argument("--most", type=int, default=200, help="queries taken from a set")
    args = parser.parse_args()

    from backend.build import load_models
    from backend.config import load_settings
    from benchmarks.labelled import load_all

    embedder = load_models(load_settings(data_dir=args.data_dir)).embedder
    for labelled in load_all(args.source, downloads=args.data_dir / "downloads"):
        chunks, asked = labelled.chunks, list(range(len(labelled.queries)))
        if len(asked) > args.most:
            asked = sorted(random.Random(0).sample(asked, args.most))
        queries = [labelled.queries[number] for number in asked]
        vectors = embedder.embed_documents([chunk.passage for chunk in chunks])
        lexical = lexical_scores(chunks, queries)
        found = []
        for row, number in enumerate(asked):
            targets = labelled.targets[number]
            dense = vectors @ embedder.embed_query(queries[row])
            fused = dense + embedder.card.bm25_weight * lexical[row]
            places = [int(place) for place in top(fused, args.depth)]
            found.append(
                Judged(
                    id=f"{labelled.name}-{number}",
                    query=queries[row],
                    category="",
                    grades=[int(target.grade) for target in targets],
                    passages=[chunks[place].passage for place in places],
                    matches=[
                        [i for i, target in enumerate(targets) if target.matches(chunks[place])]
                        for place in places
                    ],
                    fused=[float(fused[place]) for place in places],
                    dense=[float(dense[place]) for place in places],
                    lexical=[float(lexical[row, place]) for place in places],
                )
            )
        write_jsonl(args.out / f"{labelled.name}.jsonl", (asdict(item) for item in found))
        mean = sum(ndcg(item.matches, item.grades) for item in found) / len(found)
        sys.stderr.write(f"{labelled.name}: {len(found)} queries, hybrid {mean:.4f}\n")


if __name__ == "__main__":
    main()
