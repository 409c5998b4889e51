"""A cross-encoder on ONNX Runtime that keeps to a time budget."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from backend.errors import ModelUnavailable
from backend.inference.session import OnnxModel, TokenRow, load_tokenizer
from backend.reranking.window import best_window
from backend.types import ChunkId, PairScores, ScoredChunk

MAX_TOKENS = 128
"""Window over query and passage together. nDCG@10 with 64, 96 and 128 tokens, 30 candidates:
qdrant_ecosystem 0.622, 0.636, 0.636; cosqa_dev 0.581, 0.583, 0.583; anthropic_docs_qa 0.832, 0.834,
0.834. Time grows with the window, but 100 candidates of 128 tokens stay within 200 ms."""
MIN_BODY_TOKENS = 32
"""What a long query and path leave of the text at least, even if the window grows by it."""
MAX_QUERY_TOKENS = 64
MAX_HEAD_TOKENS = 48
"""Of the passage's first line, the path and symbol, which every window keeps."""
CACHED_SCORES = 20_000
_RESTORE = "Restore assets/models from the repository."


class CrossEncoder:
    """Scores chunks against a query. Safe to call from many threads; calls take turns.

    Args:
        folder: Holds `model.onnx`, `tokenizer.json` and `SHA256SUMS` of both.
        threads: Candidates that are scored side by side, one core each.

    Raises:
        ModelUnavailable: A file is missing or differs from its checksum.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        check_files(folder)
        self._tokens_form = tokens_form(folder)
        self._tokenizer = load_tokenizer(folder / "tokenizer.json")
        self._cls, self._sep = self._tokenizer.encode("").ids  # An empty text is [CLS] [SEP].
        self._model = OnnxModel(folder / "model.onnx", threads=1)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rerank")
        self._turn = threading.Lock()
        self._scores: OrderedDict[tuple[str, ChunkId], float] = OrderedDict()
        self._ms_per_token = 0.0
        self._warm_up()

    @property
    def tokens_form(self) -> str:
        """Names the form of what `tokenize` returns."""
        return self._tokens_form

    def tokenize(self, passages: Sequence[str]) -> list[bytes]:
        """Tokenize passages once, when they are indexed: a search then tokenizes only its query.

        Returns:
            For each passage little-endian 16-bit numbers: how many tokens its first line has, those
            tokens, and the tokens of the rest.
        """
        heads, bodies = zip(*(passage.split("\n", 1) for passage in passages), strict=True)
        encode = self._tokenizer.encode_batch_fast
        pairs = zip(
            encode(list(heads), add_special_tokens=False),
            encode(list(bodies), add_special_tokens=False),
            strict=True,
        )
        return [_pack(head.ids[:MAX_HEAD_TOKENS], body.ids) for head, body in pairs]

    def score(
        self, query: str, candidates: Sequence[ScoredChunk], *, budget_ms: float
    ) -> PairScores:
        """Score as many candidates as the budget allows, the first ones first.

        Args:
            query: The query's text.
            candidates: Best first. Those without tokens are tokenized now.
            budget_ms: Milliseconds from now; what would not end in time is not begun.

        Returns:
            A logit for each candidate. A pair that was scored before keeps its score and takes no
            time.
        """
        deadline = time.perf_counter() + budget_ms / 1000
        keys = [(query, candidate.chunk.id) for candidate in candidates]
        with self._turn:
            scores = [self._scores.get(key) for key in keys]
            missing = [i for i, score in enumerate(scores) if score is None]
            for i, logit in self._run(query, candidates, missing, deadline):
                scores[i] = logit
            self._remember(keys, scores)
        return PairScores(scores=scores, remembered=len(keys) - len(missing))

    def close(self) -> None:
        """Stop the worker threads."""
        self._pool.shutdown()

    def _run(
        self, query: str, candidates: Sequence[ScoredChunk], wanted: Sequence[int], deadline: float
    ) -> list[tuple[int, float]]:
        """Score candidates by position until all are scored or the deadline is too near."""
        asked = self._tokenizer.encode(query, add_special_tokens=False).ids[:MAX_QUERY_TOKENS]
        waiting = iter(wanted)
        taking, late = threading.Lock(), threading.Event()
        done: list[tuple[int, float]] = []

        def work() -> None:
            while True:
                with taking:
                    i = next(waiting, None)
                    if i is None or late.is_set():
                        return
                    row = self._row(asked, candidates[i])
                    left_ms = (deadline - time.perf_counter()) * 1000
                    if len(row.ids) * self._ms_per_token > left_ms:
                        late.set()  # A shorter one behind it must not overtake this one.
                        return
                started = time.perf_counter()
                logit = float(self._model.run(row)[0])
                self._learn((time.perf_counter() - started) * 1000 / len(row.ids))
                done.append((i, logit))

        if wanted and time.perf_counter() < deadline:
            for worker in [self._pool.submit(work) for _ in range(self._threads)]:
                worker.result()
            if not done:  # One stall must not stop all that follows: nothing else would tell.
                self._ms_per_token /= 2
        return done

    def _row(self, asked: Sequence[int], candidate: ScoredChunk) -> TokenRow:
        """Query, path and symbol, and the window of the text that suits the query best."""
        packed = candidate.tokens or self.tokenize([candidate.chunk.passage])[0]
        head, body = _unpack(packed)
        room = max(MAX_TOKENS - len(asked) - len(head) - 3, MIN_BODY_TOKENS)
        window = best_window(body, asked, size=room)
        return TokenRow(
            [self._cls, *asked, self._sep, *head, *window, self._sep], second_from=len(asked) + 2
        )

    def _remember(
        self, keys: Sequence[tuple[str, ChunkId]], scores: Sequence[float | None]
    ) -> None:
        for key, score in zip(keys, scores, strict=True):
            if score is not None:
                self._scores[key] = score
                self._scores.move_to_end(key)
        while len(self._scores) > CACHED_SCORES:
            self._scores.popitem(last=False)

    def _learn(self, ms_per_token: float) -> None:
        """Follow the machine's speed, slowly downwards and at once upwards: deadlines are kept."""
        self._ms_per_token = max(ms_per_token, 0.9 * self._ms_per_token + 0.1 * ms_per_token)

    def _warm_up(self) -> None:
        """The first run allocates; only the second one tells the speed."""
        row = TokenRow([self._cls, *[self._sep] * (MAX_TOKENS - 2), self._sep], 10)
        for _ in range(2):
            started = time.perf_counter()
            self._model.run(row)
            self._ms_per_token = (time.perf_counter() - started) * 1000 / len(row.ids)


def check_files(folder: Path) -> None:
    """Compare a model's files with their checksums.

    Raises:
        ModelUnavailable: A file is missing or differs.
    """
    for name, digest in _checksums(folder).items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError:
            found = ""
        if found != digest:
            raise ModelUnavailable(f"{folder / name} is missing or damaged.", fix=_RESTORE)


@lru_cache
def tokens_form(folder: Path) -> str:
    """Names the form of what `tokenize` returns: tokens of another form cannot be scored.

    Every search asks, so the answer is kept.

    Raises:
        ModelUnavailable: The folder holds no model.
    """
    return f"{_checksums(folder).get('tokenizer.json', '')[:12]}-{MAX_HEAD_TOKENS}"


def _checksums(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / "SHA256SUMS").read_text().splitlines()
        return {name: digest for digest, name in (line.split() for line in lines)}
    except (OSError, ValueError) as exc:
        raise ModelUnavailable(f"The reranker in {folder} is incomplete.", fix=_RESTORE) from exc


def _pack(head: Sequence[int], body: Sequence[int]) -> bytes:
    return np.array([len(head), *head, *body], "<u2").tobytes()


def _unpack(packed: bytes) -> tuple[list[int], list[int]]:
    size, *ids = np.frombuffer(packed, "<u2").tolist()
    return ids[:size], ids[size:]
