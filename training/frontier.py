"""Quality against milliseconds: layers x window x precision x candidates, as one table.

`python -m training.frontier --models <folder>... --dev <folder> --sets ...` converts each model as
the product does, scores the dev candidates on one thread through ONNX Runtime, and prints nDCG@10
of the blend beside the time for 100 pairs. Time is CPU time over `--cores`: what two sessions of
one thread take side by side on idle cores, and steadier than a clock on busy ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import onnx
from safetensors.numpy import load_file

from backend.inference.bert_graph import BertShape, bert_model, quantize
from backend.inference.session import OnnxModel, TokenRow
from training.batches import PairEncoder
from training.devsets import Judged
from training.evaluate import measure, read_dev, reranked


def convert(folder: Path, target: Path, precision: str) -> Path:
    """Write the ONNX model of a Hugging Face folder in float32 or int8."""
    config = json.loads((folder / "config.json").read_text())
    full = target / f"{folder.name}.float32.onnx"
    if not full.exists():
        weights = load_file(str(folder / "model.safetensors"))
        onnx.save(bert_model(weights, BertShape.from_config(config), head="logit"), str(full))
    if precision == "float32":
        return full
    small = target / f"{folder.name}.int8.onnx"
    if not small.exists():
        quantize(full, small)
    return small


class OnnxScorer:
    """Scores pairs on one thread and counts the CPU seconds of doing so."""

    def __init__(self, model: Path, tokenizer_file: Path, window: int) -> None:
        self._model = OnnxModel(model, threads=1)
        self._encode = PairEncoder(tokenizer_file, window)
        self.seconds, self.pairs = 0.0, 0

    def __call__(self, query: str, passages: Sequence[str], /) -> list[float]:
        rows = [TokenRow(ids, head) for ids, head in self._encode(query, passages)]
        started = time.process_time()
        logits = [float(self._model.run(row)[0]) for row in rows]
        self.seconds += time.process_time() - started
        self.pairs += len(rows)
        return logits


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--windows", type=int, nargs="+", default=[96, 128, 192])
    parser.add_argument("--precisions", nargs="+", default=["int8"])
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 30, 50])
    parser.add_argument("--queries", type=int, default=10_000, help="queries taken from each set")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--form", default="standard", help="blend, see training.evaluate")
    parser.add_argument("--weight", type=float, default=0.4)
    parser.add_argument("--heat", type=float, default=1.0)
    parser.add_argument("--keep", type=Path, help="folder for the scores, readable by evaluate")
    args = parser.parse_args()
    sets: dict[str, list[Judged]] = {
        name: read_dev(args.dev / f"{name}.jsonl")[: args.queries] for name in args.sets
    }
    write = sys.stdout.write
    write("| model | layers | window | precision | ms per 100 | candidates | ")
    write(" | ".join([*sets, "mean"]) + " |\n|" + "---|" * (7 + len(sets)) + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        for folder in args.models:
            layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
            for precision in args.precisions:
                model = convert(folder, Path(scratch), precision)
                for window in args.windows:
                    scorer = OnnxScorer(model, folder / "tokenizer.json", window)
                    logits = {
                        name: [scorer(q.query, q.passages[: max(args.counts)]) for q in dev]
                        for name, dev in sets.items()
                    }
                    pace = 100_000 * scorer.seconds / max(scorer.pairs, 1) / args.cores
                    if args.keep:
                        args.keep.mkdir(parents=True, exist_ok=True)
                        facts = {"model": folder.name, "window": window, "logits": logits}
                        name = f"{folder.name}-{precision}-{window}.json"
                        (args.keep / name).write_text(json.dumps(facts))
                    for count in args.counts:
                        values = [
                            measure(
                                dev,
                                reranked(logits[name], count, args.weight, args.heat, args.form),
                            )
                            for name, dev in sets.items()
                        ]
                        cells = [f"{v:.4f}" for v in [*values, sum(values) / len(values)]]
                        write(
                            f"| {folder.name} | {layers} | {window} | {precision} | {pace:.0f} |"
                            f" {count} | " + " | ".join(cells) + " |\n"
                        )
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
