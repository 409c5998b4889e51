"""Settings → the parts of a workspace. The one file that names concrete classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.catalog import Catalog
from backend.config import Settings
from backend.embedding import bm25
from backend.embedding.local import LocalEmbedder
from backend.embedding.probe import take_probe
from backend.embedding.protocol import Embedder
from backend.embedding.query import EmbedQuery
from backend.errors import ModelUnavailable
from backend.indexer import Indexer
from backend.ingestion.chunking import CHUNKER
from backend.models.catalogue import Catalogue, ModelCard, load_catalogue
from backend.models.prepare import ModelFolders, prepare
from backend.pipeline import SearchPipeline
from backend.ranking.fusion import LIST_DEPTH
from backend.reranking.cross_encoder import CrossEncoder, tokens_form
from backend.reranking.stage import Rerank, first_stage_order
from backend.store.edge import EdgeStore
from backend.store.protocol import ChunkStore
from backend.timing import Step
from backend.types import FloatArray, Fusion, IndexIdentity

ASSETS = Path(__file__).parent.parent / "assets"
DEFAULT_MANIFEST = ASSETS / "corpora" / "qdrant_ecosystem.toml"
RERANKER = ASSETS / "models" / "reranker"


@dataclass(frozen=True)
class EdgeStores:
    """Qdrant Edge with the configured quantization and fusion."""

    settings: Settings

    def create(self, folder: Path) -> ChunkStore:
        """Make an empty index."""
        return EdgeStore.create(
            folder,
            dimension=embedding_card(self.settings).dimension,
            quantization=self.settings.quantized_search,
            fusion=configured_fusion(self.settings),
        )

    def open(self, folder: Path) -> ChunkStore:
        """Open one that was made before."""
        return EdgeStore.open(
            folder,
            dimension=embedding_card(self.settings).dimension,
            quantization=self.settings.quantized_search,
            fusion=configured_fusion(self.settings),
        )


@dataclass(frozen=True)
class Models:
    """The two models of a search, loaded once."""

    embedder: Embedder
    reranker: CrossEncoder


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


def load_embedder(settings: Settings) -> Embedder:
    """Load the embedding model, making it ready if this is the first time.

    Raises:
        ModelUnavailable: Its files are missing, damaged, or cannot be fetched.
    """
    prepared = prepare(
        embedding_card(settings), model_folders(settings), precision=settings.embedder_precision
    )
    return LocalEmbedder(prepared, threads=settings.threads)


def load_models(settings: Settings) -> Models:
    """Load both models.

    Raises:
        ModelUnavailable: Weights are missing, damaged, or cannot be fetched.
    """
    return Models(
        embedder=load_embedder(settings),
        reranker=load_reranker(settings),
    )


def load_reranker(settings: Settings) -> CrossEncoder:
    """Load the reranker.

    Raises:
        ModelUnavailable: Its files are missing or damaged.
    """
    return CrossEncoder(RERANKER, threads=settings.threads)


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


def build_indexer(settings: Settings, models: Models, catalog: Catalog) -> Indexer:
    """The INDEX flow."""
    return Indexer(
        catalog=catalog,
        stores=EdgeStores(settings),
        embedder=models.embedder,
        tokenizer=models.reranker,
        identity=configured_identity(settings, models.embedder, probe=take_probe(models.embedder)),
    )


def build_pipeline(models: Models, store: ChunkStore, identity: IndexIdentity) -> SearchPipeline:
    """The QUERY flow over one open index."""
    return SearchPipeline(
        embed=EmbedQuery(models.embedder),
        retrieve=Step("retrieve", store.search),
        rerank=Rerank(models.reranker, tokens_stored=identity.tokens == tokens_form(RERANKER)),
        unreranked=first_stage_order,
        identity=identity,
    )
