"""NomicBert (nomic-embed-text, CodeRankEmbed) from its weights, without torch or remote code.

BERT with rotary positions, SwiGLU and no biases in its projections.

Source: Nussbaum et al. 2024, arXiv:2402.01613; tensor names as in the hub's checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.inference.graph import MICROSOFT, GraphWriter

INPUTS = ("input_ids", "token_type_ids")


@dataclass(frozen=True, slots=True, kw_only=True)
class NomicShape:
    """The numbers of a NomicBert `config.json` that the graph depends on."""

    layers: int
    heads: int
    hidden: int
    inner: int
    theta: float
    layer_norm_eps: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NomicShape:
        """Read a `config.json`, with the names of the model's own code or of transformers.

        Raises:
            ValueError: An option is set that the graph does not know.
            KeyError: A number is missing.
        """
        wanted: dict[str, tuple[object, ...]] = {
            "model_type": ("nomic_bert",),
            "activation_function": ("swiglu",),
            "hidden_act": ("silu", "gelu"),  # transformers writes silu; others leave BERT's word.
            "prenorm": (False,),
            "parallel_block": (False,),
            "causal": (False,),
            "qkv_proj_bias": (False,),
            "mlp_fc1_bias": (False,),
            "mlp_fc2_bias": (False,),
            "rotary_emb_fraction": (1.0,),
            "rotary_emb_interleaved": (False,),
            "rotary_emb_scale_base": (None,),
            "num_experts": (0, None),
        }
        for key, values in wanted.items():
            if config.get(key, values[0]) not in values:
                raise ValueError(f"{key} is {config[key]!r}; only {values[0]!r} is supported")
        rope = config.get("rope_parameters") or {}
        if rope.get("rope_type", "default") != "default":
            raise ValueError(f"rope_type is {rope['rope_type']!r}; only 'default' is supported")

        def number(*names: str) -> Any:
            return next(config[name] for name in names if config.get(name) is not None)

        try:
            hidden = int(number("n_embd", "hidden_size"))
            theta = config.get("rotary_emb_base") or rope.get("rope_theta") or 1000.0
            return cls(
                layers=int(number("n_layer", "num_hidden_layers")),
                heads=int(number("n_head", "num_attention_heads")),
                hidden=hidden,
                inner=int(number("n_inner", "intermediate_size")),
                theta=float(theta),
                layer_norm_eps=float(number("layer_norm_epsilon", "layer_norm_eps")),
            )
        except StopIteration as exc:
            raise KeyError("a number of the shape is missing in config.json") from exc


def write_nomic(graph: GraphWriter, shape: NomicShape, *, positions: int) -> None:
    """Write the graph of the encoder.

    Args:
        graph: Where to; its weights have the hub's names.
        shape: The numbers.
        positions: Longest input, in tokens.

    Raises:
        KeyError: A tensor is missing.
    """
    graph.rotations(positions, shape.hidden // shape.heads, shape.theta)
    where = graph.node("Shape", ["input_ids"], start=1, end=2)
    zero = graph.constant("zero", np.array(0, np.int64))
    one = graph.constant("one", np.array(1, np.int64))
    order = graph.node("Range", [zero, graph.node("Squeeze", [where]), one])
    order = graph.node("Unsqueeze", [order, graph.constant("front", np.array([0], np.int64))])
    words = graph.rows("embeddings.word_embeddings.weight", INPUTS[0])
    kinds = graph.rows("embeddings.token_type_embeddings.weight", INPUTS[1])
    hidden = _normalized(graph, graph.node("Add", [words, kinds]), "emb_ln", shape)
    for layer in range(shape.layers):
        hidden = _layer(graph, hidden, order, f"encoder.layers.{layer}", shape)
    graph.save(hidden, width=shape.hidden, inputs=INPUTS)


def _layer(graph: GraphWriter, hidden: str, order: str, name: str, shape: NomicShape) -> str:
    split = graph.node("Split", [graph.project(hidden, f"{name}.attn.Wqkv.weight"),
                                 graph.constant("thirds", np.array([shape.hidden] * 3, np.int64))],
                       outputs=3, axis=-1)  # fmt: skip
    query, key = (
        graph.node(
            "RotaryEmbedding",
            [part, order, "cos", "sin"],
            domain=MICROSOFT,
            num_heads=shape.heads,
        )
        for part in (split, f"{split}.1")
    )
    attended = graph.node(
        "MultiHeadAttention", [query, key, f"{split}.2"], domain=MICROSOFT, num_heads=shape.heads
    )
    summed = graph.node("Add", [graph.project(attended, f"{name}.attn.out_proj.weight"), hidden])
    hidden = _normalized(graph, summed, f"{name}.norm1", shape)
    gated = graph.swiglu(
        hidden, f"{name}.mlp.fc12.weight", f"{name}.mlp.fc11.weight", width=shape.inner
    )
    summed = graph.node("Add", [graph.project(gated, f"{name}.mlp.fc2.weight"), hidden])
    return _normalized(graph, summed, f"{name}.norm2", shape)


def _normalized(graph: GraphWriter, value: str, name: str, shape: NomicShape) -> str:
    parts = [graph.weight(f"{name}.{part}") for part in ("weight", "bias")]
    return graph.node("LayerNormalization", [value, *parts], axis=-1, epsilon=shape.layer_norm_eps)
