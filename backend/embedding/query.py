"""The first stage of a search: a query becomes vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from loguru import logger

from backend.embedding.bm25 import query_vector
from backend.errors import ModelUnavailable
from backend.types import FloatArray, Located, Query


class QueryEmbedder(Protocol):
    """Anything that embeds a query."""

    def embed_query(self, text: str) -> FloatArray:
        """Unit norm, shape (dimension,).

        Raises:
            ModelUnavailable: It cannot answer now.
        """
        ...


@dataclass(frozen=True)
class EmbedQuery:
    """The query as a dense and a BM25 vector, with what the store needs to know besides.

    A model that cannot answer costs the dense vector, not the search.
    """

    model: QueryEmbedder
    limit: int
    """Chunks to retrieve."""
    name: str = "embed"

    def __call__(self, query: Query, /) -> Located:
        dense, degraded = None, ""
        try:
            dense = self.model.embed_query(query.sought)
        except ModelUnavailable as exc:
            logger.warning("Searching by words alone: {why}", why=exc)
            degraded = f"Found by words alone, without the embedding model: {exc}"
        return Located(
            text=query.sought,
            dense=dense,
            degraded=degraded,
            sparse=query_vector(query.sought),
            filters=query.filters,
            limit=self.limit,
        )
