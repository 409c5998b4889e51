"""Models, loaded once; and what stands in for the embedding model while it cannot be had."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from backend.build import (
    Models,
    UnavailableEmbedder,
    embedding_card,
    load_models,
    load_reranker,
    load_scorer,
)
from backend.config import Settings
from backend.errors import ModelUnavailable

RETRY_S = 30.0
"""Seconds until a search tries again to load a model that could not be had."""


class LoadedModels:
    """The configured models. Safe to call from many threads.

    Args:
        settings: They name the models.
        lock: Held while models are loaded.
    """

    def __init__(self, settings: Settings, lock: threading.RLock) -> None:
        self._settings = settings
        self._lock = lock
        self._models: Models | None = None
        self._failed: tuple[float, Models] | None = None

    def load(self) -> Models:
        """All models.

        Raises:
            ModelUnavailable: Weights are missing, damaged, or cannot be fetched.
        """
        with self._lock:
            if self._models is None:
                self._models = load_models(self._settings)
                self._close_failed()
            return self._models

    def load_what_can_be(self) -> Models:
        """The models; without the embedding model, if that cannot be had now."""
        with self._lock:
            if self._failed is None or time.monotonic() > self._failed[0] + RETRY_S:
                try:
                    return self.load()
                except ModelUnavailable as exc:
                    self._failed = (time.monotonic(), self._without_embedder(exc))
            return self._models or self._failed[1]

    def release_documents(self) -> None:
        """Give back the memory that only indexing needs."""
        with self._lock:
            if self._models is not None:
                self._models.embedder.release()

    def close(self) -> None:
        """Close connections and stop threads."""
        with self._lock:
            if self._models is not None:
                self._models.close()
                self._models = None
            self._close_failed()

    def _without_embedder(self, reason: ModelUnavailable) -> Models:
        stand_in = UnavailableEmbedder(embedding_card(self._settings), reason)
        if self._failed is not None:
            return replace(self._failed[1], embedder=stand_in)
        reranker = load_reranker(self._settings)
        scorer = load_scorer(self._settings, reranker)
        return Models(embedder=stand_in, reranker=reranker, scorer=scorer)

    def _close_failed(self) -> None:
        if self._failed is not None:
            self._failed[1].close()
            self._failed = None
