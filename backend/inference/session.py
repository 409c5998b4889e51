"""One ONNX Runtime session and what it is fed with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

from backend.errors import ModelUnavailable
from backend.types import FloatArray

_SLOWER = ["SkipLayerNormFusion"]
"""ONNX Runtime 1.32's fused kernel took 228 us for 128 x 384 floats where an addition and a
normalization take 38."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Token ids of one input and where its second segment begins (`len(ids)`: it has none)."""

    ids: Sequence[int]
    second_from: int


class OnnxModel:
    """A transformer's ONNX graph, ours or an exporter's. Safe to call from several threads.

    The graph takes `input_ids` and may take `token_type_ids`, `attention_mask` and `position_ids`,
    each as 32- or 64-bit integers of shape (batch, tokens).

    Args:
        path: The `.onnx` file; larger weights may lie beside it and are then mapped into memory.
        threads: Threads within one call. One thread a call and several calls side by side is
            the fastest way through many inputs; more threads a call shorten a single one.

    Raises:
        ModelUnavailable: The file is missing, not a model that ONNX Runtime can load, or wants
            other inputs.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads may spin within a call but not between calls, where they would take the cores
        # from the other models.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.enable_cpu_mem_arena = False  # The arena keeps the largest batch's memory for ever.
        options.enable_mem_pattern = False
        try:
            self._session = ort.InferenceSession(
                path,
                sess_options=options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_SLOWER,
            )
        except Exception as exc:  # onnxruntime's errors share no base but Exception.
            raise ModelUnavailable(
                f"The model file {path} is missing or damaged ({type(exc).__name__}).",
                fix=f"Delete {path.parent} and start again: it is made anew.",
            ) from exc
        self._inputs = {node.name: _INTEGERS.get(node.type) for node in self._session.get_inputs()}
        if unknown := [
            name for name, kind in self._inputs.items() if name not in _FEEDS or not kind
        ]:
            raise ModelUnavailable(
                f"The model file {path} wants inputs that are not known: {', '.join(unknown)}.",
                fix="Choose a file that takes token ids, types, mask and positions only.",
            )
        outputs = [node.name for node in self._session.get_outputs()]
        self._output = next((name for name in _OUTPUTS if name in outputs), outputs[0])

    def run(self, row: TokenRow) -> FloatArray:
        """Run one input; shape (width,), or (tokens, width) if the graph does not pool.

        One at a time: on a CPU that is as fast as a batch, nothing is padded, and an int8 model,
        which scales its activations by all that it sees at once, gives the same row the same answer
        in any company.
        """
        feeds = {
            name: _FEEDS[name](row).astype(kind, copy=False)[None]
            for name, kind in self._inputs.items()
        }
        output: FloatArray = self._session.run([self._output], feeds)[0][0]
        return output


_INTEGERS = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
_FEEDS: Mapping[str, Callable[[TokenRow], npt.NDArray[Any]]] = {
    "input_ids": lambda row: np.array(row.ids, np.int64),
    "token_type_ids": lambda row: np.arange(len(row.ids)) >= row.second_from,
    "attention_mask": lambda row: np.ones(len(row.ids), np.int64),
    "position_ids": lambda row: np.arange(len(row.ids)),
}
_OUTPUTS = ("sentence_embedding", "last_hidden_state", "token_embeddings", "logits")
"""What exporters call them, the pooled one first; a graph with none of these has one output."""


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`, with padding and truncation off.

    Raises:
        ModelUnavailable: The file is missing or damaged.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # tokenizers raises bare Exception.
        raise ModelUnavailable(
            f"The tokenizer {path} is missing or damaged.", fix="Delete its folder and start again."
        ) from exc
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
