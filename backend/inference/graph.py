"""Writes an ONNX file from weights, tensor by tensor, so that a model larger than memory fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from backend.types import FloatArray

OPSET, IR_VERSION = 17, 9  # Old enough for every ONNX Runtime of the last three years.
MICROSOFT = "com.microsoft"
INLINE_BYTES = 1024
"""Larger tensors lie beside the graph, in a file that ONNX Runtime maps into memory."""
_ALIGNMENT = 4096  # A page: only then can a tensor be mapped.

Storage = Literal["float32", "q8", "q4"]
BITS: Mapping[Storage, int] = {"q8": 8, "q4": 4}
BLOCK: Mapping[Storage, int] = {"q8": 128, "q4": 32}
"""Weights that share a scale. At 4 bits smaller blocks cost 6% of size and win a third of the
error; at 8 bits there is none to win."""


class GraphWriter:
    """Collects nodes, writes constants at once. Methods return the name of what they produce.

    Args:
        path: The `.onnx` file to write; its tensors go to `path.data` beside it.
        weights: Tensors by name, float32.
        storage: How the weights of projections are kept.
    """

    def __init__(
        self, path: Path, weights: Mapping[str, FloatArray], *, storage: Storage = "float32"
    ) -> None:
        self._path = path
        self._data_path = path.with_name(f"{path.name}.data")
        self._data = self._data_path.open("wb")
        self._weights = weights
        self._storage = storage
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(
        self, op: str, inputs: Sequence[str], *, outputs: int = 1, domain: str = "", **more: Any
    ) -> str:
        """Add a node; several outputs are `NAME`, `NAME.1`, …"""
        name = f"{op}_{len(self._nodes)}"
        names = [name, *(f"{name}.{i}" for i in range(1, outputs))]
        self._nodes.append(helper.make_node(op, inputs, names, domain=domain, **more))
        return name

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add a tensor, or find the one of that name."""
        if name not in self._constants:
            array = np.ascontiguousarray(array)
            if array.nbytes <= INLINE_BYTES:
                self._constants[name] = numpy_helper.from_array(array, name)
            else:
                self._constants[name] = self._outside(name, array)
        return name

    def weight(self, name: str) -> str:
        """Add a tensor of the model as it is."""
        return self.constant(name, self._weights[name])

    def joined(self, *names: str) -> str:
        """Add tensors of the model one after the other, as one."""
        return self.constant(
            f"{names[0]}.joined", np.concatenate([self._weights[name] for name in names])
        )

    def rows(self, name: str, indices: str) -> str:
        """Rows of a table of the model; beside quantized projections it is kept in float16."""
        table = self._weights[name]
        if self._storage == "float32":
            return self.node("Gather", [self.constant(name, table), indices])
        half = self.node("Gather", [self.constant(name, table.astype(np.float16)), indices])
        return self.node("Cast", [half], to=TensorProto.FLOAT)

    def has(self, name: str) -> bool:
        """Whether the model holds a tensor."""
        return name in self._weights

    def project(self, value: str, *names: str) -> str:
        """Multiply by weight matrices of shape (out, in), laid side by side.

        Args:
            value: Shape (batch, tokens, in).
            names: Tensors of the model; their outputs follow each other in the last axis.
        """
        if self._storage == "float32":
            # Stacked as they are and then turned: one copy instead of two.
            matrix = np.concatenate([self._weights[name] for name in names]).T
            return self.node("MatMul", [value, self.constant(f"{names[0]}.turned", matrix)])
        matrix = np.concatenate([self._weights[name] for name in names])
        rows, columns = matrix.shape
        bits, block = BITS[self._storage], BLOCK[self._storage]
        codes, scales = quantize_blocks(matrix, bits=bits, block=block)
        return self.node(
            "MatMulNBits",
            [
                value,
                self.constant(f"{names[0]}.codes", codes),
                self.constant(f"{names[0]}.scales", scales),
            ],
            domain=MICROSOFT,
            K=columns,
            N=rows,
            bits=bits,
            block_size=block,
            # Activations in 8 bits: on a CPU twice as fast as in float32.
            accuracy_level=4,
        )

    def swiglu(self, value: str, gate: str, up: str, *, width: int) -> str:
        """Two projections of `width` each, the one opened by the SiLU of the other."""
        both = self.project(value, gate, up)
        halves = self.constant("halves", np.array([width] * 2, np.int64))
        gates = self.node("Split", [both, halves], outputs=2, axis=-1)
        opened = self.node("QuickGelu", [gates], domain=MICROSOFT, alpha=1.0)  # x sigmoid(x): SiLU.
        return self.node("Mul", [opened, f"{gates}.1"])

    def rotations(self, positions: int, size: int, theta: float) -> None:
        """Add `cos` and `sin`, the tables of rotary positions, each (positions, size / 2).

        Source: Su et al. 2021, arXiv:2104.09864.
        """
        even = np.arange(0, size, 2, dtype=np.float32)
        frequencies = (1.0 / theta ** (even / np.float32(size))).astype(np.float32)
        angles = np.outer(np.arange(positions, dtype=np.float32), frequencies)
        self.constant("cos", np.cos(angles).astype(np.float32))
        self.constant("sin", np.sin(angles).astype(np.float32))

    def save(self, hidden: str, *, width: int, inputs: Sequence[str]) -> None:
        """Write the file, with `hidden` as its only output `last_hidden_state`."""
        self._data.close()
        tokens = [
            helper.make_tensor_value_info(n, TensorProto.INT64, [1, "tokens"]) for n in inputs
        ]
        self._nodes.append(helper.make_node("Identity", [hidden], ["last_hidden_state"]))
        output = helper.make_tensor_value_info(
            "last_hidden_state", TensorProto.FLOAT, [1, "tokens", width]
        )
        graph = helper.make_graph(
            self._nodes, "transformer", tokens, [output], list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        self._path.write_bytes(model.SerializeToString())

    def _outside(self, name: str, array: npt.NDArray[Any]) -> onnx.TensorProto:
        self._data.write(b"\0" * (-self._data.tell() % _ALIGNMENT))
        tensor = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        place = {
            "location": self._data_path.name,
            "offset": self._data.tell(),
            "length": array.nbytes,
        }
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._data.write(array.data)
        return tensor


def quantize_blocks(
    matrix: FloatArray, *, bits: int, block: int
) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """Weights as `MatMulNBits` keeps them: unsigned codes around the middle, a scale a block.

    Args:
        matrix: Shape (out, in).
        bits: 4 or 8; at 4 the first of two weights takes the low half of a byte.
        block: Neighbours along `in` that share a scale; `in` is filled up with zeros.

    Returns:
        Codes, shape (out, blocks, block * bits / 8), and scales, shape (out * blocks,).

    Source: onnxruntime `docs/ContribOperators.md`, MatMulNBits.
    """
    rows, columns = matrix.shape
    blocks = -(-columns // block)
    middle = 1 << (bits - 1)
    filled = np.pad(matrix, ((0, 0), (0, blocks * block - columns)))
    filled = filled.reshape(rows, blocks, block)
    # Of the weight that is largest by size, with its sign: the codes reach one further below.
    largest = np.take_along_axis(filled, np.abs(filled).argmax(axis=2)[..., None], axis=2)
    scales = (largest / -middle).astype(np.float32)
    codes = np.rint(filled / np.where(scales == 0, 1, scales)) + middle
    codes = np.clip(codes, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        codes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return codes, scales.reshape(-1)
