"""What every embedder does, whether the model runs in this process or behind an address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from backend.models.catalogue import ModelCard
from backend.types import FloatArray


class Embedder(Protocol):
    """Embeds by one model of the catalogue. Safe to call from many threads.

    Prefixes are the embedder's business: it is given what was typed or indexed.
    """

    @property
    def card(self) -> ModelCard:
        """The model."""
        ...

    @property
    def revision(self) -> str:
        """Commit or release of its weights; empty where nobody tells."""
        ...

    @property
    def query_precision(self) -> str:
        """A `Precision`, or `endpoint` where a provider decides."""
        ...

    @property
    def document_precision(self) -> str:
        """Likewise, of documents."""
        ...

    def embed_query(self, text: str) -> FloatArray:
        """Embed a query; unit norm, shape (dimension,).

        Raises:
            ModelUnavailable: It cannot answer now.
        """
        ...

    def embed_documents(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents; unit norm, shape (len(texts), dimension).

        Raises:
            ModelUnavailable: It cannot answer now.
        """
        ...

    def release(self) -> None:
        """Give back what only documents need; they are still welcome."""
        ...
