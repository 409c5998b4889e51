"""Who serves models over HTTP, and what each wants to be asked: data, not code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

RerankForm = Literal["documents", "texts"]
ScoreScale = Literal["probability", "logit"]
ProviderName = Literal[
    "together",
    "openai",
    "cohere",
    "jina",
    "ollama",
    "llamacpp",
    "vllm",
    "tei",
    "infinity",
    "custom",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A provider's address and habits; paths stand below the base URL."""

    label: str
    base_url: str
    """Where the provider usually is; empty when only the user knows."""
    embeddings_path: str = "/embeddings"
    rerank_path: str = "/rerank"
    """Empty when there is none."""
    chat_path: str = "/chat/completions"
    """Empty when there is none."""
    max_inputs: int = 128
    """Texts in one request. The default is ours, for providers that document no limit."""
    max_chars: int = 400_000
    """Characters of all texts of a request: about 130,000 tokens of code."""
    rerank_form: RerankForm = "documents"
    """`documents` asks as Cohere, Jina and their followers do, `texts` as TEI does."""
    rerank_scale: ScoreScale = "probability"
    """What a relevance score is."""
    needs_key: bool = False


PRESETS: Mapping[ProviderName, Preset] = MappingProxyType(
    {
        "together": Preset(
            label="Together AI", base_url="https://api.together.xyz/v1", needs_key=True
        ),
        "openai": Preset(
            label="OpenAI",
            base_url="https://api.openai.com/v1",
            rerank_path="",
            max_inputs=2048,  # And 300,000 tokens in all, which `max_chars` keeps to.
            needs_key=True,
        ),
        "cohere": Preset(
            label="Cohere",
            base_url="https://api.cohere.com/v2",
            embeddings_path="",
            chat_path="",
            max_inputs=1000,
            needs_key=True,
        ),
        "jina": Preset(
            label="Jina AI", base_url="https://api.jina.ai/v1", chat_path="", needs_key=True
        ),
        "ollama": Preset(label="Ollama", base_url="http://localhost:11434/v1", rerank_path=""),
        "llamacpp": Preset(
            label="llama.cpp",
            base_url="http://localhost:8080/v1",
            rerank_scale="logit",
        ),
        "vllm": Preset(label="vLLM", base_url="http://localhost:8000/v1"),
        "tei": Preset(
            label="Text Embeddings Inference",
            base_url="http://localhost:8080",
            embeddings_path="/v1/embeddings",
            chat_path="",
            max_inputs=32,  # Its --max-client-batch-size, unless raised.
            rerank_form="texts",
            rerank_scale="logit",  # It is asked for raw scores.
        ),
        "infinity": Preset(label="Infinity", base_url="http://localhost:7997", chat_path=""),
        "custom": Preset(label="Custom URL", base_url=""),
    }
)
