"""Distil a trained reranker into a shallower one that starts from the teacher's own layers.

`python -m training.distill --mined <folder> --teacher <model> --out <folder> --layers 0 1 3 5`

The student learns the teacher's distribution over each mined group (KL at a temperature, and the
margins), beside the labels. `--init` defaults to the teacher.
"""

from __future__ import annotations

from training.train import arguments, run


def main() -> None:
    """Read the arguments and distil."""
    parser = arguments(__doc__)
    for action in parser._actions:
        if action.dest == "init":
            action.required = False
        if action.dest in {"teacher", "layers"}:
            action.required = True
    parser.set_defaults(rate=8e-5)
    args = parser.parse_args()
    args.init = args.init or args.teacher
    run(args)


if __name__ == "__main__":
    main()
