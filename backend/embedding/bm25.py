"""BM25 as sparse vectors, with a tokenizer that knows identifiers.

A document's vector holds the term-frequency part of BM25; the store multiplies by the inverse
document frequency over the collection (`Modifier.Idf`), and the query's vector holds ones.

Source: Robertson & Zaragoza 2009, doi:10.1561/1500000019; the split into two vectors is that of
`Qdrant/bm25` in fastembed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from zlib import crc32

from backend.types import Chunk, SparseVector

SPARSE = "bm25-identifiers-1 (k=1.2, b=0.75, average=150)"
"""Changes whenever the same text would give another vector."""

K, B = 1.2, 0.75
AVERAGE_TERMS = 150.0
"""Terms in a typical chunk. Fixed, so that a chunk's vector does not depend on its neighbours."""
MAX_TERM_CHARS = 64

_WORD = re.compile(r"\w+")
_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_a-zA-Z]+")


def terms(text: str) -> Iterator[str]:
    """Every word in lower case, and the parts of camelCase and snake_case words."""
    for word in _WORD.findall(text):
        whole = word.lower().strip("_")[:MAX_TERM_CHARS]
        if not whole:
            continue
        yield whole
        parts = _PARTS.findall(word)
        if len(parts) > 1:
            for part in parts:
                yield part.lower()[:MAX_TERM_CHARS]


def query_vector(text: str) -> SparseVector:
    """Encode a query: each distinct term weighs 1."""
    indices = sorted({_index(term) for term in terms(text)})
    return SparseVector(indices, [1.0] * len(indices))


def document_vector(chunk: Chunk) -> SparseVector:
    """Encode a chunk: its text, symbol, last three folders, and the file's stem twice."""
    path = PurePosixPath(chunk.path)
    name = " ".join([*path.parts[-4:-1], path.stem, path.stem, chunk.symbol])
    counts = Counter(_index(term) for term in terms(f"{name}\n{chunk.text}"))
    norm = K * (1 - B + B * counts.total() / AVERAGE_TERMS)
    indices = sorted(counts)
    return SparseVector(indices, [counts[i] * (K + 1) / (counts[i] + norm) for i in indices])


def _index(term: str) -> int:
    """A term's dimension: its 32-bit hash. At 100,000 terms one in 40,000 shares another's."""
    return crc32(term.encode())
