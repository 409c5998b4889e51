"""Ranking quality on several labelled sets: what each stage and precision is worth.

    python -m benchmarks.quality DATASETS [--data-dir FOLDER] [--skip-precision]

DATASETS holds `qdrant_ecosystem/queries.jsonl` and the BEIR folders `cosqa_dev` and
`anthropic_docs_qa`. Nothing here depends on speed; run it before a weight is changed. One set with
intervals, categories and the quantization modes: `python -m backend evaluate`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from backend.build import (
    Models,
    build_pipeline,
    configured_fusion,
    configured_identity,
    embedding_card,
    load_embedder,
    load_models,
)
from backend.config import load_settings
from backend.embedding.bm25 import document_vector
from backend.query import make_query
from backend.ranking.stage import SIGNAL_NAMES
from backend.store.edge import EdgeStore
from backend.store.protocol import ChunkStore
from backend.types import FloatArray, Fusion, Hit, Quantization, QuantizationMode
from benchmarks.labelled import SPANS, LabelledSet, load_all, lookups

BUDGET_MS = 200


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("datasets", type=Path)
    parser.add_argument("--data-dir", type=Path, default=load_settings().data_dir)
    parser.add_argument("--skip-precision", action="store_true", help="only the stages")
    arguments = parser.parse_args()
    settings = load_settings(data_dir=arguments.data_dir)
    models = load_models(settings)
    sets = load_all(arguments.datasets, downloads=arguments.data_dir / "downloads")
    measured = [Measured.of(labelled, models) for labelled in sets]
    print_stages(measured, models)
    if not arguments.skip_precision:
        print_precision(measured, arguments.data_dir)


@dataclass(frozen=True)
class Measured:
    """A labelled set and its document vectors."""

    labelled: LabelledSet
    vectors: FloatArray
    tokens: Sequence[bytes]

    @classmethod
    def of(cls, labelled: LabelledSet, models: Models) -> Measured:
        """Embed the corpus as indexing does."""
        passages = [chunk.passage for chunk in labelled.chunks]
        vectors = models.embedder.embed_documents(passages)
        return cls(labelled, vectors, models.reranker.tokenize(passages))

    def fill(self, store: ChunkStore) -> None:
        """Index the corpus."""
        for start in range(0, len(self.labelled.chunks), 512):
            part = slice(start, start + 512)
            chunks = self.labelled.chunks[part]
            sparse = [document_vector(chunk) for chunk in chunks]
            store.upsert(chunks, self.vectors[part], sparse, self.tokens[part])
        store.optimize()

    def first_stage(
        self, models: Models, folder: str, *, depth: int
    ) -> Callable[[str], Sequence[Hit]]:
        """Index the corpus in `folder` as the product does; search it without reranking."""
        settings = load_settings()
        store = edge(
            configured_fusion(settings), settings.quantization, rescore=True, folder=folder
        )
        self.fill(store)
        pipeline = build_pipeline(models, store, configured_identity(settings, models.embedder))

        def search(text: str) -> Sequence[Hit]:
            query = make_query(
                text,
                collection="",
                settings=settings,
                top_k=depth,
                candidates=depth,
                rerank=False,
            )
            return pipeline.search(query).hits

        return search

    def ndcg(
        self,
        store: ChunkStore,
        models: Models,
        *,
        rerank: bool,
        without: Sequence[str] = (),
        budget_ms: float = 60_000,
        lookups: Sequence[LabelledSet] = (),
    ) -> list[float]:
        """nDCG@10 of the set, then of others over the same chunks, through the real pipeline.

        `without` names the ranking signals that are left out.
        """
        settings = load_settings()
        identity = configured_identity(settings, models.embedder)
        pipeline = build_pipeline(models, store, identity, without_signals=without)
        found = []
        for labelled in (self.labelled, *lookups):
            rankings = []
            for text in labelled.queries:
                query = make_query(
                    text, collection="", settings=settings, rerank=rerank, budget_ms=budget_ms
                )
                rankings.append([hit.chunk for hit in pipeline.search(query).hits])
            found.append(labelled.ndcg(rankings))
        return found


def edge(fusion: Fusion, mode: QuantizationMode, *, rescore: bool, folder: str) -> EdgeStore:
    """An empty index in a temporary folder."""
    dimension = embedding_card(load_settings()).dimension
    quantization = Quantization(mode=mode, rescore=rescore, oversampling=2.0)
    return EdgeStore.create(
        Path(folder) / "index", dimension=dimension, quantization=quantization, fusion=fusion
    )


def print_stages(measured: Sequence[Measured], models: Models) -> None:
    """Dense, BM25, their fusion, with signals, and reranked without and with a tight budget."""
    tuned = configured_fusion(load_settings())
    columns = ("set", "dense", "BM25", "fused", "+ signals", "+ reranker", f"in {BUDGET_MS} ms")
    print(f"\n| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|")
    for one in measured:
        others = lookups(one.labelled) if one.labelled.name == SPANS else []
        found = []
        # A thousand points of BM25 to one of cosine leave the cosine without a say.
        for weight in (0.0, 1000.0, tuned.bm25_weight):
            fusion = replace(tuned, bm25_weight=weight)
            with tempfile.TemporaryDirectory() as folder:
                store = edge(fusion, load_settings().quantization, rescore=True, folder=folder)
                one.fill(store)
                measure = partial(one.ndcg, store, models, lookups=others)
                found.append(measure(rerank=False, without=SIGNAL_NAMES))
                if fusion == tuned:
                    found.append(measure(rerank=False))
                    found.append(measure(rerank=True))
                    found.append(measure(rerank=True, budget_ms=BUDGET_MS))
                store.close()
        for labelled, *row in zip((one.labelled, *others), *found, strict=True):
            cells = " | ".join(f"{value:.3f}" for value in row)
            print(f"| {labelled.name} | {cells} |", flush=True)


def print_precision(measured: Sequence[Measured], data_dir: Path) -> None:
    """Dense search with float32 queries over float32 and over int8 documents."""
    print("\n| set | float32 documents | int8 documents | cosine, min | cosine, mean |")
    print("|---|---|---|---|---|")
    embedder = load_embedder(load_settings(data_dir=data_dir, embedder_precision="float32"))
    for one in measured:
        queries = embedder.embed_documents(one.labelled.queries)
        full = embedder.embed_documents([chunk.passage for chunk in one.labelled.chunks])
        cosines = (full * one.vectors).sum(axis=1)
        row = []
        for vectors in (full, one.vectors):
            order = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
            row.append(one.labelled.ndcg([[one.labelled.chunks[i] for i in r] for r in order]))
        print(
            f"| {one.labelled.name} | {row[0]:.3f} | {row[1]:.3f}"
            f" | {cosines.min():.4f} | {cosines.mean():.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
