"""Quantization modes by name. A vector in Qdrant takes a single configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import qdrant_edge as qe

QuantizationMode = Literal["none", "scalar", "binary", "binary+scalar", "turbo4"]
MODES: tuple[QuantizationMode, ...] = get_args(QuantizationMode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How dense vectors are compressed, and how a search makes up for it.

    Args:
        mode: `scalar` keeps a byte a dimension, `turbo4` half a byte, `binary` a bit. In
            `binary+scalar` the stored codes are bits and the query keeps a byte a dimension.
        rescore: Score the best codes again with the original vectors.
        oversampling: Codes to rescore for each hit asked for.
    """

    mode: QuantizationMode
    rescore: bool
    oversampling: float


def edge_config(mode: QuantizationMode) -> qe.QuantizationConfigType | None:
    """The engine's configuration of a mode; codes are kept in memory."""
    pinned = qe.Memory.Pinned
    if mode == "scalar":
        return qe.ScalarQuantizationConfig(qe.ScalarType.Int8, quantile=0.99, memory=pinned)
    if mode == "binary":
        return qe.BinaryQuantizationConfig(memory=pinned)
    if mode == "binary+scalar":
        encoding = qe.BinaryQuantizationQueryEncoding.Scalar8Bits
        return qe.BinaryQuantizationConfig(query_encoding=encoding, memory=pinned)
    if mode == "turbo4":
        return qe.TurboQuantQuantizationConfig(bits=qe.TurboQuantBitSize.Bits4, memory=pinned)
    return None
