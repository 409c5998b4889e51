"""The mean of two models of one line of training: often better on new queries than either.

`python -m training.average <model folder> <model folder> --out <folder>`

Source: Wortsman et al. 2022, arXiv:2203.05482.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file


def average(one: Path, other: Path, target: Path) -> None:
    """Write a model folder like `one`, its weights the mean of both, in float16."""
    shutil.copytree(one, target, dirs_exist_ok=True)
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    mean = {name: ((mine[name].float() + theirs[name].float()) / 2).half() for name in mine}
    save_file(mean, target / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Read the arguments and average."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    average(args.one, args.other, args.out)


if __name__ == "__main__":
    main()
