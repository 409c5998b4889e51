"""BERT weights to an ONNX model, without torch.

The graph is written for ONNX Runtime's CPU kernels: with its own operators (`com.microsoft`) where
they are fast, without a mask, for inputs run one at a time are never padded, and without
`SkipLayerNormalization`, which takes six times as long as an addition and a normalization.
Exporters would bring torch onto every machine that serves; for the one architecture of the bundled
models this page is smaller than that.

Source: Devlin et al. 2019, arXiv:1810.04805; operators: onnxruntime `docs/ContribOperators.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Head = Literal["hidden", "logit"]
INPUTS = ("input_ids", "token_type_ids")
_OPSET, _IR_VERSION = 17, 9  # Old enough for every ONNX Runtime of the last three years.


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """The numbers of a BERT `config.json` that the graph depends on."""

    layers: int
    heads: int
    hidden: int
    layer_norm_eps: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BertShape:
        """Read a Hugging Face `config.json`.

        Raises:
            ValueError: The model is not a BERT with GELU and absolute positions.
        """
        wanted = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
        for key, value in wanted.items():
            if config.get(key, value) != value:
                raise ValueError(f"{key} is {config[key]!r}; only {value!r} is supported")
        return cls(
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            hidden=int(config["hidden_size"]),
            layer_norm_eps=float(config["layer_norm_eps"]),
        )


def bert_model(
    weights: Mapping[str, np.ndarray[Any, Any]], shape: BertShape, *, head: Head
) -> onnx.ModelProto:
    """Build the ONNX model of a BERT encoder.

    Args:
        weights: Tensors under their Hugging Face names, with or without the `bert.` prefix.
        shape: Layers, heads and width.
        head: `hidden` gives the last hidden state, shape (batch, tokens, hidden);
            `logit` gives the classifier's logit over the pooled first token, shape (batch, 1).

    Raises:
        KeyError: A tensor that the architecture needs is missing.
    """
    graph = _Graph(weights)
    hidden = graph.embeddings(shape)
    for layer in range(shape.layers - 1):
        hidden = graph.layer(hidden, layer, shape)
    if head == "hidden":
        return graph.model(graph.layer(hidden, shape.layers - 1, shape), ["tokens", shape.hidden])
    last = graph.first_token_layer(hidden, shape.layers - 1, shape)
    return graph.model(graph.logit(last), [1])


def quantize(source: Path, target: Path) -> None:
    """Write an int8 copy: weights per output channel, activations at run time, embeddings per row.

    The embedding table is half of a small model; a row and its own scale keep it to a quarter.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    _quantize_embedding_rows(model)
    quantize_dynamic(
        model,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Attention"],
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )


class _Graph:
    """Collects nodes and initializers. Methods return the name of the tensor they produce."""

    def __init__(self, weights: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._weights = {name.removeprefix("bert."): array for name, array in weights.items()}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def embeddings(self, shape: BertShape) -> str:
        words = self._node("Gather", [self._weight("embeddings.word_embeddings.weight"), INPUTS[0]])
        kinds = self._node(
            "Gather", [self._weight("embeddings.token_type_embeddings.weight"), INPUTS[1]]
        )
        length = self._node("Shape", [INPUTS[0]], start=1, end=2)
        zero = self._constant("zero", np.array([0], np.int64))
        table = self._weight("embeddings.position_embeddings.weight")
        positions = self._node("Slice", [table, zero, length])
        summed = self._node("Add", [self._node("Add", [words, kinds]), positions])
        return self._normalized(summed, "embeddings.LayerNorm", shape)

    def layer(self, hidden: str, layer: int, shape: BertShape) -> str:
        prefix = f"encoder.layer.{layer}."
        parts = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
        attended = self._node(
            "Attention",
            [
                hidden,
                self._constant(
                    f"{prefix}qkv", np.hstack([self._array(f"{p}.weight").T for p in parts])
                ),
                self._constant(
                    f"{prefix}qkv_bias", np.hstack([self._array(f"{p}.bias") for p in parts])
                ),
            ],
            domain="com.microsoft",
            num_heads=shape.heads,
        )
        return self._feed_forward(attended, hidden, prefix, shape)

    def first_token_layer(self, hidden: str, layer: int, shape: BertShape) -> str:
        """A layer's output for the first token alone, shape (batch, 1, hidden).

        Nothing is projected for the other tokens: q (W x) is (q W) x, so each head's query is
        taken through the key weights, and the value weights come after the weighted sum. A key's
        bias adds the same to every token, which softmax does not see. The heads are rows of one
        matrix, each with zeros where the others' columns are.
        """
        prefix = f"encoder.layer.{layer}."
        query, key, value = (f"{prefix}attention.self.{part}" for part in ("query", "key", "value"))
        size = shape.hidden // shape.heads
        own = np.kron(np.eye(shape.heads), np.ones(size)).astype(np.float32)
        first = self._node(
            "Gather", [hidden, self._constant("first", np.array([0], np.int64))], axis=1
        )
        asked = self._dense(first, query)
        heads = self._node(
            "Mul", [asked, self._constant(f"{prefix}scaled_heads", own / np.float32(size**0.5))]
        )
        heads = self._node("MatMul", [heads, self._weight(f"{key}.weight")])
        scores = self._node("FusedMatMul", [heads, hidden], domain="com.microsoft", transB=1)
        share = self._node("Softmax", [scores], axis=-1)
        seen = self._node("MatMul", [share, hidden])
        seen = self._node("MatMul", [seen, self._transposed(f"{value}.weight")])
        seen = self._node("Mul", [seen, self._constant(f"{prefix}heads", own)])
        axis = self._constant("axis_1", np.array([1], np.int64))
        attended = self._node("ReduceSum", [seen, axis], keepdims=1)
        attended = self._node("Add", [attended, self._weight(f"{value}.bias")])
        return self._feed_forward(attended, first, prefix, shape)

    def _feed_forward(self, attended: str, hidden: str, prefix: str, shape: BertShape) -> str:
        hidden = self._dense_add_norm(attended, hidden, f"{prefix}attention.output", shape)
        widened = self._dense(hidden, f"{prefix}intermediate.dense")
        active = self._node("Gelu", [widened], domain="com.microsoft")
        return self._dense_add_norm(active, hidden, f"{prefix}output", shape)

    def logit(self, hidden: str) -> str:
        first = self._node("Squeeze", [hidden, self._constant("tokens", np.array([1], np.int64))])
        pooled = self._node("Tanh", [self._linear(first, "pooler.dense")])
        return self._linear(pooled, "classifier")

    def model(self, last: str, width: list[str | int]) -> onnx.ModelProto:
        self._node("Identity", [last], output="output")
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "tokens"])
            for name in INPUTS
        ]
        output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", *width])
        graph = helper.make_graph(self._nodes, "bert", inputs, [output], self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def _dense_add_norm(self, value: str, skip: str, prefix: str, shape: BertShape) -> str:
        summed = self._node("Add", [self._dense(value, f"{prefix}.dense"), skip])
        return self._normalized(summed, f"{prefix}.LayerNorm", shape)

    def _dense(self, value: str, prefix: str) -> str:
        projected = self._node("MatMul", [value, self._transposed(f"{prefix}.weight")])
        return self._node("Add", [projected, self._weight(f"{prefix}.bias")])

    def _normalized(self, value: str, prefix: str, shape: BertShape) -> str:
        parts = [self._weight(f"{prefix}.{part}") for part in ("weight", "bias")]
        return self._node(
            "LayerNormalization", [value, *parts], axis=-1, epsilon=shape.layer_norm_eps
        )

    def _linear(self, value: str, prefix: str) -> str:
        parts = [self._weight(f"{prefix}.{part}") for part in ("weight", "bias")]
        return self._node("Gemm", [value, *parts], transB=1)

    def _node(
        self, op: str, inputs: list[str], *, output: str = "", domain: str = "", **attributes: Any
    ) -> str:
        output = output or f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def _array(self, name: str) -> np.ndarray[Any, Any]:
        return self._weights[name].astype(np.float32)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._array(name))

    def _transposed(self, name: str) -> str:
        return self._constant(name, self._array(name).T)

    def _constant(self, name: str, array: np.ndarray[Any, Any]) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name


def _quantize_embedding_rows(model: onnx.ModelProto) -> None:
    """Replace the word table by int8 rows and a float16 scale a row, gathered and multiplied."""
    table_name = "embeddings.word_embeddings.weight"
    constants = model.graph.initializer
    table = next((tensor for tensor in constants if tensor.name == table_name), None)
    if table is None:  # Another library's graph: its table stays as it is.
        return
    rows = numpy_helper.to_array(table)
    scales = (np.abs(rows).max(axis=1, keepdims=True) / 127).astype(np.float16)
    scales[scales == 0] = np.float16(1)
    codes = np.clip(np.rint(rows / scales.astype(np.float32)), -127, 127).astype(np.int8)
    constants.remove(table)
    constants.append(numpy_helper.from_array(codes, table_name))
    constants.append(numpy_helper.from_array(scales, "embeddings.scales"))
    at = next(i for i, node in enumerate(model.graph.node) if table_name in node.input)
    words = model.graph.node[at].output[0]
    model.graph.node[at].output[0] = "word_codes"
    for step, node in enumerate(
        (
            helper.make_node("Cast", ["word_codes"], ["word_floats"], to=TensorProto.FLOAT),
            helper.make_node("Gather", ["embeddings.scales", INPUTS[0]], ["word_scales16"]),
            helper.make_node("Cast", ["word_scales16"], ["word_scales"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["word_floats", "word_scales"], [words]),
        ),
        start=1,
    ):
        model.graph.node.insert(at + step, node)
