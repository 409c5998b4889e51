"""Settings → the parts of a workspace. The one file that names concrete classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict, cast

from backend.catalog import Catalog
from backend.config import Settings
from backend.embedding import bm25
from backend.embedding.endpoint import EmbeddingEndpoint
from backend.embedding.local import LocalEmbedder
from backend.embedding.measure import measure
from backend.embedding.probe import take_probe
from backend.embedding.protocol import Embedder
from backend.embedding.query import EmbedQuery
from backend.errors import ModelUnavailable, RequestRefused, SearchError
from backend.indexer import Indexer, Stores
from backend.ingestion.chunking import CHUNKER
from backend.links import Links
from backend.models.catalogue import (
    BUNDLED_EMBEDDER,
    BUNDLED_RERANKER,
    Catalogue,
    ModelCard,
    Precision,
    UnknownModel,
    load_catalogue,
)
from backend.models.export import Optimum
from backend.models.hub import Hub
from backend.models.prepare import ModelFolders, Prepared, prepare
from backend.pipeline import SearchPipeline
from backend.providers.client import ProviderClient
from backend.providers.presets import Preset
from backend.providers.serving import Serving
from backend.ranking.confidence import Assess
from backend.ranking.fusion import LIST_DEPTH
from backend.ranking.retrieve import Retrieve
from backend.ranking.spelling import ReadNames
from backend.ranking.stage import RANKED, Rank
from backend.reranking.cross_encoder import CrossEncoder, tokens_form
from backend.reranking.endpoint import RerankEndpoint
from backend.reranking.listwise import ListwiseEndpoint
from backend.reranking.stage import PairScorer, Rerank, first_stage_order
from backend.server_catalog import ServerCatalog, made_with, server_name
from backend.store.connection import QdrantServer
from backend.store.edge import EdgeStore
from backend.store.protocol import ChunkStore
from backend.store.server import ServerStore
from backend.types import (
    Filters,
    FloatArray,
    Fusion,
    IndexIdentity,
    Located,
    PairScores,
    Quantization,
    QuantizationMode,
    ScoredChunk,
    SparseVector,
    VectorSpace,
)

ASSETS = Path(__file__).parent.parent / "assets"
DEFAULT_MANIFEST = ASSETS / "corpora" / "qdrant_ecosystem.toml"
RERANKER = ASSETS / "models" / "reranker"
AUTOMATIC_BYTES = 2_000_000_000
"""Larger models are fetched by `python -m backend models prepare` alone, never by a start."""
LABELS = ASSETS / "labels"
"""Labelled sets that ship, each named for its collection."""


class _Form(TypedDict):
    dimension: int
    quantization: Quantization
    fusion: Fusion


@dataclass(frozen=True)
class EdgeStores:
    """Qdrant Edge in the folders of a catalog, with the configured quantization and fusion."""

    settings: Settings
    catalog: Catalog

    def create(self, name: str, generation: str, identity: IndexIdentity) -> ChunkStore:
        """Make an empty index for a generation of a collection."""
        folder = self.catalog.index_folder(name, generation)
        return EdgeStore.create(folder, **_form(self.settings, identity))

    def open(self, name: str, generation: str, identity: IndexIdentity) -> ChunkStore:
        """Open one that was made before."""
        folder = self.catalog.index_folder(name, generation)
        return EdgeStore.open(folder, **_form(self.settings, identity))


@dataclass(frozen=True)
class ServerStores:
    """Collections of a Qdrant server, likewise."""

    settings: Settings
    server: QdrantServer

    def create(self, name: str, generation: str, identity: IndexIdentity) -> ChunkStore:
        """Make an empty index for a generation of a collection."""
        return ServerStore.create(
            self.server,
            server_name(name, generation),
            metadata=made_with(name, generation, identity),
            shards=self.settings.qdrant_shards,
            replicas=self.settings.qdrant_replicas,
            **_form(self.settings, identity),
        )

    def open(self, name: str, generation: str, identity: IndexIdentity) -> ChunkStore:
        """Open one that was made before."""
        return ServerStore.open(
            self.server, server_name(name, generation), **_form(self.settings, identity)
        )


def _form(settings: Settings, identity: IndexIdentity) -> _Form:
    """What an index of that identity is searched with."""
    return {
        "dimension": identity.dimension,
        "quantization": Quantization(
            mode=cast(QuantizationMode, identity.quantization),
            rescore=settings.rescore,
            oversampling=settings.oversampling,
        ),
        "fusion": fusion_of(settings, identity.model),
    }


def build_storage(settings: Settings) -> tuple[Catalog, Stores]:
    """Where collections are: in the data folder, or on a Qdrant server. Nothing is asked yet.

    Raises:
        StoreRefused: The server's address or key cannot be one.
    """
    folder = settings.data_dir / "collections"
    if settings.qdrant_url is None:
        catalog = Catalog(folder)
        return catalog, EdgeStores(settings, catalog)
    server = QdrantServer(
        settings.qdrant_url,
        key=settings.qdrant_key,
        grpc_port=settings.qdrant_grpc_port,
        timeout_s=settings.qdrant_timeout_s,
    )
    known_as = hashlib.blake2b(server.url.encode(), digest_size=6).hexdigest()
    ledgers = settings.data_dir / "servers" / known_as
    return ServerCatalog(server, ledgers), ServerStores(settings, server)


def scratch_store(settings: Settings, folder: Path) -> ChunkStore:
    """An empty index in a folder of its own, which belongs to no collection."""
    return EdgeStore.create(
        folder,
        dimension=embedding_card(settings).dimension,
        quantization=settings.quantized_search,
        fusion=configured_fusion(settings),
    )


@dataclass(frozen=True)
class Models:
    """The models of a search, loaded once."""

    embedder: Embedder
    reranker: CrossEncoder
    """The bundled one: its tokens are stored with the chunks, whoever scores."""
    scorer: PairScorer
    """Who reranks: the bundled one, or a provider."""
    agreed: dict[str, IndexIdentity] = field(default_factory=dict)
    """By collection, the index whose probe the embedder was found to agree with."""

    def close(self) -> None:
        """Close connections and stop threads."""
        self.reranker.close()
        if isinstance(self.scorer, CrossEncoder):
            self.scorer.close()
        self.disconnect()

    def disconnect(self) -> None:
        """Close connections to providers; models that run here stay."""
        for part in (self.embedder, self.scorer):
            if isinstance(part, (EmbeddingEndpoint, RerankEndpoint, ListwiseEndpoint)):
                part.close()


@dataclass(frozen=True)
class UnavailableEmbedder:
    """Stands for a model that could not be loaded: each time it is asked, it says why."""

    card: ModelCard
    reason: ModelUnavailable
    revision: str = ""
    query_precision: str = ""
    document_precision: str = ""

    def embed_query(self, text: str) -> FloatArray:
        """Raise the reason."""
        raise self.reason

    def embed_documents(self, texts: Sequence[str]) -> FloatArray:
        """Raise the reason."""
        raise self.reason

    def release(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class UnavailableScorer:
    """Stands for a reranker that could not be set up: each time it is asked, it says why."""

    reason: SearchError

    def score(
        self, query: str, candidates: Sequence[ScoredChunk], *, budget_ms: float
    ) -> PairScores:
        """Raise the reason."""
        raise self.reason


def configured_catalogue(settings: Settings) -> Catalogue:
    """The models that can be named.

    Raises:
        InvalidCatalogue: The user's own entries are not valid.
    """
    return load_catalogue(settings.models_file)


def embedding_card(settings: Settings) -> ModelCard:
    """The configured embedding model.

    Raises:
        UnknownModel: The catalogue has none of that id.
    """
    return configured_catalogue(settings).card(settings.embedder, kind="embedding")


def model_folders(settings: Settings) -> ModelFolders:
    """Where the configured data folder keeps models."""
    return ModelFolders(
        models=settings.data_dir / "models", downloads=settings.data_dir / "downloads"
    )


def configured_fusion(settings: Settings) -> Fusion:
    """How the configured embedding model's cosines and BM25 are added up."""
    return Fusion(bm25_weight=embedding_card(settings).bm25_weight, depth=LIST_DEPTH)


def fusion_of(settings: Settings, model: str) -> Fusion:
    """The same for any model; one that the catalogue has lost is added up as the configured one."""
    cards = {card.id: card for card in configured_catalogue(settings).cards}
    if model not in cards:
        return configured_fusion(settings)
    return Fusion(bm25_weight=cards[model].bm25_weight, depth=LIST_DEPTH)


def load_embedder(settings: Settings) -> Embedder:
    """Load the embedding model, making it ready if this is the first time.

    Raises:
        ModelUnavailable: Its files are missing, damaged, or cannot be fetched, or its provider's
            address or key cannot be used.
    """
    card = embedding_card(settings)
    if settings.embedder_serving is not None:
        return remote_embedder(card, settings.embedder_serving, settings)
    prepared = ready_model(card, settings, precision=settings.embedder_precision)
    return local_embedder(prepared, settings)


def ready_model(
    card: ModelCard, settings: Settings, *, precision: Precision | None = None
) -> Prepared:
    """A model's files, fetched and converted if that is a matter of minutes.

    Raises:
        ModelUnavailable: They cannot be had, or only by a command, which the fix names.
    """
    small = card.download_bytes <= AUTOMATIC_BYTES
    hub = Hub(settings.hub_endpoint) if small else None
    return prepare(card, model_folders(settings), precision=precision, hub=hub)


def configured_export(settings: Settings) -> Optimum:
    """Conversion by optimum, with its environment beside the models."""
    return Optimum(settings.data_dir / "environments", remote_code=settings.remote_code)


def local_embedder(prepared: Prepared, settings: Settings) -> LocalEmbedder:
    """Load an embedding model; the first time, measure and note how long a query takes.

    Raises:
        ModelUnavailable: A file is damaged, or the model does not fit into the free memory.
    """
    embedder = LocalEmbedder(prepared, threads=settings.threads)
    if prepared.measured is None:
        prepared.note(measure(embedder, threads=settings.threads))
    return embedder


def load_models(settings: Settings) -> Models:
    """Load both models.

    Raises:
        ModelUnavailable: Weights are missing, damaged, or cannot be fetched.
    """
    embedder, reranker = load_embedder(settings), load_reranker(settings)
    return Models(embedder=embedder, reranker=reranker, scorer=load_scorer(settings, reranker))


def load_reranker(settings: Settings) -> CrossEncoder:
    """Load the reranker.

    Raises:
        ModelUnavailable: Its files are missing or damaged.
    """
    return CrossEncoder(RERANKER, threads=settings.threads)


def load_cross_encoder(card: ModelCard, settings: Settings) -> CrossEncoder:
    """Load any cross-encoder of the catalogue.

    Raises:
        ModelUnavailable: Its files cannot be had, or it is no cross-encoder.
    """
    if card.kind != "cross-encoder":
        raise ModelUnavailable(
            f"{card.id} is a {card.kind} model: as a reranker it does not run here.",
            fix="Name who serves it in RANKSCOPE_RERANKER_PROVIDER, or unset RANKSCOPE_RERANKER.",
        )
    if card.bundled:
        return CrossEncoder(ASSETS / "models" / card.bundled, threads=settings.threads)
    return CrossEncoder(ready_model(card, settings).folder, threads=settings.threads)


def load_scorer(settings: Settings, bundled: CrossEncoder) -> PairScorer:
    """Who reranks as configured; one that cannot be set up says why whenever it is asked."""
    try:
        if settings.reranker_serving is not None:
            return remote_scorer(settings.reranker, settings.reranker_serving, settings)
        if settings.reranker == BUNDLED_RERANKER:
            return bundled
        return load_cross_encoder(configured_catalogue(settings).card(settings.reranker), settings)
    except (ModelUnavailable, UnknownModel) as exc:
        return UnavailableScorer(exc)


def remote_embedder(card: ModelCard, serving: Serving, settings: Settings) -> EmbeddingEndpoint:
    """An embedding model behind HTTP. Nothing is asked yet.

    Raises:
        ProviderError: The provider's address or key cannot be used, or it does not embed.
    """
    preset = serving.preset
    return EmbeddingEndpoint(
        _client(serving, settings),
        path=_path(preset, preset.embeddings_path, "embed"),
        card=card,
        served_as=serving.served_as or card.id,
        max_inputs=preset.max_inputs,
        max_chars=preset.max_chars,
    )


def remote_scorer(
    reranker: str, serving: Serving, settings: Settings
) -> RerankEndpoint | ListwiseEndpoint:
    """A reranker behind HTTP: one that orders lists if the catalogue says so, else one that scores.

    Raises:
        ProviderError: The provider's address or key cannot be used, or it does not rerank so.
    """
    preset, name = serving.preset, serving.served_as or reranker
    cards = {card.id: card for card in configured_catalogue(settings).cards}
    if reranker in cards and cards[reranker].kind == "listwise":
        path = _path(preset, preset.chat_path, "chat")
        return ListwiseEndpoint(_client(serving, settings), path=path, model=name)
    return RerankEndpoint(
        _client(serving, settings),
        path=_path(preset, preset.rerank_path, "rerank"),
        model=name,
        form=preset.rerank_form,
        scale=preset.rerank_scale,
        max_inputs=preset.max_inputs,
    )


def _client(serving: Serving, settings: Settings) -> ProviderClient:
    return ProviderClient(
        serving.url or serving.preset.base_url,
        label=serving.preset.label if serving.preset.base_url else "",
        key=serving.key,
        timeout_s=settings.provider_timeout_s,
        restricted=serving.restricted,
        allowed=settings.allowed_hosts,
    )


def _path(preset: Preset, path: str, task: str) -> str:
    if not path:
        raise RequestRefused(
            f"{preset.label} does not {task}.", fix="Choose another provider for it."
        )
    return path


def configured_identity(
    settings: Settings, embedder: Embedder, *, probe: str = ""
) -> IndexIdentity:
    """What a collection indexed now by this embedder would be made with."""
    card = embedder.card
    return IndexIdentity(
        model=card.id,
        revision=embedder.revision,
        dimension=card.dimension,
        pooling=card.pooling,
        query_prefix=card.query_prefix,
        document_prefix=card.document_prefix,
        document_precision=embedder.document_precision,
        sparse=bm25.SPARSE,
        tokens=tokens_form(RERANKER),
        chunker=CHUNKER,
        quantization=settings.quantization,
        probe=probe,
    )


def build_indexer(
    settings: Settings,
    models: Models,
    catalog: Catalog,
    stores: Stores,
    *,
    arriving: VectorSpace | None = None,
) -> Indexer:
    """The INDEX flow.

    Args:
        settings, models, catalog, stores: What it is made of.
        arriving: Set when all chunks arrive with their vectors: an embedder that cannot be had is
            not needed then, and the index is as good as made by the one that embedded them.

    Raises:
        ModelUnavailable: The embedding model cannot answer now.
    """
    identity = configured_identity(settings, models.embedder)
    try:
        identity = replace(identity, probe=take_probe(models.embedder))
    except ModelUnavailable:
        if arriving is None:
            raise
        identity = replace(
            identity,
            revision=arriving.revision,
            document_precision=arriving.precision,
            probe=arriving.probe,
        )
    return Indexer(
        catalog=catalog,
        stores=stores,
        embedder=models.embedder,
        tokenizer=models.reranker,
        identity=identity,
    )


def _reads(scorer: PairScorer, tokens: str) -> bool:
    """Whether tokens of that form are what a scorer's own tokenizer would write."""
    return not isinstance(scorer, CrossEncoder) or scorer.tokens_form == tokens


def build_pipeline(
    models: Models,
    store: ChunkStore,
    identity: IndexIdentity,
    *,
    links: Links | None = None,
    without_signals: Iterable[str] = (),
) -> SearchPipeline:
    """The QUERY flow over one open index.

    Args:
        models: Embed the query and rerank.
        store: The index.
        identity: What the index was made with.
        links: Where hits can be looked at.
        without_signals: Names of ranking signals to leave out (`ranking.stage.SIGNAL_NAMES`).
    """

    def holds(word: str) -> bool:
        """Whether a word stands anywhere in the collection."""
        term = bm25.stem(word)
        if term is None:
            return True
        sparse = SparseVector([term], [1.0])
        return bool(store.search(Located(dense=None, sparse=sparse, filters=Filters(), limit=1)))

    return SearchPipeline(
        read=ReadNames(holds=holds, symbols=lambda: store.distinct("symbol")),
        embed=EmbedQuery(models.embedder, limit=RANKED),
        retrieve=Retrieve(search=store.search, paths=lambda: store.distinct("path"), at=store.at),
        rank=Rank(bm25.stem).without(without_signals),
        assess=Assess(
            stems=bm25.stems, vectors=store.vectors, calibrated=identity.model == BUNDLED_EMBEDDER
        ),
        rerank=Rerank(models.scorer, tokens_stored=_reads(models.scorer, identity.tokens)),
        unreranked=first_stage_order,
        identity=identity,
        links=links or Links(),
    )
