"""A cross-encoder on ONNX Runtime that keeps to a time budget."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from backend.errors import ModelUnavailable
from backend.inference.session import OnnxModel, TokenRow, batches_by_length, load_tokenizer

MAX_TOKENS = 192
"""Window over query and passage together; chosen on the dev sets for quality against time."""
MAX_QUERY_TOKENS = 64
_WAVE = 8
"""Candidates are scored in waves of this many, best first, so that a deadline cuts the worst."""


class CrossEncoder:
    """Scores passages against a query. Safe to call from many threads; calls take turns.

    Args:
        folder: Holds `model.onnx`, `tokenizer.json` and `SHA256SUMS` of both.
        threads: Batches that run side by side, one core each.

    Raises:
        ModelUnavailable: A file is missing or differs from its checksum.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        check_files(folder)
        self._tokenizer = load_tokenizer(folder / "tokenizer.json")
        self._cls, self._sep = self._tokenizer.encode("").ids  # An empty text is [CLS] [SEP].
        self._model = OnnxModel(folder / "model.onnx", threads=1)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rerank")
        self._turn = threading.Lock()
        self._ms_per_token = 0.0
        self._warm_up()

    def score(self, query: str, passages: Sequence[str], *, budget_ms: float) -> list[float | None]:
        """Score as many passages as the budget allows, the first ones first.

        Args:
            query: The query's text.
            passages: Candidates, best first.
            budget_ms: Milliseconds from now; a batch that would not end in time is not begun.

        Returns:
            A logit for each passage, higher is more relevant; None where time ran out.
        """
        deadline = time.perf_counter() + budget_ms / 1000
        scores: list[float | None] = [None] * len(passages)
        with self._turn:
            waves = self._waves(query, passages)
            taking = threading.Lock()

            def work() -> None:
                while True:
                    with taking:
                        batch, rows = next(waves, ([], []))
                        left_ms = (deadline - time.perf_counter()) * 1000
                    if not batch or _padded(rows) * self._ms_per_token > left_ms:
                        return
                    started = time.perf_counter()
                    logits = self._model.run(rows)
                    self._learn((time.perf_counter() - started) * 1000 / _padded(rows))
                    for i, logit in zip(batch, logits[:, 0].tolist(), strict=True):
                        scores[i] = logit

            for worker in [self._pool.submit(work) for _ in range(self._threads)]:
                worker.result()
        return scores

    def close(self) -> None:
        """Stop the worker threads."""
        self._pool.shutdown()

    def _waves(
        self, query: str, passages: Sequence[str]
    ) -> Iterator[tuple[list[int], list[TokenRow]]]:
        """Batches of positions and token rows, a wave after the other, tokenized when reached."""
        head = self._tokenizer.encode(query, add_special_tokens=False).ids[:MAX_QUERY_TOKENS]
        head = [self._cls, *head, self._sep]
        for start in range(0, len(passages), _WAVE):
            texts = list(passages[start : start + _WAVE])
            bodies = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            rows = [
                TokenRow([*head, *body.ids[: MAX_TOKENS - len(head) - 1], self._sep], len(head))
                for body in bodies
            ]
            for batch in batches_by_length([len(row.ids) for row in rows]):
                yield [start + i for i in batch], [rows[i] for i in batch]

    def _learn(self, ms_per_token: float) -> None:
        """Follow the machine's speed, slowly downwards and at once upwards: deadlines are kept."""
        self._ms_per_token = max(ms_per_token, 0.9 * self._ms_per_token + 0.1 * ms_per_token)

    def _warm_up(self) -> None:
        """The first run allocates; only the second one tells the speed."""
        rows = [TokenRow([self._cls, *[self._sep] * 126, self._sep], 10)]
        for _ in range(2):
            started = time.perf_counter()
            self._model.run(rows)
            self._ms_per_token = (time.perf_counter() - started) * 1000 / _padded(rows)


def check_files(folder: Path) -> None:
    """Compare a model's files with their checksums.

    Raises:
        ModelUnavailable: A file is missing or differs.
    """
    fix = "Restore assets/models from the repository."
    try:
        sums = (folder / "SHA256SUMS").read_text().split("\n")
        for digest, name in (line.split() for line in sums if line.strip()):
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise ModelUnavailable(f"{folder / name} differs from its checksum.", fix=fix)
    except (OSError, ValueError) as exc:
        raise ModelUnavailable(f"The reranker in {folder} is incomplete.", fix=fix) from exc


def _padded(rows: Sequence[TokenRow]) -> int:
    return len(rows) * max(len(row.ids) for row in rows)
