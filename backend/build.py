"""Settings → the parts of a workspace. The one file that names concrete classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backend.catalog import Catalog
from backend.config import Settings
from backend.embedding import bm25, minilm
from backend.embedding.query import EmbedQuery
from backend.indexer import Indexer
from backend.ingestion.chunking import CHUNKER
from backend.pipeline import SearchPipeline
from backend.ranking.fusion import FUSION
from backend.reranking.cross_encoder import CrossEncoder, tokens_form
from backend.reranking.stage import Rerank, first_stage_order
from backend.store.edge import EdgeStore
from backend.store.protocol import ChunkStore
from backend.timing import Step
from backend.types import IndexIdentity

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
            dimension=minilm.DIMENSION,
            quantization=self.settings.quantized_search,
            fusion=FUSION,
        )

    def open(self, folder: Path) -> ChunkStore:
        """Open one that was made before."""
        return EdgeStore.open(
            folder,
            dimension=minilm.DIMENSION,
            quantization=self.settings.quantized_search,
            fusion=FUSION,
        )


@dataclass(frozen=True)
class Models:
    """The two models of a search, loaded once."""

    embedder: minilm.MiniLM
    reranker: CrossEncoder


def load_models(settings: Settings) -> Models:
    """Load both models, making the embedding model's ONNX files if this is the first time.

    Raises:
        ModelUnavailable: Weights are missing, damaged, or cannot be fetched.
    """
    folder = minilm.prepare(settings.data_dir / "models", settings.data_dir / "downloads")
    return Models(
        embedder=minilm.MiniLM(folder, threads=settings.threads),
        reranker=CrossEncoder(RERANKER, threads=settings.threads),
    )


def configured_identity(settings: Settings) -> IndexIdentity:
    """What a collection indexed now would be made with."""
    return IndexIdentity(
        model=minilm.MODEL,
        dimension=minilm.DIMENSION,
        pooling=minilm.POOLING,
        query_prefix="",
        document_prefix="",
        document_precision=minilm.DOCUMENT_PRECISION,
        sparse=bm25.SPARSE,
        tokens=tokens_form(RERANKER),
        chunker=CHUNKER,
        quantization=settings.quantization,
    )


def build_indexer(settings: Settings, models: Models, catalog: Catalog) -> Indexer:
    """The INDEX flow."""
    return Indexer(
        catalog=catalog,
        stores=EdgeStores(settings),
        embedder=models.embedder,
        tokenizer=models.reranker,
        identity=configured_identity(settings),
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
