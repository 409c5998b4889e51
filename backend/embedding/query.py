"""The first stage of a search: a query becomes vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from backend.embedding.bm25 import query_vector
from backend.types import FloatArray, Located, Query


class QueryEmbedder(Protocol):
    """Anything that embeds a query."""

    def embed_query(self, text: str) -> FloatArray:
        """Unit norm, shape (dimension,)."""
        ...


@dataclass(frozen=True)
class EmbedQuery:
    """The query as a dense and a BM25 vector, with what the store needs to know besides."""

    model: QueryEmbedder
    name: str = "embed"

    def __call__(self, query: Query, /) -> Located:
        return Located(
            dense=self.model.embed_query(query.text),
            sparse=query_vector(query.text),
            filters=query.filters,
            limit=max(query.top_k, query.candidates),
        )
