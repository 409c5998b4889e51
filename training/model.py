"""The cross-encoder in torch: load, cut layers, score, train in bfloat16, save in float16."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification

from training.batches import padded

Pairs = Sequence[tuple[list[int], int]]


def load(folder: Path, *, layers: Sequence[int] | None = None) -> BertForSequenceClassification:
    """Load a cross-encoder, or an encoder that gets a fresh head.

    Dropout is off: a run sees every group about once, and on a CPU drawing the masks takes as long
    as the multiplications. Eager attention trains twice as fast as the fused kernel there.

    Args:
        folder: Hugging Face folder.
        layers: Layers to keep, in order; all when None.
    """
    config = BertConfig.from_pretrained(
        folder,
        num_labels=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForSequenceClassification.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager"
    )
    if layers is not None:
        kept = [model.bert.encoder.layer[number] for number in layers]
        model.bert.encoder.layer = torch.nn.ModuleList(kept)
        model.config.num_hidden_layers = len(kept)
    return model


def score(model: BertForSequenceClassification, pairs: Pairs, *, micro: int = 16) -> torch.Tensor:
    """Logits of the pairs in their order, shape (n,); length-sorted inside to save padding."""
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]))
    parts = []
    for start in range(0, len(order), micro):
        ids, types, mask = (
            t.to(model.device) for t in padded([pairs[i] for i in order[start : start + micro]])
        )
        parts.append(logits(model, ids, types, mask))
    inverse = torch.empty(len(order), dtype=torch.long)
    inverse[order] = torch.arange(len(order))
    return torch.cat(parts).float()[inverse.to(model.device)]


def logits(
    model: BertForSequenceClassification,
    ids: torch.Tensor,
    types: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Logits of a padded batch, shape (n,).

    The head reads the first token alone, so the last layer computes that token alone, as the
    exported graph does: a fifth less work for a model of four layers.
    """
    hidden = model.bert.embeddings(input_ids=ids, token_type_ids=types)
    ignored = (1 - mask[:, None, None, :]).to(hidden.dtype) * torch.finfo(hidden.dtype).min
    *layers, last = model.bert.encoder.layer
    for layer in layers:
        out = layer(hidden, attention_mask=ignored)
        hidden = out[0] if isinstance(out, tuple) else out
    first, own = hidden[:, :1], last.attention.self

    def heads(states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(2, (own.num_attention_heads, -1)).transpose(1, 2)

    query, key, value = heads(own.query(first)), heads(own.key(hidden)), heads(own.value(hidden))
    weights = query @ key.transpose(2, 3) / math.sqrt(own.attention_head_size) + ignored
    context = (weights.softmax(-1) @ value).transpose(1, 2).flatten(2)
    attended = last.attention.output(context, first)
    first = last.output(last.intermediate(attended), attended)
    pooled: torch.Tensor = model.classifier(model.bert.pooler(first))
    return pooled[:, 0]


class MasterAdamW:
    """AdamW over float32 copies of a bfloat16 model's weights: no step is lost to rounding.

    The embeddings stay as they came: a run sees too little of most words to better them, and its
    steps are a fifth faster.
    """

    def __init__(
        self, model: BertForSequenceClassification, *, rate: float, decay: float = 0.01
    ) -> None:
        self._exact = {name: p.detach().float().clone() for name, p in model.named_parameters()}
        model.bert.embeddings.requires_grad_(False)
        model.bfloat16()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._weights = list(trained.values())
        self._masters = [self._exact[name] for name in trained]
        flat = [m for m in self._masters if m.ndim < 2]
        deep = [m for m in self._masters if m.ndim >= 2]
        self._adam = torch.optim.AdamW(
            [{"params": deep, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}],
            lr=rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self._rate = rate

    def step(self, *, share: float, clip: float = 1.0) -> float:
        """Apply the gradients with `share` of the peak rate, and clear them.

        Returns:
            The gradient's norm before clipping.
        """
        for master, weight in zip(self._masters, self._weights, strict=True):
            if weight.grad is not None:
                master.grad = weight.grad.float()
                weight.grad = None
        norm = torch.nn.utils.clip_grad_norm_(self._masters, clip)
        for settings in self._adam.param_groups:
            settings["lr"] = self._rate * share
        self._adam.step()
        with torch.no_grad():
            for master, weight in zip(self._masters, self._weights, strict=True):
                weight.copy_(master)
                master.grad = None
        return float(norm)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights of the model in float32."""
        return self._exact


def save(
    folder: Path,
    model: BertForSequenceClassification,
    tensors: dict[str, torch.Tensor],
    tokenizer_from: Path,
) -> None:
    """Write config, float16 safetensors and tokenizer, the weights last and atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config.to_dict()
    config["dtype"] = "float16"
    BertConfig.from_dict(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (tokenizer_from / name).exists() and tokenizer_from.resolve() != folder.resolve():
            shutil.copyfile(tokenizer_from / name, folder / name)
    partial = folder / "model.safetensors.part"
    half = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    save_file(half, str(partial), metadata={"format": "pt"})
    partial.replace(folder / "model.safetensors")
