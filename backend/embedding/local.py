"""Embedding by ONNX Runtime in this process: any model of the catalogue that has been prepared."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from backend.errors import ModelUnavailable
from backend.inference.processor import free_memory
from backend.inference.session import OnnxModel, TokenRow, load_tokenizer
from backend.models.catalogue import ModelCard, Pooling
from backend.models.prepare import Prepared
from backend.types import FloatArray

WORKING_BYTES = 100_000_000
"""What a session takes beside the weights, for inputs of the length of a chunk."""


class LocalEmbedder:
    """Embeds queries one at a time and documents by the hundred. Safe to call from many threads.

    Args:
        prepared: The model's files.
        threads: Cores to use.

    Raises:
        ModelUnavailable: A file is missing or damaged, or the model does not fit into memory.
    """

    def __init__(self, prepared: Prepared, *, threads: int) -> None:
        self._prepared = prepared
        self._tokenizer = load_tokenizer(prepared.tokenizer)
        self._tokenizer.enable_truncation(prepared.card.max_tokens)
        check_memory(prepared)
        self._queries = OnnxModel(prepared.model(prepared.query_precision), threads=threads)
        self._documents: OnnxModel | None = None
        self._threads = threads

    @property
    def card(self) -> ModelCard:
        """The model."""
        return self._prepared.card

    @property
    def revision(self) -> str:
        """Commit or release of its weights."""
        return self._prepared.revision

    @property
    def query_precision(self) -> str:
        """How queries are computed."""
        return self._prepared.query_precision

    @property
    def document_precision(self) -> str:
        """How documents are computed."""
        return self._prepared.document_precision

    def embed_query(self, text: str) -> FloatArray:
        """Embed a query; unit norm, shape (dimension,)."""
        (row,) = self._rows([self.card.query_prefix + text])
        return self._embed(self._queries, row)

    def embed_documents(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents; unit norm, shape (len(texts), dimension)."""
        prepared = self._prepared
        if prepared.document_precision == prepared.query_precision:
            model, workers = self._queries, 1  # A second copy in memory would win little.
        else:
            if self._documents is None:  # A server that only searches never loads it.
                path = prepared.model(prepared.document_precision)
                self._documents = OnnxModel(path, threads=1)
            model, workers = self._documents, self._threads
        rows = self._rows([self.card.document_prefix + text for text in texts])
        # The longest first, so that the workers end together.
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
        vectors = np.empty((len(rows), self.card.dimension), np.float32)
        with ThreadPoolExecutor(workers) as pool:
            done = pool.map(lambda i: self._embed(model, rows[i]), order)
            for i, vector in zip(order, done, strict=True):
                vectors[i] = vector
        return vectors

    def release(self) -> None:
        """Give back the memory that only documents need; they are still welcome."""
        self._documents = None

    def _rows(self, texts: Sequence[str]) -> list[TokenRow]:
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [TokenRow(encoding.ids, len(encoding.ids)) for encoding in encodings]

    def _embed(self, model: OnnxModel, row: TokenRow) -> FloatArray:
        output = model.run(row)
        vector = output if output.ndim == 1 else pool_tokens(output, self.card.pooling)
        if vector.shape != (self.card.dimension,) or not np.isfinite(vector).all():
            raise ModelUnavailable(
                f"The files of {self.card.id} give vectors of shape {vector.shape}, or not numbers;"
                f" the catalogue says {self.card.dimension} dimensions.",
                fix=f"Correct the catalogue's entry, or delete {self._prepared.folder}.",
            )
        norm = float(np.linalg.norm(vector)) or 1.0
        return vector / np.float32(norm)


def check_memory(prepared: Prepared) -> None:
    """Refuse a model that the system would have to kill.

    Raises:
        ModelUnavailable: Its weights and what computing takes are more than the free memory.
    """
    needed = prepared.needs_bytes(prepared.query_precision) + WORKING_BYTES
    free = free_memory()
    if free is not None and needed > free:
        raise ModelUnavailable(
            f"{prepared.card.id} in {prepared.query_precision} needs {needed / 1e9:.1f} GB of"
            f" memory; {free / 1e9:.1f} GB are free.",
            fix="Free memory, set RANKSCOPE_EMBEDDER_PRECISION to a smaller form (q8, q4), or let"
            " a provider serve the model.",
        )


def pool_tokens(hidden: FloatArray, pooling: Pooling) -> FloatArray:
    """One vector of the vectors of all tokens.

    Args:
        hidden: Last hidden state of one input without padding, shape (tokens, dimension).
        pooling: What the model was trained with.
    """
    first_or_last: dict[Literal["cls", "last"], int] = {"cls": 0, "last": -1}
    if pooling == "mean":
        mean: FloatArray = hidden.mean(axis=0, dtype=np.float32)
        return mean
    vector: FloatArray = hidden[first_or_last[pooling]]
    return vector
