"""Which models there are, where their files come from, and how they become ready to run.

`catalogue.toml` says what must be known of a model; `prepare.py` makes of its files the folder that
embedding and reranking load.
"""
