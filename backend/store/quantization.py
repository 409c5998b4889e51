"""Quantization modes as the engine's configuration; a vector takes a single one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import qdrant_edge as qe

from backend.types import QuantizationMode

BITS: Mapping[QuantizationMode, float] = {
    "none": 32,
    "scalar": 8,
    "turbo4": 4,
    "binary+scalar": 1,
    "binary": 1,
}
"""Size of a dimension in memory, the finest mode first."""
MODES: tuple[QuantizationMode, ...] = get_args(QuantizationMode)


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
