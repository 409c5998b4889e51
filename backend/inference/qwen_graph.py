"""Qwen2 decoders (nomic-embed-code) as embedders, from their weights, without torch.

Grouped-query attention, rotary positions, SwiGLU and RMS norms. It writes a layer at a time, so a
7-billion model is converted in a few GB of memory.

Source: Yang et al. 2024, arXiv:2407.10671; operators: onnxruntime `docs/ContribOperators.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from backend.inference.graph import MICROSOFT, GraphWriter

INPUTS = ("input_ids",)


@dataclass(frozen=True, slots=True, kw_only=True)
class QwenShape:
    """The numbers of a Qwen2 `config.json` that the graph depends on."""

    layers: int
    heads: int
    key_heads: int
    hidden: int
    inner: int
    theta: float
    rms_norm_eps: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> QwenShape:
        """Read a Hugging Face `config.json`.

        Raises:
            ValueError: An option is set that the graph does not know.
            KeyError: A number is missing.
        """
        wanted = {"model_type": "qwen2", "hidden_act": "silu", "use_sliding_window": False}
        for key, value in wanted.items():
            if config.get(key, value) != value:
                raise ValueError(f"{key} is {config[key]!r}; only {value!r} is supported")
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        kind = rope.get("rope_type") or rope.get("type") or "default"
        if kind != "default":
            raise ValueError(f"rope_type is {kind!r}; only 'default' is supported")
        heads = int(config["num_attention_heads"])
        return cls(
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            key_heads=int(config.get("num_key_value_heads") or heads),
            hidden=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
            theta=float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
            rms_norm_eps=float(config["rms_norm_eps"]),
        )


def write_qwen(graph: GraphWriter, shape: QwenShape, *, positions: int) -> None:
    """Write the graph of the decoder up to its last norm.

    Args:
        graph: Where to; its weights have the hub's names.
        shape: The numbers.
        positions: Longest input, in tokens.

    Raises:
        KeyError: A tensor is missing.
    """
    graph.rotations(positions, shape.hidden // shape.heads, shape.theta)
    length = graph.node("Shape", ["input_ids"], start=1, end=2)
    total = graph.node("Cast", [graph.node("Squeeze", [length])], to=TensorProto.INT32)
    one = graph.constant("one", np.array([1], np.int64))
    before = graph.node("Cast", [graph.node("Sub", [length, one])], to=TensorProto.INT32)
    hidden = graph.rows("embed_tokens.weight", INPUTS[0])
    for layer in range(shape.layers):
        hidden = _layer(graph, hidden, (before, total), f"layers.{layer}", shape)
    normed = _normalized(graph, hidden, "norm.weight", shape)
    graph.save(normed, width=shape.hidden, inputs=INPUTS)


def _layer(
    graph: GraphWriter, hidden: str, lengths: tuple[str, str], name: str, shape: QwenShape
) -> str:
    attention = f"{name}.self_attn"
    sizes = [shape.heads, shape.key_heads, shape.key_heads]
    widths = [size * (shape.hidden // shape.heads) for size in sizes]
    normed = _normalized(graph, hidden, f"{name}.input_layernorm.weight", shape)
    parts = [f"{attention}.{part}_proj" for part in ("q", "k", "v")]
    joined = graph.project(normed, *(f"{part}.weight" for part in parts))
    if graph.has(f"{parts[0]}.bias"):
        joined = graph.node("Add", [joined, graph.joined(*(f"{part}.bias" for part in parts))])
    cuts = graph.constant("qkv", np.array(widths, np.int64))
    query = graph.node("Split", [joined, cuts], outputs=3, axis=-1)
    attended = graph.node(
        "GroupQueryAttention",
        [query, f"{query}.1", f"{query}.2", "", "", *lengths, "cos", "sin"],
        outputs=3,  # Keys and values for a next token, which an embedder does not have.
        domain=MICROSOFT,
        num_heads=shape.heads,
        kv_num_heads=shape.key_heads,
        do_rotary=1,
    )
    hidden = graph.node("Add", [graph.project(attended, f"{attention}.o_proj.weight"), hidden])
    normed = _normalized(graph, hidden, f"{name}.post_attention_layernorm.weight", shape)
    gated = graph.swiglu(
        normed, f"{name}.mlp.gate_proj.weight", f"{name}.mlp.up_proj.weight", width=shape.inner
    )
    return graph.node("Add", [graph.project(gated, f"{name}.mlp.down_proj.weight"), hidden])


def _normalized(graph: GraphWriter, value: str, name: str, shape: QwenShape) -> str:
    return graph.node(
        "SimplifiedLayerNormalization",  # What ONNX Runtime calls RMSNorm.
        [value, graph.weight(name)],
        axis=-1,
        epsilon=shape.rms_norm_eps,
        stash_type=1,
    )
