"""Whether two embedders speak of the same vectors: the vector of one fixed text tells.

A name says little: weights are replaced under it, a provider serves another model at the same
address, a prefix gets lost in a proxy. An index therefore keeps the vector that its embedder gave
to `PROBE`, and whoever wants to query it must give nearly the same.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from backend.errors import IdentityMismatch
from backend.types import FloatArray, IndexIdentity, VectorSpace

PROBE = "def retry(call, attempts=3): repeat a failed call, waiting longer each time"
"""Code and prose, so that a model changed in either half answers differently. Never change it:
indexes hold its vectors."""

AGREEMENT = {"float32": 0.999, "q8": 0.98, "endpoint": 0.97, "int8": 0.95, "q4": 0.8}
"""Least cosine of two answers of one model, by the coarser of the two precisions.

Two answers on the same weights: float32 graphs of different libraries >= 0.9999; 8-bit blocks 0.999
over two layers of a 7B model; MiniLM in int8 0.98 at worst; 4-bit blocks 0.89 on random weights,
and trained ones lose less. A provider may serve bfloat16 or 8 bits without saying so. Unrelated
models lie near 0. A model trained further may pass the limit of q4: it is loose by need.
"""


class QueryEmbedder(Protocol):
    """What a probe needs of an embedder."""

    @property
    def query_precision(self) -> str: ...

    def embed_query(self, text: str) -> FloatArray: ...


def take_probe(embedder: QueryEmbedder) -> str:
    """Ask an embedder for the probe's vector.

    Raises:
        ModelUnavailable: It cannot answer now.

    Returns:
        Precision, a colon, and the vector as base64 of little-endian float16.
    """
    vector = embedder.embed_query(PROBE).astype("<f2")
    return f"{embedder.query_precision}:{b64encode(vector.tobytes()).decode()}"


def agree(one: str, other: str) -> bool:
    """Whether two probes come from the same model.

    Probes that are missing or cannot be read agree with everything: indexes made before probes
    were kept stay usable.
    """
    unpacked = _unpack(one), _unpack(other)
    if None in unpacked:
        return True
    (precision, vector), (other_precision, other_vector) = (p for p in unpacked if p is not None)
    limit = min(AGREEMENT.get(p, AGREEMENT["endpoint"]) for p in (precision, other_precision))
    return _cosine(vector, other_vector) >= limit


def same_vectors(one: IndexIdentity, other: IndexIdentity) -> bool:
    """Whether both give a passage the same vector, so that one may be copied for the other."""
    fields = ("model", "dimension", "pooling", "document_prefix", "document_precision")
    same = all(getattr(one, name) == getattr(other, name) for name in fields)
    return same and _same_release(one, other) and agree(one.probe, other.probe)


def check_space(
    collection: str,
    stored: IndexIdentity,
    configured: IndexIdentity,
    *,
    matching: Sequence[str] = (),
) -> None:
    """A query's vectors must come from the space of the collection's vectors.

    Where the model runs does not matter, nor does a revision if the probes agree: a repository gets
    commits that leave its weights alone.

    Args:
        collection: The collection's name.
        stored: What it was made with.
        configured: What would query it.
        matching: Other collections that were indexed with the configured model.

    Raises:
        IdentityMismatch: Another model, dimension, pooling, prefix, release or BM25 tokenizer is
            configured, or the model of that name gives other vectors than it gave when the
            collection was indexed.
    """
    again = f"index it again (python -m backend index SOURCE --collection {collection})"
    for name in ("model", "dimension", "pooling", "query_prefix", "document_prefix", "sparse"):
        was, now = getattr(stored, name), getattr(configured, name)
        if was != now:
            raise IdentityMismatch(
                f"Collection {collection!r} was indexed with {name} {was!r}, not {now!r}.",
                fix=_way_out(stored.model, again, matching)
                if name == "model"
                else f"{again[0].upper()}{again[1:]}.",
            )
    if not agree(stored.probe, configured.probe):
        raise IdentityMismatch(
            f"{stored.model} gives other vectors now than when collection {collection!r} was"
            " indexed: its weights or its provider's model have changed.",
            fix=f"Bring back {stored.revision or 'what served it'}, or {again}.",
        )
    if not (stored.probe and configured.probe) and not _same_release(stored, configured):
        raise IdentityMismatch(
            f"Collection {collection!r} was indexed with {stored.model} at {stored.revision!r}, not"
            f" {configured.revision!r}, and has no probe to compare their vectors.",
            fix=f"{again[0].upper()}{again[1:]}.",
        )


def check_arriving(source: str, arriving: VectorSpace, configured: IndexIdentity) -> None:
    """Vectors that were computed elsewhere must be those that the configured model would give.

    Their precision may be another. A revision only counts where there are no probes to compare.

    Raises:
        IdentityMismatch: They are of another model, dimension, pooling, prefix or release, or the
            model of that name gave other vectors there than it gives here.
    """
    again = "run scripts/embed_corpus.py again"
    for name in ("model", "dimension", "pooling", "query_prefix", "document_prefix"):
        theirs, ours = getattr(arriving, name), getattr(configured, name)
        if theirs != ours:
            other = f"set RANKSCOPE_EMBEDDER={theirs}, or {again} with --model {ours}."
            same = f"export the chunks and {again}, or correct the entry in RANKSCOPE_MODELS_FILE."
            fix = other if name == "model" else same
            raise IdentityMismatch(
                f"The vectors of {source} were made with {name} {theirs!r}, not {ours!r}.",
                fix=fix[0].upper() + fix[1:],
            )
    if not agree(arriving.probe, configured.probe):
        raise IdentityMismatch(
            f"{arriving.model} gave other vectors where {source} was embedded than it gives here:"
            " its weights or their prefixes differ.",
            fix=f"Prepare {arriving.revision or 'those weights'} here, or {again} with"
            f" --revision {configured.revision or 'REVISION'}.",
        )
    if not (arriving.probe and configured.probe) and not _released_together(
        arriving.revision, configured.revision
    ):
        raise IdentityMismatch(
            f"{source} was embedded with {arriving.model} at {arriving.revision!r}, not"
            f" {configured.revision!r}, and there are no probes to compare.",
            fix=f"R{again[1:]} with --revision {configured.revision}.",
        )


def _way_out(model: str, again: str, matching: Sequence[str]) -> str:
    ways = [f"set RANKSCOPE_EMBEDDER={model}"]
    if matching:
        ways.append(f"search {' or '.join(matching)}, which the configured model indexed")
    sentence = f"{', '.join(ways)}, or {again}."
    return sentence[0].upper() + sentence[1:]


def _same_release(one: IndexIdentity, other: IndexIdentity) -> bool:
    return _released_together(one.revision, other.revision)


def _released_together(one: str, other: str) -> bool:
    return one == other or not (one and other)


def _unpack(probe: str) -> tuple[str, FloatArray] | None:
    precision, colon, packed = probe.partition(":")
    try:
        vector = np.frombuffer(b64decode(packed, validate=True), "<f2").astype(np.float32)
    except ValueError:
        return None
    return (precision, vector) if colon and vector.size else None


def _cosine(one: FloatArray, other: FloatArray) -> float:
    if one.shape != other.shape:
        return 0.0
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if np.isfinite(norms) and norms else 0.0
