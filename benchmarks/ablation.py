"""What each ranking signal is worth: nDCG@10 of the first stage with it left out.

    python -m benchmarks.ablation DATASETS [--data-dir FOLDER]

DATASETS is what `benchmarks.quality` takes. `blind` are the queries of `qdrant_ecosystem` that
share no word with the name of a file they are answered in: on the others a signal of names can
only win.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backend.build import configured_fusion, load_models
from backend.config import load_settings
from backend.embedding.bm25 import stem
from backend.ranking.reading import read
from backend.ranking.signals import path_words
from backend.ranking.stage import SIGNAL_NAMES
from benchmarks.labelled import SPANS, LabelledSet, load_all
from benchmarks.quality import Measured, edge


def main() -> None:
    """Print the table: the first row has all signals, the others the change without one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("datasets", type=Path)
    parser.add_argument("--data-dir", type=Path, default=load_settings().data_dir)
    arguments = parser.parse_args()
    settings = load_settings(data_dir=arguments.data_dir)
    models = load_models(settings)
    sets = load_all(arguments.datasets, downloads=arguments.data_dir / "downloads")
    left_out: list[tuple[str, Sequence[str]]] = [("all signals", ()), ("none", SIGNAL_NAMES)]
    left_out += [(name, (name,)) for name in SIGNAL_NAMES]
    columns: dict[str, list[float]] = {}
    for labelled in sets:
        one = Measured.of(labelled, models)
        others = [blind(labelled)] if labelled.name == SPANS else []
        fusion = configured_fusion(settings)
        with tempfile.TemporaryDirectory() as folder:
            store = edge(fusion, settings.quantization, rescore=True, folder=folder)
            one.fill(store)
            for _, names in left_out:
                found = one.ndcg(store, models, rerank=False, without=names, lookups=others)
                for column, value in zip((labelled, *others), found, strict=True):
                    columns.setdefault(column.name, []).append(value)
            store.close()
    print(f"\n| without | {' | '.join(columns)} |")
    print("|---|" + "---|" * len(columns))
    for row, (name, _) in enumerate(left_out):
        cells = [
            f"{values[row]:.3f}" if row == 0 else f"{values[row] - values[0]:+.3f}"
            for values in columns.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def blind(labelled: LabelledSet) -> LabelledSet:
    """The queries that share no word with the name of a file they are answered in."""
    rows = [
        (query, targets)
        for query, targets in zip(labelled.queries, labelled.targets, strict=True)
        if not any(
            read(query, stem).stems & path_words(target.path, stem).stem for target in targets
        )
    ]
    return replace(
        labelled,
        name=f"{labelled.name}, blind",
        queries=[query for query, _ in rows],
        targets=[targets for _, targets in rows],
    )


if __name__ == "__main__":
    main()
