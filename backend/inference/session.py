"""One ONNX Runtime session and the padding-free batches it is fed with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

from backend.errors import ModelUnavailable
from backend.types import FloatArray

BATCH_TOKENS = 512
"""Tokens a batch holds at most: small batches without padding beat large padded ones on a CPU."""

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

    def run(self, rows: Sequence[TokenRow]) -> FloatArray:
        """Run one batch, padded to its longest row; shape (len(rows), width)."""
        longest = max(len(row.ids) for row in rows)
        ids: IntArray = np.zeros((len(rows), longest), np.int32)
        types, mask = np.zeros_like(ids), np.zeros_like(ids)
        for i, row in enumerate(rows):
            size = len(row.ids)
            ids[i, :size] = row.ids
            types[i, row.second_from : size] = 1
            mask[i, :size] = 1
        inputs = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
        output: FloatArray = self._session.run(None, inputs)[0]
        return output

    def run_all(self, rows: Sequence[TokenRow], pool: Executor) -> FloatArray:
        """Run any number of rows, batches side by side in `pool`; the order of `rows` is kept."""
        batches = list(batches_by_length([len(row.ids) for row in rows]))
        outputs = pool.map(lambda batch: self.run([rows[i] for i in batch]), batches)
        order = np.concatenate([np.array(batch) for batch in batches])
        stacked = np.concatenate(list(outputs))
        result = np.empty_like(stacked)
        result[order] = stacked
        return result


def batches_by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group positions of similar length, longest first so that the pool ends evenly.

    Every batch holds at most `BATCH_TOKENS` tokens with padding, and at least one row.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


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
