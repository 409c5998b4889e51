"""A small hybrid first stage: identifier-aware BM25 and MiniLM vectors, their scores added.

It mirrors the search path closely enough to mine the negatives that a reranker will meet there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse  # type: ignore[import-untyped]
from tokenizers import Tokenizer
from transformers import BertModel

Floats = npt.NDArray[np.float32]

_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*|\d+")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_K1, _B = 1.2, 0.75
BM25_WEIGHT = 0.018  # Cosine per point of BM25; see backend/ranking/fusion.py.


def tokens(text: str) -> list[str]:
    """Whole words and their camelCase and snake_case parts, lower-cased."""
    found: list[str] = []
    for word in _WORD.findall(text):
        found.append(word.lower())
        parts = _PARTS.findall(word)
        if len(parts) > 1:
            found.extend(part.lower() for part in parts)
    return found


class Bm25:
    """BM25 over one pool of texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._terms: dict[str, int] = {}
        rows: list[int] = []
        columns: list[int] = []
        counts: list[float] = []
        lengths = np.zeros(len(texts), np.float32)
        for row, text in enumerate(texts):
            bag = Counter(tokens(text))
            lengths[row] = sum(bag.values())
            for term, count in bag.items():
                rows.append(row)
                columns.append(self._terms.setdefault(term, len(self._terms)))
                counts.append(count)
        shape = (len(texts), max(len(self._terms), 1))
        matrix = sparse.coo_matrix((np.array(counts, np.float32), (rows, columns)), shape=shape)
        df = np.bincount(np.array(columns, np.int64), minlength=shape[1])
        idf = np.log1p((len(texts) - df + 0.5) / (df + 0.5)).astype(np.float32)
        norm = _K1 * (1 - _B + _B * lengths / max(float(lengths.mean()), 1.0))
        matrix.data = idf[matrix.col] * matrix.data * (_K1 + 1) / (matrix.data + norm[matrix.row])
        self._matrix = matrix.tocsc()

    def scores(self, query: str) -> Floats:
        """Score of every text, 0 where no term matches, shape (n,)."""
        total = np.zeros(self._matrix.shape[0], np.float32)
        for term, times in Counter(tokens(query)).items():
            column = self._terms.get(term)
            if column is not None:
                start, stop = self._matrix.indptr[column : column + 2]
                total[self._matrix.indices[start:stop]] += times * self._matrix.data[start:stop]
        return total


class Embedder:
    """all-MiniLM-L6-v2: mean pooling, unit vectors, bfloat16 arithmetic."""

    def __init__(self, folder: Path, *, window: int = 128) -> None:
        self._model = BertModel.from_pretrained(
            folder, dtype=torch.bfloat16, attn_implementation="eager", add_pooling_layer=False
        )
        self._model.train(False)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(window)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], *, batch: int = 32) -> Floats:
        """Embed texts, shape (n, 384), sorted by length inside to waste no padding."""
        out = np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        encoded = [self._tokenizer.encode(text[:4000]).ids for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            width = max(len(encoded[i]) for i in chosen)
            ids = torch.tensor([encoded[i] + [0] * (width - len(encoded[i])) for i in chosen])
            mask = (ids != 0).long()
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            out[chosen] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return out


def top(scores: Floats, depth: int) -> npt.NDArray[np.int64]:
    """Indices of the `depth` best scores, best first, ties by index."""
    depth = min(depth, len(scores))
    chosen = np.argpartition(-scores, depth - 1)[:depth] if depth < len(scores) else None
    chosen = np.arange(len(scores)) if chosen is None else np.sort(chosen)
    ordered: npt.NDArray[np.int64] = chosen[np.argsort(-scores[chosen], kind="stable")]
    return ordered
