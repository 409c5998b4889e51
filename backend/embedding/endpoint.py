"""Embeddings from any provider that answers `/v1/embeddings` as OpenAI does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from backend.errors import AnswerInvalid, RequestTooLarge
from backend.models.catalogue import ModelCard
from backend.providers.client import ProviderClient
from backend.types import FloatArray

PARALLEL = 4
"""Batches of documents under way at once."""
DOCUMENTS_S = 120.0
"""Seconds for a batch of documents: nobody waits for a page meanwhile, and a CPU may serve it."""
_BYTES_PER_NUMBER = 40
"""Of JSON: sign, 17 digits, exponent, comma, and indentation by those that pretty-print."""
_BYTES_AROUND = 65_536


class _Item(BaseModel):
    index: int = Field(strict=True)
    embedding: list[FiniteFloat]


class _Embeddings(BaseModel):
    data: list[_Item]


class EmbeddingEndpoint:
    """Embeds with a model behind HTTP. Safe to call from many threads.

    Args:
        client: Reaches the provider.
        path: Where it embeds, below its base URL.
        card: The model that it is to be.
        served_as: What the provider calls it.
        max_inputs, max_chars: What one request may hold; a single longer text is still sent.
    """

    def __init__(
        self,
        client: ProviderClient,
        *,
        path: str,
        card: ModelCard,
        served_as: str,
        max_inputs: int,
        max_chars: int,
    ) -> None:
        self._client, self._path, self._model = client, path, served_as
        self._card, self._dimension = card, card.dimension
        self._max_inputs, self._max_chars = max_inputs, max_chars

    @property
    def card(self) -> ModelCard:
        """The model."""
        return self._card

    @property
    def revision(self) -> str:
        """Nobody tells which weights a provider runs; the probe does."""
        return ""

    @property
    def query_precision(self) -> str:
        """The provider decides."""
        return "endpoint"

    document_precision = query_precision

    def embed_query(self, text: str) -> FloatArray:
        """Embed a query; unit norm, shape (dimension,).

        Raises:
            ProviderError: The provider cannot be reached, refuses, or answers wrongly.
        """
        vector: FloatArray = self._embed([self._card.query_prefix + text])[0]
        return vector

    def embed_documents(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents in batches; unit norm, shape (len(texts), dimension).

        Raises:
            ProviderError: The provider cannot be reached, refuses, or answers wrongly.
        """
        prefix = self._card.document_prefix
        batches = list(self._batches([prefix + text for text in texts]))
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="embed") as pool:
            parts = list(pool.map(self._embed_splitting, batches))
        return np.concatenate([np.empty((0, self._dimension), np.float32), *parts])

    def release(self) -> None:
        """Nothing is held for documents."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        chars = 0
        for text in texts:
            if batch and (len(batch) == self._max_inputs or chars + len(text) > self._max_chars):
                yield batch
                batch, chars = [], 0
            batch.append(text)
            chars += len(text)
        if batch:
            yield batch

    def _embed_splitting(self, texts: Sequence[str]) -> FloatArray:
        """Embed a batch, in halves if the provider finds it too large."""
        try:
            return self._embed(texts, timeout_s=DOCUMENTS_S)
        except RequestTooLarge:
            if len(texts) == 1:
                raise
        middle = len(texts) // 2
        halves = (texts[:middle], texts[middle:])
        return np.concatenate([self._embed_splitting(half) for half in halves])

    def _embed(self, texts: Sequence[str], *, timeout_s: float | None = None) -> FloatArray:
        numbers = len(texts) * self._dimension
        answer = self._client.post(
            self._path,
            {"model": self._model, "input": list(texts), "encoding_format": "float"},
            _Embeddings,
            limit_bytes=_BYTES_AROUND + _BYTES_PER_NUMBER * numbers,
            timeout_s=timeout_s,
        )
        return self._checked(answer.data, count=len(texts))

    def _checked(self, items: Sequence[_Item], *, count: int) -> FloatArray:
        """One unit vector a text, in the order asked.

        Raises:
            AnswerInvalid: Not each text has one vector, of the dimension, with a direction.
        """
        indexes = sorted(item.index for item in items)
        if indexes != list(range(count)):
            self._refuse(f"embeddings numbered {_few(indexes)} for {count} texts")
        for item in items:
            if len(item.embedding) != self._dimension:
                self._refuse(
                    f"embeddings of dimension {len(item.embedding)}, not {self._dimension}"
                )
        ordered = sorted(items, key=lambda item: item.index)
        vectors = np.array([item.embedding for item in ordered], np.float64)
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(norms) & (norms > 0)).all():
            self._refuse("an embedding without a direction")
        unit: FloatArray = (vectors / norms).astype(np.float32)
        return unit

    def _refuse(self, what: str) -> None:
        raise AnswerInvalid(
            f"{self._client.label} answered with {what}.",
            fix=f"Check that it serves {self._model} at this address.",
        )


def _few(indexes: Sequence[int]) -> str:
    shown = ", ".join(map(str, itertools.islice(indexes, 5)))
    return f"{shown}, …" if len(indexes) > 5 else shown or "not at all"
