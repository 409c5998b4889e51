"""Measure rerankers on the dev candidates: logits once, then every blend for nothing.

`python -m training.evaluate scores --model <folder> --dev <folder> --out <scores.json>` scores the
candidates; `... blend <scores.json>...` prints nDCG@10 of the first stage, the reranker alone
and the blends, and names the rule that holds best on all sets.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from training.batches import PairEncoder
from training.data import read_jsonl
from training.devsets import Judged, ndcg
from training.model import load, score

Floats = npt.NDArray[np.float64]


class Scorer(Protocol):
    """Anything that gives one logit per passage."""

    def __call__(self, query: str, passages: Sequence[str], /) -> list[float]: ...


def read_dev(file: Path) -> list[Judged]:
    """Read what `training.devsets` wrote."""
    return [Judged(**item) for item in read_jsonl(file)]  # type: ignore[arg-type]


def torch_scorer(folder: Path, window: int, device: str, *, choose: bool) -> Scorer:
    """A scorer in bfloat16 torch."""
    model = load(folder).bfloat16().train(False)
    model.to(torch.device(device))
    encode = PairEncoder(folder / "tokenizer.json", window, choose=choose)

    def scorer(query: str, passages: Sequence[str], /) -> list[float]:
        with torch.inference_mode():
            return [float(x) for x in score(model, encode(query, passages)).cpu()]

    return scorer


def blend(
    logits: Floats, fused: Floats, held_back: Floats, weight: float, heat: float, form: str
) -> Floats:
    """Final scores of one query's candidates, which come in fused order.

    Args:
        logits: Reranker's logits, shape (n,).
        fused: First-stage scores, shape (n,), not increasing.
        held_back: What is added to them, shape (n,); the rule "rank" knows no such thing.
        weight: Share of the reranker.
        heat: Logits per unit of the sigmoid.
        form: "standard": fused, standardised over the candidates, + weight * logit / heat, which is
            what ships; "logit": fused + weight * logit / heat; "sigmoid": fused + weight *
            sigmoid((logit - median) / heat); "z": both standardised; "rank": 1 / (heat + rank)
            terms of both orders.

    Returns:
        Scores, higher is better.
    """
    if not len(logits):
        return logits
    if form == "rank":
        places = np.empty(len(logits))
        places[np.argsort(-logits, kind="stable")] = np.arange(1, len(logits) + 1)
        own = np.arange(1, len(logits) + 1)
        final: Floats = (1 - weight) / (heat + own) + weight / (heat + places)
    elif form == "standard":
        base = (fused - fused.mean() + held_back) / max(float(fused.std()), 1e-9)
        final = base + weight * logits / heat
    elif form == "z":
        base = (fused - fused.mean() + held_back) / max(float(fused.std()), 1e-9)
        spread = max(float(logits.std()), 1e-6)
        final = (1 - weight) * base + weight * (logits - logits.mean()) / spread
    elif form == "logit":
        final = fused + held_back + weight * logits / heat
    else:
        scaled = np.clip((logits - np.median(logits)) / heat, -30, 30)
        final = fused + held_back + weight / (1 + np.exp(-scaled))
    return final


def measure(dev: Sequence[Judged], order: Callable[[int, Judged], Sequence[int]]) -> float:
    """Mean nDCG@10 of an ordering of the candidates."""
    total = 0.0
    for number, item in enumerate(dev):
        ranking = order(number, item)
        total += ndcg([item.matches[i] for i in ranking], item.grades)
    return total / max(len(dev), 1)


def reranked(
    logits: Sequence[Sequence[float]], count: int, weight: float, heat: float, form: str
) -> Callable[[int, Judged], Sequence[int]]:
    """Order by the blend over the best `count`, the rest behind in fused order."""

    def order(number: int, item: Judged) -> Sequence[int]:
        size = min(count, len(item.fused))
        given = (logits[number], item.fused, item.held_back)
        final = blend(*(np.array(one[:size]) for one in given), weight, heat, form)
        best = np.argsort(-final, kind="stable").tolist()
        return [*best, *range(size, len(item.fused))]

    return order


GRID = {
    "standard": ([0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6], [1.0]),
    "sigmoid": ([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5], [1.0, 1.5, 2.0, 4.0]),
    "logit": ([0.01, 0.02, 0.03, 0.04, 0.05, 0.07], [1.0]),
    "z": ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [1.0]),
    "rank": ([0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [5.0, 20.0, 60.0]),
}


def print_blends(dev_folder: Path, files: Sequence[Path], count: int, full: bool) -> None:
    """Print the table of every scores file."""
    write = sys.stdout.write
    for file in files:
        scores = json.loads(file.read_text())
        sets = {name: read_dev(dev_folder / f"{name}.jsonl") for name in scores["logits"]}
        logits = scores["logits"]
        write(f"\n== {file.stem}: {scores['model']} window {scores['window']}, best {count}\n")
        write("order".ljust(28) + "".join(n.rjust(12) for n in sets) + "        mean\n")

        def line(name: str, values: Sequence[float]) -> None:
            cells = "".join(f"{v:12.4f}" for v in [*values, sum(values) / len(values)])
            write(name.ljust(28) + cells + "\n")

        base = [measure(d, lambda _, q: range(len(q.fused))) for d in sets.values()]
        line("first stage", base)
        line(
            "reranker alone",
            [measure(d, reranked(logits[n], count, 1.0, 1.0, "z")) for n, d in sets.items()],
        )
        rows = []
        for form, (weights, heats) in GRID.items():
            for heat in heats:
                for weight in weights:
                    values = [
                        measure(d, reranked(logits[n], count, weight, heat, form))
                        for n, d in sets.items()
                    ]
                    safe = min(v - b for v, b in zip(values, base, strict=True)) >= -0.002
                    rows.append((sum(values) / len(values), safe, form, heat, weight, values))
        best = sorted(rows, key=lambda r: (not r[1], -r[0]))
        for _, safe, form, heat, weight, values in rows if full else best[:4]:
            line(f"{form} h={heat:g} w={weight:g}{'' if safe else ' UNSAFE'}", values)


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    scoring = commands.add_parser("scores", help="score the dev candidates with one model")
    scoring.add_argument("--model", type=Path, required=True)
    scoring.add_argument("--dev", type=Path, required=True, help="folder with <set>.jsonl")
    scoring.add_argument("--sets", nargs="+", required=True)
    scoring.add_argument("--out", type=Path, required=True)
    scoring.add_argument("--window", type=int, default=160)
    scoring.add_argument("--count", type=int, default=30, help="candidates scored")
    scoring.add_argument("--head", action="store_true", help="take the beginning of long texts")
    scoring.add_argument("--device", default="cpu")
    scoring.add_argument("--threads", type=int, default=1)
    blending = commands.add_parser("blend", help="compare blends over stored scores")
    blending.add_argument("files", type=Path, nargs="+")
    blending.add_argument("--dev", type=Path, required=True)
    blending.add_argument("--count", type=int, default=30)
    blending.add_argument("--full", action="store_true", help="print the whole grid")
    args = parser.parse_args()
    if args.command == "blend":
        print_blends(args.dev, args.files, args.count, args.full)
        return
    torch.set_num_threads(args.threads)
    scorer = torch_scorer(args.model, args.window, args.device, choose=not args.head)
    started, logits = time.time(), {}
    for name in args.sets:
        logits[name] = [
            scorer(item.query, item.passages[: args.count])
            for item in read_dev(args.dev / f"{name}.jsonl")
        ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "model": str(args.model.name),
        "window": args.window,
        "head": args.head,
        "logits": logits,
    }
    args.out.write_text(json.dumps(facts))
    sys.stderr.write(f"scored in {time.time() - started:.0f} s\n")


if __name__ == "__main__":
    main()
