"""The recipe of the bundled reranker: rows -> queries -> hard negatives -> teacher -> student.

Each module is a command: `python -m training.mine`, `.train`, `.distill`, `.evaluate`, each with
`--help`. Torch and transformers are needed here and only here; the search path never imports this.
"""
