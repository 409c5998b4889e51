"""Reranking by a language model that orders a list, such as nomic-ai/CodeRankLLM.

The model sees a window of candidates and answers with their order, `[3] > [1] > [2]`. The window
slides from the last candidates to the first, overlapping by half, so that a good candidate rises
from any place to the top. What the model says is never trusted to be an order: numbers that name a
candidate count once, and candidates it did not name follow in the order they had.

Source: Sun et al. 2023, arXiv:2304.09542 (windows); Suresh et al. 2024, arXiv:2412.01007, whose
released prompt CodeRankLLM was trained on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from pydantic import BaseModel, Field

from backend.errors import AnswerInvalid
from backend.providers.client import ProviderClient
from backend.reranking.blend import normal_scores
from backend.types import PairScores, ScoredChunk

WINDOW, STEP = 20, 10
"""Candidates that the model sees at once, and how far the window moves: as in the papers."""
MAX_CHARS = 3_000
"""Of a passage, about 1,000 tokens: twenty of them stay below 32,768 tokens, the model's window."""
MAX_QUERY_CHARS = 2_000
_TOKENS_PER_PLACE = 6
"""`[12] > `, and one to spare."""
_LIMIT_BYTES = 262_144
_NUMBER = re.compile(r"\[\s*(\d{1,4})\s*\]")
_BARE_LIST = re.compile(r"\d{1,4}(?:\s*[>,]\s*\d{1,4})+")
_THOUGHT = re.compile(r".*</think>", re.DOTALL)
_INTRODUCTION = (
    "I will provide you with {num} code snippets, each indicated by a numerical identifier []. "
    "Rank the code snippets based on their relevance to the functionality described by the "
    "following doc string: {query}.\n"
)
_TASK = (
    "Doc String: {query}.\nRank the {num} code snippets above based on their relevance to the "
    "functionality described by the doc string. All the code snippets should be included and "
    "listed using identifiers, in descending order of relevance. The output format should be "
    "[] > [], e.g., [2] > [1]. Only respond with the ranking results, do not say any word or "
    "explain."
)


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


class _Chat(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class ListwiseEndpoint:
    """Orders candidates with a chat model behind HTTP. Safe to call from many threads.

    Args:
        client: Reaches the provider.
        path: Where it chats, below its base URL.
        model: What the provider calls the model.
    """

    def __init__(self, client: ProviderClient, *, path: str, model: str) -> None:
        self._client, self._path, self._model = client, path, model
        self._window_s = 0.0

    def score(
        self, query: str, candidates: Sequence[ScoredChunk], *, budget_ms: float
    ) -> PairScores:
        """Order as many of the best candidates as there is time for.

        Returns:
            Normal scores of the places, each candidate once; None for those behind the first
            window that the budget, by the time of earlier windows, leaves room for.

        Raises:
            ProviderError: The provider refuses, answers wrongly, or did not answer in time. An
                order whose first window is missing would be worth less than none.
        """
        deadline = time.monotonic() + budget_ms / 1000
        windows = _windows(len(candidates))
        if self._window_s:
            windows = windows[-max(int(budget_ms / 1000 / self._window_s), 1) :]
        if not windows or budget_ms <= 0:
            return PairScores(scores=[None] * len(candidates), unit="rank")
        reached = windows[0].stop
        order, heard = list(range(reached)), False
        for window in windows:
            shown = order[window]
            passages = [candidates[i].chunk.passage for i in shown]
            said = self._ask(query, passages, timeout_s=deadline - time.monotonic())
            named = parse_order(said, len(shown))
            heard = heard or bool(named)
            order[window] = [shown[i] for i in dict.fromkeys([*named, *range(len(shown))])]
        if not heard:
            raise AnswerInvalid(
                f"{self._client.label} answered without an order.",
                fix=f"Check that {self._model} is a model that reranks lists.",
            )
        places = [0] * reached
        for place, i in enumerate(order):
            places[i] = place
        unread = [None] * (len(candidates) - reached)
        return PairScores(scores=[*normal_scores(places), *unread], unit="rank")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, query: str, passages: Sequence[str], *, timeout_s: float) -> str:
        started = time.monotonic()
        answer = self._client.post(
            self._path,
            {
                "model": self._model,
                "messages": [{"role": "user", "content": prompt(query, passages)}],
                "temperature": 0,
                "max_tokens": _TOKENS_PER_PLACE * len(passages) + 8,
            },
            _Chat,
            limit_bytes=_LIMIT_BYTES,
            timeout_s=max(timeout_s, 0.001),
        )
        spent = time.monotonic() - started
        self._window_s = max(spent, 0.9 * self._window_s + 0.1 * spent)
        return answer.choices[0].message.content


def prompt(query: str, passages: Sequence[str]) -> str:
    """What the model was trained to read. Numbers in brackets are left to the candidates."""
    asked = _unnumbered(query[:MAX_QUERY_CHARS])
    listed = "".join(
        f"[{number}] {_unnumbered(passage[:MAX_CHARS])}\n"
        for number, passage in enumerate(passages, start=1)
    )
    introduction = _INTRODUCTION.format(num=len(passages), query=asked)
    return f"{introduction}\n{listed}\n{_TASK.format(num=len(passages), query=asked)}"


def parse_order(said: str, count: int) -> list[int]:
    """Read an order of `count` candidates out of whatever a model said.

    Returns:
        The candidates that were named, by 0-based number, each once, in the order named. Numbers in
        brackets count; without any, a bare list such as `3 > 1 > 2` does.
    """
    said = _THOUGHT.sub("", said)
    numbers = _NUMBER.findall(said)
    if not numbers:
        numbers = re.findall(r"\d+", " ".join(_BARE_LIST.findall(said)))
    named = (int(number) - 1 for number in numbers)
    return list(dict.fromkeys(i for i in named if 0 <= i < count))


def _windows(count: int) -> list[slice]:
    """Windows over `count` candidates from the last to the first; the first one is always whole."""
    stops = [count]
    while stops[-1] > WINDOW:
        stops.append(max(stops[-1] - STEP, WINDOW))
    return [slice(max(stop - WINDOW, 0), stop) for stop in stops] if count else []


def _unnumbered(text: str) -> str:
    return _NUMBER.sub(r"(\1)", text)
