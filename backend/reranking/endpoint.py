"""Reranking by any provider that answers `/v1/rerank` as Cohere, Jina or TEI do."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import AliasChoices, BaseModel, Field, FiniteFloat, RootModel

from backend.errors import AnswerInvalid, ProviderError, ProviderUnavailable, RequestTooLarge
from backend.providers.client import ProviderClient
from backend.providers.presets import RerankForm, ScoreScale
from backend.types import PairScores, ScoredChunk

MAX_CHARS = 4_000
"""Of a passage: about 1,300 tokens of code, which every reranker's window holds."""
PARALLEL = 4
"""Batches under way at once."""
SURE = 1e-4
"""Probabilities nearer to 0 or 1 than this count as this: a logit of at most 9.2."""
_BYTES_PER_RESULT = 1_024
_BYTES_AROUND = 65_536


class _Result(BaseModel):
    index: int = Field(strict=True)
    score: FiniteFloat = Field(validation_alias=AliasChoices("relevance_score", "score"))


class _Results(BaseModel):
    results: list[_Result]


class _List(RootModel[list[_Result]]):
    pass


class RerankEndpoint:
    """Scores candidates with a model behind HTTP. Safe to call from many threads.

    Args:
        client: Reaches the provider.
        path: Where it reranks, below its base URL.
        model: What the provider calls the model.
        form: How it is asked.
        scale: What its scores are; probabilities become log-odds.
        max_inputs: Passages that one request may hold.
    """

    def __init__(
        self,
        client: ProviderClient,
        *,
        path: str,
        model: str,
        form: RerankForm,
        scale: ScoreScale,
        max_inputs: int,
    ) -> None:
        self._client, self._path, self._model = client, path, model
        self._form, self._scale, self._max_inputs = form, scale, max_inputs

    def score(
        self, query: str, candidates: Sequence[ScoredChunk], *, budget_ms: float
    ) -> PairScores:
        """Have all candidates scored within the budget.

        Returns:
            Logits; None for those of a batch that was not answered in time.

        Raises:
            ProviderError: The provider refuses, answers wrongly, or scored none in time.
        """
        deadline = time.monotonic() + budget_ms / 1000
        passages = [candidate.chunk.passage[:MAX_CHARS] for candidate in candidates]
        starts = range(0, len(passages), self._max_inputs)

        def batch(start: int) -> list[float | None] | ProviderUnavailable:
            part = passages[start : start + self._max_inputs]
            if time.monotonic() >= deadline:
                return [None] * len(part)
            try:
                return list(self._score_splitting(query, part, deadline))
            except ProviderUnavailable as exc:
                return exc

        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="rerank") as pool:
            answers = list(pool.map(batch, starts))
        scores: list[float | None] = []
        for start, answer in zip(starts, answers, strict=True):
            size = len(passages[start : start + self._max_inputs])
            scores += [None] * size if isinstance(answer, ProviderError) else answer
        failures = [answer for answer in answers if isinstance(answer, ProviderError)]
        if failures and all(score is None for score in scores):
            raise failures[0]
        return PairScores(scores=scores)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _score_splitting(self, query: str, passages: Sequence[str], deadline: float) -> list[float]:
        """Score a batch, in halves if the provider finds it too large."""
        try:
            left_s = max(deadline - time.monotonic(), 0.001)
            return self._score(query, passages, timeout_s=left_s)
        except RequestTooLarge:
            if len(passages) == 1:
                raise
        middle = len(passages) // 2
        halves = (passages[:middle], passages[middle:])
        return [score for half in halves for score in self._score_splitting(query, half, deadline)]

    def _score(self, query: str, passages: Sequence[str], *, timeout_s: float) -> list[float]:
        # Some send the passages back, with up to six bytes a character.
        limit = _BYTES_AROUND + _BYTES_PER_RESULT * len(passages) + 8 * sum(map(len, passages))
        if self._form == "texts":
            listed = self._client.post(
                self._path,
                {"query": query, "texts": list(passages), "raw_scores": True, "truncate": True},
                _List,
                limit_bytes=limit,
                timeout_s=timeout_s,
            ).root
        else:
            listed = self._client.post(
                self._path,
                {
                    "model": self._model,
                    "query": query,
                    "documents": list(passages),
                    "top_n": len(passages),
                },
                _Results,
                limit_bytes=limit,
                timeout_s=timeout_s,
            ).results
        return self._checked(listed, count=len(passages))

    def _checked(self, results: Sequence[_Result], *, count: int) -> list[float]:
        """A logit for each passage, in the order asked.

        Raises:
            AnswerInvalid: Not each passage has one score, or a probability is none.
        """
        if sorted(result.index for result in results) != list(range(count)):
            raise AnswerInvalid(
                f"{self._client.label} did not score each of {count} passages once.",
                fix=f"Check that it serves {self._model} at this address.",
            )
        scores = [result.score for result in sorted(results, key=lambda result: result.index)]
        if self._scale == "logit":
            return scores
        if not all(0 <= score <= 1 for score in scores):
            raise AnswerInvalid(
                f"{self._client.label} answered with scores that are no probabilities.",
                fix="Choose the preset of the server that it is, such as llama.cpp.",
            )
        return [_log_odds(score) for score in scores]


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, SURE), 1 - SURE)
    return math.log(bounded / (1 - bounded))
