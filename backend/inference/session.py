"""One ONNX Runtime session and what it is fed with."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

from backend.errors import ModelUnavailable
from backend.types import FloatArray

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Token ids of one input and where its second segment begins (`len(ids)`: it has none)."""

    ids: Sequence[int]
    second_from: int


class OnnxModel:
    """A model that maps token rows to rows of floats. Safe to call from several threads.

    Args:
        path: The `.onnx` file.
        threads: Threads within one call. One thread a call and several calls side by side is
            the fastest way through many inputs; more threads a call shorten a single one.

    Raises:
        ModelUnavailable: The file is missing or not a model that ONNX Runtime can load.
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
                path, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:  # onnxruntime's errors share no base but Exception.
            raise ModelUnavailable(
                f"The model file {path} is missing or damaged ({type(exc).__name__}).",
                fix=f"Delete {path.parent} and start again: it is made anew.",
            ) from exc

    def run(self, row: TokenRow) -> FloatArray:
        """Run one input; shape (width,).

        One at a time: on a CPU that is as fast as a batch, nothing is padded, and an int8 model,
        which scales its activations by all that it sees at once, gives the same row the same answer
        in any company.
        """
        ids: IntArray = np.array([row.ids], np.int32)
        types = np.zeros_like(ids)
        types[0, row.second_from :] = 1
        inputs = {"input_ids": ids, "token_type_ids": types, "attention_mask": np.ones_like(ids)}
        output: FloatArray = self._session.run(None, inputs)[0][0]
        return output

    def run_all(self, rows: Sequence[TokenRow], pool: Executor) -> FloatArray:
        """Run any number of inputs side by side in `pool`; shape (len(rows), width)."""
        # The longest first, so that the workers end together.
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
        outputs = np.stack(list(pool.map(self.run, [rows[i] for i in order])))
        result = np.empty_like(outputs)
        result[order] = outputs
        return result


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
