"""Every setting, from environment variables `RANKSCOPE_…`. The only reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.errors import SearchError
from backend.models.catalogue import BUNDLED_EMBEDDER, BUNDLED_RERANKER, Precision
from backend.providers.presets import ProviderName
from backend.providers.serving import Serving
from backend.types import Quantization, QuantizationMode

DEFAULT_COLLECTION = "qdrant_ecosystem"


class InvalidSettings(SearchError):
    """An environment variable holds what its setting does not take."""


def _expanded(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser()


class Settings(BaseSettings):
    """What can be set, with its range and default."""

    model_config = SettingsConfigDict(
        env_prefix="RANKSCOPE_",
        env_ignore_empty=True,
        env_file=".env",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    data_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=lambda: user_data_path("rankscope"),
        description="Folder of models, downloads and collections.",
    )
    threads: int = Field(
        default_factory=lambda: min(_cores(), 8),
        ge=1,
        le=64,
        description="Cores that models may use.",
    )
    embedder: str = Field(
        default=BUNDLED_EMBEDDER,
        description="Embedding model, by its id in the catalogue.",
    )
    embedder_precision: Precision | None = Field(
        default=None,
        description="float32, int8, q8 or q4; unset takes what the catalogue says.",
    )
    models_file: Annotated[Path | None, AfterValidator(_expanded)] = Field(
        default=None, description="TOML file with model entries of your own."
    )
    embedder_provider: ProviderName | None = Field(
        default=None, description="Who serves the embedding model; unset runs it here."
    )
    embedder_url: str | None = Field(
        default=None, description="That provider's base URL, if it is not the usual one."
    )
    embedder_key: SecretStr | None = Field(default=None, description="The key for it.")
    embedder_served_as: str | None = Field(
        default=None, description="What it calls the model, if not by the id."
    )
    reranker: str = Field(
        default=BUNDLED_RERANKER,
        description="Reranker, by its id in the catalogue or by its provider's name for it.",
    )
    reranker_provider: ProviderName | None = Field(
        default=None, description="Who serves the reranker; unset runs it here."
    )
    reranker_url: str | None = Field(
        default=None, description="That provider's base URL, if it is not the usual one."
    )
    reranker_key: SecretStr | None = Field(default=None, description="The key for it.")
    reranker_served_as: str | None = Field(
        default=None, description="What it calls the reranker, if not by the id."
    )
    provider_timeout_s: float = Field(
        default=10,
        gt=0,
        le=600,
        description="Seconds that a provider may take for a query, retries included.",
    )
    provider_hosts: str | None = Field(
        default=None,
        description="Hosts, separated by commas, that the page's base URL may name although they"
        " are not public.",
    )
    hub_endpoint: str = Field(
        default="https://huggingface.co",
        pattern="^https?://",
        validation_alias=AliasChoices("RANKSCOPE_HUB_ENDPOINT", "HF_ENDPOINT"),
        description="Address of the model hub or a mirror of it.",
    )
    remote_code: bool = Field(
        default=False,
        description="Let code of a model's repository run while optimum converts the model.",
    )
    quantization: QuantizationMode = Field(
        default="turbo4", description="How new collections compress dense vectors."
    )
    rescore: bool = Field(
        default=True, description="Score the best codes again with the original vectors."
    )
    oversampling: float = Field(
        default=2.0, ge=1, le=20, description="Codes to rescore for each hit asked for."
    )
    rerank: bool = Field(default=True, description="Rerank unless a query says otherwise.")
    rerank_candidates: int = Field(
        default=30, ge=1, le=100, description="First-stage hits that the cross-encoder scores."
    )
    rerank_budget_ms: float = Field(
        default=300, ge=0, le=60_000, description="Milliseconds after which reranking stops."
    )
    qdrant_url: str | None = Field(
        default=None,
        description="Qdrant server that keeps collections; unset keeps them in the data folder.",
    )
    qdrant_key: SecretStr | None = Field(default=None, description="Its API key.")
    qdrant_grpc_port: int | None = Field(
        default=None, ge=1, le=65_535, description="Its gRPC port; unset asks over REST."
    )
    qdrant_timeout_s: int = Field(
        default=10, ge=1, le=600, description="Seconds that it may take for a request."
    )
    qdrant_shards: int | None = Field(
        default=None, ge=1, le=1_024, description="Shards of new collections; unset: its default."
    )
    qdrant_replicas: int | None = Field(
        default=None, ge=1, le=64, description="Copies of each shard; unset: its default."
    )
    host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("RANKSCOPE_HOST", "GRADIO_SERVER_NAME"),
        description="Address that the page listens on.",
    )
    port: int = Field(
        default=7860,
        ge=0,
        le=65_535,
        validation_alias=AliasChoices("RANKSCOPE_PORT", "GRADIO_SERVER_PORT"),
        description="Port of the page; 0 takes a free one.",
    )
    indexing: Literal["local", "on", "off"] = Field(
        default="local",
        description="Who may index from the page: browsers on this machine; all visitors, but not"
        " what lies on this machine; nobody.",
    )
    log_level: str = Field(
        default="INFO",
        pattern="^(TRACE|DEBUG|INFO|WARNING|ERROR)$",
        description="TRACE, DEBUG, INFO, WARNING or ERROR; queries are logged at DEBUG only.",
    )

    @property
    def embedder_serving(self) -> Serving | None:
        """Who serves the embedding model; None when it runs here."""
        if self.embedder_provider is None:
            return None
        return Serving(
            provider=self.embedder_provider,
            url=self.embedder_url or "",
            key=self.embedder_key,
            served_as=self.embedder_served_as or "",
        )

    @property
    def reranker_serving(self) -> Serving | None:
        """Who serves the reranker; None when it runs here."""
        if self.reranker_provider is None:
            return None
        return Serving(
            provider=self.reranker_provider,
            url=self.reranker_url or "",
            key=self.reranker_key,
            served_as=self.reranker_served_as or "",
        )

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """`provider_hosts`, one by one."""
        hosts = (self.provider_hosts or "").split(",")
        return tuple(host.strip() for host in hosts if host.strip())

    @property
    def quantized_search(self) -> Quantization:
        """The quantization of new collections."""
        return Quantization(
            mode=self.quantization, rescore=self.rescore, oversampling=self.oversampling
        )


def load_settings(**overrides: object) -> Settings:
    """Read the environment; keyword arguments win over it.

    Raises:
        InvalidSettings: A value is outside of what its setting takes.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as exc:
        first = exc.errors()[0]
        name = "RANKSCOPE_" + str(first["loc"][0]).upper().removeprefix("RANKSCOPE_")
        raise InvalidSettings(
            f"{name} is not valid: {first['msg']}.", fix="Correct or unset it."
        ) from exc


def child_environment(*, without: Sequence[str] = (), **changes: str) -> dict[str, str]:
    """This process's environment for a program that it starts, less some variables, with others."""
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return {**kept, **changes}


def _cores() -> int:
    """Cores that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
