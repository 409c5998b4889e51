"""Two-stage search over code and documentation.

QUERY  text ─► embed ─► retrieve (dense + BM25, fused, in Qdrant) ─► rank ─► rerank ─► answer
INDEX  source ─► files ─► chunks ─► vectors + BM25 ─► Qdrant collection (quantized)

from backend import Workspace

with Workspace() as ws:
    ws.index("path/to/folder", collection="mine")
    response = ws.search("where are failed batches retried", collection="mine")
    response.hits[0].chunk.path, response.before, response.timings
"""

from backend.config import Settings, load_settings
from backend.errors import SearchError
from backend.types import (
    Chunk,
    CollectionInfo,
    Hit,
    IndexProgress,
    IndexReport,
    Preview,
    Query,
    Related,
    SearchResponse,
)
from backend.workspace import Workspace

__version__ = "0.1.0"

__all__ = [
    "Chunk",
    "CollectionInfo",
    "Hit",
    "IndexProgress",
    "IndexReport",
    "Preview",
    "Query",
    "Related",
    "SearchError",
    "SearchResponse",
    "Settings",
    "Workspace",
    "load_settings",
]
