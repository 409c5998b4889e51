"""Train a reranker: one answer against several hard negatives.

`python -m training.train --mined <folder> --init <model folder> --out <folder> --minutes 50`

With `--prior` the loss sees what the product orders by, the logit plus the first stage's score, so
that the model spends its steps on what the first stage gets wrong; see the README before using it.

With `--teacher` the same loop distils: see `training.distill`, which only sets other defaults.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import torch
from transformers import BertForSequenceClassification

from training.batches import Batch, PairEncoder, batches, load_groups
from training.model import MasterAdamW, load, save, score

HELD_OUT = 300  # mined groups that are never trained on


def schedule(progress: float, *, warmup: float = 0.06, floor: float = 0.02) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine down to the floor."""
    if progress < warmup:
        return max(progress / warmup, 0.02)
    angle = math.pi * (min(progress, 1.0) - warmup) / (1 - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(angle))


def listwise(logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the answer (column 0) among its group, mean over groups."""
    return torch.nn.functional.cross_entropy(
        logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    )


def distilled(logits: torch.Tensor, teacher: torch.Tensor, *, heat: float) -> torch.Tensor:
    """KL of the group's softmax to the teacher's, plus the squared error of centred margins."""
    target = torch.log_softmax(teacher / heat, 1)
    mine = torch.log_softmax(logits / heat, 1)
    kl = torch.nn.functional.kl_div(mine, target, reduction="batchmean", log_target=True)
    margins = (logits[:, :1] - logits[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
    return heat * heat * kl + 0.05 * margins.square().mean()


def pointwise(logits: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of every pair, answers weighing as much as all negatives together."""
    answer = torch.nn.functional.softplus(-logits[:, 0])
    others = torch.nn.functional.softplus(logits[:, 1:])
    return (answer + others.mean(1)).mean()


def margin(logits: torch.Tensor) -> torch.Tensor:
    """Hinge: every negative shall lie a logit below its answer."""
    return torch.relu(1 - (logits[:, :1] - logits[:, 1:])).mean()


LOSSES = {"listwise": listwise, "pointwise": pointwise, "margin": margin}


@torch.inference_mode()
def held_out_accuracy(
    model: BertForSequenceClassification, batch: Batch, prior: float
) -> tuple[float, float]:
    """Share of held-out groups whose answer scores best, by the logit alone and in the blend."""
    logits = score(model, batch.pairs).view(batch.priors.shape)
    blended = logits + (prior or 1.0) * batch.priors.to(logits.device)
    alone, both = ((x.argmax(1) == 0).float().mean().item() for x in (logits, blended))
    return alone, both


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options shared by training and distillation."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--mined",
        nargs="+",
        required=True,
        metavar="FOLDER[:COUNT]",
        help="folders from training.mine and training.written; a count draws so many groups",
    )
    parser.add_argument("--init", type=Path, required=True, help="model folder to start from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, nargs="+", help="layers of --init to keep")
    parser.add_argument("--teacher", type=Path, help="model folder to distil from")
    parser.add_argument(
        "--hard-share", type=float, default=0.3, help="weight of labels beside the teacher"
    )
    parser.add_argument("--heat", type=float, default=2.0, help="temperature of the distillation")
    parser.add_argument("--loss", choices=list(LOSSES), default="listwise")
    parser.add_argument(
        "--prior", type=float, default=0.0, help="logits a deviation of the first stage is worth"
    )
    parser.add_argument("--minutes", type=float, default=50.0, help="length of the run")
    parser.add_argument("--steps", type=int, help="length of the run instead of --minutes")
    parser.add_argument("--negatives", type=int, default=6)
    parser.add_argument("--groups", type=int, default=8, help="groups a step")
    parser.add_argument("--window", type=int, default=160, help="tokens a pair")
    parser.add_argument("--rate", type=float, default=4e-5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save-every", type=float, default=8.0, help="minutes between checkpoints")
    return parser


def run(args: argparse.Namespace) -> None:
    """Train until the minutes or the steps are used up."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    passages, groups = load_groups(args.mined)
    encode = PairEncoder(args.init / "tokenizer.json", args.window)
    width = 1 + args.negatives
    options = {"negatives": args.negatives}
    held = next(batches(groups[:HELD_OUT], passages, encode, size=HELD_OUT, seed=0, **options))
    stream = batches(
        groups[HELD_OUT:], passages, encode, size=args.groups, seed=args.seed, **options
    )
    teacher = load(args.teacher).bfloat16().to(args.device).eval() if args.teacher else None
    model = load(args.init, layers=args.layers).to(args.device).train()
    adam = MasterAdamW(model, rate=args.rate)
    started = saved = time.time()
    step, mean = 0, 0.0

    def tested() -> str:
        alone, both = held_out_accuracy(model, held, args.prior)
        return f"held out {alone:.3f} alone, {both:.3f} blended"

    sys.stderr.write(f"{len(groups)} groups, {tested()}\n")
    while True:
        elapsed = (time.time() - started) / 60
        progress = step / args.steps if args.steps else elapsed / args.minutes
        if progress >= 1:
            break
        batch = next(stream)
        logits = score(model, batch.pairs).view(-1, width)
        loss = LOSSES[args.loss](logits + args.prior * batch.priors.to(logits.device))
        if teacher is not None:
            with torch.no_grad():
                wanted = score(teacher, batch.pairs).view(-1, width)
            soft = distilled(logits, wanted, heat=args.heat)
            loss = args.hard_share * loss + (1 - args.hard_share) * soft
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step(share=schedule(progress))
        mean = float(loss.detach()) if step == 0 else 0.98 * mean + 0.02 * float(loss.detach())
        step += 1
        if step % 25 == 0:
            pace = step * args.groups * width / (time.time() - started)
            sys.stderr.write(
                f"{elapsed:6.1f} min  step {step}  loss {mean:.4f}  {pace:.1f} pairs/s\n"
            )
        if time.time() - saved > args.save_every * 60:
            saved = time.time()
            save(args.out, model, adam.tensors(), args.init)
            sys.stderr.write(f"saved, {tested()}\n")
    save(args.out, model, adam.tensors(), args.init)
    sys.stderr.write(f"done: {step} steps, {tested()}\n")


if __name__ == "__main__":
    run(arguments(__doc__).parse_args())
