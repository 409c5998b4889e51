"""Repositories of small random models, in the layout of those on the hub, with their oracle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    NomicBertConfig,
    NomicBertModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
)

TEXTS = [
    "where is a failed request sent again",
    "def send(batch): return client.upsert(batch)",
    "größe 🎉 日本語",
    "x",
    "retry " * 40,
]
_NUMBERS: Mapping[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
DIMENSION = 64


def embedding_repository(
    folder: Path,
    kind: str,
    *,
    pooling: str,
    prompts: Mapping[str, str],
    shard_size: str = "5GB",
) -> SentenceTransformer:
    """Write a model as sentence-transformers publishes it; returns it, loaded from there."""
    tokenizer = _tokenizer(kind)
    torch.manual_seed(7)
    made = {"bert": _bert, "nomic_bert": _nomic, "qwen2": _qwen}[kind](len(tokenizer))
    plain = folder.with_name(f"{folder.name} plain")
    made.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    transformer = Transformer(str(plain), max_seq_length=128)
    whole = SentenceTransformer(
        modules=[transformer, Pooling(DIMENSION, pooling_mode=pooling), Normalize()],
        prompts=dict(prompts),
        device="cpu",
    )
    whole.save_pretrained(str(folder))
    made.save_pretrained(folder, max_shard_size=shard_size)
    if shard_size != "5GB":
        (folder / "model.safetensors").unlink(missing_ok=True)
    return SentenceTransformer(str(folder), device="cpu")


def cross_encoder_repository(folder: Path) -> tuple[BertForSequenceClassification, Any]:
    """Write a cross-encoder with one logit; returns it and its tokenizer."""
    tokenizer = _tokenizer("bert")
    torch.manual_seed(8)
    config = BertConfig(vocab_size=len(tokenizer), num_labels=1, **_NUMBERS)
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def _bert(words: int) -> torch.nn.Module:
    return BertModel(BertConfig(vocab_size=words, **_NUMBERS)).eval()


def _nomic(words: int) -> torch.nn.Module:
    return NomicBertModel(NomicBertConfig(vocab_size=words, **_NUMBERS)).eval()


def _qwen(words: int) -> torch.nn.Module:
    model = Qwen2Model(Qwen2Config(vocab_size=words, num_key_value_heads=2, **_NUMBERS)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)  # They begin as zeros, which hides mistakes.
    return model


def _tokenizer(kind: str) -> PreTrainedTokenizerFast:
    if kind == "qwen2":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"]
        )
        made.train_from_iterator(TEXTS, trainer)
        return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<|endoftext|>")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special)
    )
    ids = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    names = {f"{token[1:-1].lower()}_token": token for token in special}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)
