"""The catalogue: what must be known of a model to use it rightly. Adding one is an entry of data.

A wrong dimension is refused by the store, but a wrong pooling or prefix shows only as bad results:
tests compare every entry with sentence-transformers on a small model of the same layout.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from backend.errors import SearchError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUNDLED_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
BUNDLED_RERANKER = "rankscope/reranker"
CATALOGUE = Path(__file__).with_name("catalogue.toml")

Pooling = Literal["mean", "cls", "last"]
ModelKind = Literal["embedding", "cross-encoder", "listwise"]
Precision = Literal["float32", "int8", "q8", "q4"]
"""`int8` quantizes weights per channel and activations at run time; `q8` and `q4` keep 8- or 4-bit
blocks of weights with a scale each (MatMulNBits) and compute in float32."""

_PATH = r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$"
"""Below a repository: never absolute, never upwards."""


class InvalidCatalogue(SearchError):
    """A file of model entries cannot be used."""


class UnknownModel(SearchError):
    """No entry of the catalogue has that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A release on the package index that holds a model's files."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    requirement: str
    sha256: str
    folder: Annotated[str, Field(pattern=_PATH)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", max_length=96)]
    """Its name, and its repository on the model hub."""
    kind: ModelKind
    architecture: str
    """`model_type` of its `config.json`. For `bert`, `nomic_bert` and `qwen2` the ONNX graph is
    built here; others are exported by optimum in an environment of its own."""
    licence: str
    parameters: Annotated[int, Field(ge=1)]
    max_tokens: Annotated[int, Field(ge=8, le=1_000_000)]
    """The rest of a text is cut off."""
    title: str = ""
    revision: str = ""
    """Commit of the repository; empty takes the newest one and records it."""
    dimension: Annotated[int, Field(ge=0, le=65_536)] = 0
    pooling: Pooling = "mean"
    normalize: bool = True
    """Whether vectors have unit norm. Cosines do not see it, but whoever exchanges vectors does."""
    query_prefix: str = ""
    document_prefix: str = ""
    query_precision: Precision = "float32"
    document_precision: Precision = "float32"
    bm25_weight: Annotated[float, Field(ge=0, le=10)] = 0.018
    """Cosine per point of BM25 in the fused score: models spread their cosines differently."""
    wheel: Wheel | None = None
    bundled: str = ""
    """Folder below `assets/models`."""
    onnx: Mapping[str, Annotated[str, Field(pattern=_PATH)]] = field(default_factory=dict)
    """ONNX files of the repository by precision, `float32` or `int8`, or by precision and
    processor, `int8-avx512_vnni`, `int8-avx512`, `int8-avx2`, `int8-arm64`."""
    download_bytes: Annotated[int, Field(ge=0)] = 0
    memory_mb: Annotated[int, Field(ge=0)] = 0
    query_ms: Annotated[float, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.kind == "embedding" and not self.dimension:
            raise ValueError("an embedding model needs its dimension")

    @property
    def local(self) -> bool:
        """Whether it can run in this process; a listwise model is asked over the network."""
        return self.kind != "listwise"


class Catalogue:
    """All known models by id."""

    def __init__(self, cards: Mapping[str, ModelCard]) -> None:
        self._cards = dict(cards)

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        """In the order of the file."""
        return tuple(self._cards.values())

    def card(self, id: str, *, kind: ModelKind | None = None) -> ModelCard:
        """Look a model up.

        Raises:
            UnknownModel: There is none of that id, or it is of another kind.
        """
        card = self._cards.get(id)
        if card is None or (kind is not None and card.kind != kind):
            known = [c.id for c in self.cards if kind in (None, c.kind)]
            what = f"{id!r} is not in the catalogue of models."
            if card is not None:
                what = f"{id!r} is a {card.kind} model, not {kind}."
            raise UnknownModel(
                what,
                fix=f"Known: {', '.join(known)}. Others can be described in a TOML file named by"
                " RANKSCOPE_MODELS_FILE.",
            )
        return card


@lru_cache
def load_catalogue(extra: Path | None = None) -> Catalogue:
    """Read the catalogue that comes along, and the user's own entries, which win.

    Raises:
        InvalidCatalogue: The user's file is missing, not TOML, or an entry is not valid.
    """
    cards = _read(CATALOGUE)
    if extra is not None:
        cards |= _read(extra)
    return Catalogue(cards)


def _read(path: Path) -> dict[str, ModelCard]:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise InvalidCatalogue(
            f"The models file {path} cannot be read: {exc}.",
            fix="Correct it, or unset the setting.",
        ) from exc
    return {card.id: card for card in map(_card, _entries(data, path))}


def _entries(data: Mapping[str, Any], path: Path) -> list[Any]:
    entries = data.get("model", [])
    if not isinstance(entries, list) or set(data) - {"model"}:
        raise InvalidCatalogue(
            f"The models file {path} holds something else than [[model]] entries.",
            fix="Write each model as a table [[model]], as backend/models/catalogue.toml does.",
        )
    return entries


def _card(entry: object) -> ModelCard:
    try:
        return _ADAPTER.validate_python(entry)
    except ValidationError as exc:
        first = exc.errors()[0]
        name = entry.get("id", "without id") if isinstance(entry, dict) else "without id"
        where = ".".join(map(str, first["loc"]))
        raise InvalidCatalogue(
            f"The model entry {name} is not valid: {where} {first['msg']}.".replace("  ", " "),
            fix="Correct it; backend/models/catalogue.toml shows the fields.",
        ) from exc


_ADAPTER = TypeAdapter(ModelCard)
