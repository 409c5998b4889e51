"""Every setting, from environment variables `RANKSCOPE_…`. The only reader of the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from platformdirs import user_data_path
from pydantic import AfterValidator, AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.errors import SearchError
from backend.models.catalogue import BUNDLED_EMBEDDER, Precision
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
    log_level: str = Field(
        default="INFO",
        pattern="^(TRACE|DEBUG|INFO|WARNING|ERROR)$",
        description="TRACE, DEBUG, INFO, WARNING or ERROR; queries are logged at DEBUG only.",
    )

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


def _cores() -> int:
    """Cores that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
