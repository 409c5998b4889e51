"""What flows through a search and through indexing. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NewType, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
Kind = Literal["function", "method", "class", "module", "section", "text"]
ScoreUnit = Literal["logit", "rank"]
"""What a reranker's score is: the log-odds of relevance, or a place in an order of all candidates,
told as the normal score of that place."""
Phase = Literal["fetch", "read", "embed", "optimize", "done"]
QuantizationMode = Literal["none", "scalar", "binary", "binary+scalar", "turbo4"]
ConfidenceLabel = Literal["high", "medium", "low", "none", "unknown"]
ChunkId = NewType("ChunkId", str)
"""A UUID derived from what a chunk is, never from when or where on disk it was indexed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A span of one file: the unit that is embedded, ranked and shown."""

    id: ChunkId
    source: str
    """Where the file came from, such as `pypi:qdrant-client==1.20.0` or `dir:/home/me/project`."""
    path: str
    """Relative to the root of the source, with forward slashes."""
    start_line: int
    end_line: int
    """First and last line, 1-based and inclusive."""
    language: str
    symbol: str
    """Where the lines stand: dotted symbol path (`Client.upsert`), heading path (`Install > GPU`),
    or empty for file-level code and plain text. Several small definitions that share a chunk are
    joined by `, `; every part of a long one has its name."""
    kind: Kind
    text: str
    """The exact source lines."""
    package: str
    """The distribution or folder name that filters use, such as `qdrant-client`."""
    defines: str = ""
    """Dotted paths of the names whose definitions begin in these lines, in their order,
    parted by blanks: functions, types, constants; not `impl`, `extension` or uses of a name."""
    plain: str | None = None
    """What the lines say, where that is not what stands in them: of HTML and notebooks."""

    @property
    def body(self) -> str:
        """What is searched: the text, without the markup of HTML and notebooks."""
        return self.text if self.plain is None else self.plain

    @property
    def passage(self) -> str:
        """What the models read: path and symbol first, then the body."""
        return f"{self.path} {self.symbol}".rstrip() + "\n" + self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Limits a search to chunks whose fields match; an empty field does not limit."""

    packages: Sequence[str] = ()
    languages: Sequence[str] = ()
    kinds: Sequence[str] = ()
    sources: Sequence[str] = ()
    path_prefix: str = ""
    paths: Sequence[str] = ()
    """Patterns as in `.gitignore`, such as `src/**/*.py`; `!tests/` leaves out."""
    ids: Sequence[ChunkId] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One search, validated by `backend.query.make_query`."""

    text: str
    collection: str
    top_k: int
    filters: Filters
    rerank: bool
    candidates: int
    """First-stage hits that the reranker may score."""
    budget_ms: float
    """Milliseconds after which reranking stops."""
    min_confidence: ConfidenceLabel | None = None
    """The least confidence with which hits are given; None gives them always."""
    read_as: str = ""
    """The text with misspelled names corrected; empty when nothing was."""

    @property
    def sought(self) -> str:
        """What is searched for."""
        return self.read_as or self.text


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Non-zero terms of a BM25 vector; `indices` are distinct term hashes."""

    indices: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How dense vectors are compressed, and how a search makes up for it."""

    mode: QuantizationMode
    """`scalar` keeps a byte a dimension, `turbo4` half a byte, `binary` a bit. In `binary+scalar`
    the stored codes are bits and the query keeps a byte a dimension."""
    rescore: bool
    """Score the best codes again with the original vectors."""
    oversampling: float
    """Codes to rescore for each hit asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """How the engine makes one score of two: cosine + `bm25_weight` x BM25.

    A chunk that only one list holds gets 0 for the other score, so the lists must be deep.

    Source: convex combination beats reciprocal ranks, Bruch et al. 2023, doi:10.1145/3596512.
    """

    bm25_weight: float
    """Cosine per point of BM25; 0 leaves BM25 without a say."""
    depth: int
    """Hits that each list gives to the fusion."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Located:
    """A query as vectors: what the store is asked."""

    dense: FloatArray | None
    """Unit norm, shape (dimension,); None searches by words alone."""
    sparse: SparseVector
    filters: Filters
    limit: int
    text: str = ""
    """What the vectors say; the files that it names are retrieved as well."""
    degraded: str = ""
    """Why there is no dense vector; empty when there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredChunk:
    """A chunk and the score of the stage that ranked it: higher is better, comparable within it."""

    chunk: Chunk
    score: float
    tokens: bytes = b""
    """The passage as the reranker's tokenizer wrote it when it was indexed; may be empty."""
    fused_rank: int = 0
    """1-based place in the order of retrieval; 0 before that is known."""
    signals: Mapping[str, float] = field(default_factory=dict)
    """What each ranking signal added to the fused score; those that added nothing are left out."""
    held_back: float = 0.0
    """What some of them add once more beside a reranker's score."""

    @property
    def fused_score(self) -> float:
        """The score that retrieval gave: dense + BM25."""
        return self.score - sum(self.signals.values())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entries:
    """Some chunks of an index with all that is stored with them; each field holds n of its kind."""

    chunks: Sequence[Chunk]
    dense: FloatArray
    """Unit norm, shape (n, dimension)."""
    sparse: Sequence[SparseVector]
    tokens: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A candidate with its place before and after reranking."""

    chunk: Chunk
    score: float
    """The score of the list that this hit stands in: higher is better."""
    rank: int
    """1-based place in the final order."""
    first_rank: int
    """1-based place in the first stage's order."""
    first_score: float
    """The first stage's score: the fused score and what the signals added to it."""
    fused_rank: int
    """1-based place in the order of retrieval, before the signals."""
    fused_score: float
    """What retrieval gave: dense + BM25."""
    signals: Mapping[str, float]
    """What each ranking signal added; those that added nothing are left out."""
    held_back: float
    """What some of them add once more where the reranker gave a score."""
    rerank_score: float | None
    """The reranker's score, in its own unit; None when this candidate was not scored."""
    url: str = ""
    """Its lines at their origin, at the revision that was indexed; empty where there are none."""

    @property
    def moved(self) -> int:
        """Places gained by reranking: positive is up."""
        return self.first_rank - self.rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The hits of a stage, best first, with the query that they are to answer."""

    query: Query
    found: Sequence[ScoredChunk]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScores:
    """What a reranker says of a query's candidates."""

    scores: Sequence[float | None]
    """One a candidate, higher is more relevant; None where time ran out."""
    unit: ScoreUnit = "logit"
    remembered: int = 0
    """How many were known from an earlier search and took no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranked:
    """All candidates in their final order."""

    hits: tuple[Hit, ...]
    scored: int
    remembered: int
    note: str
    """Why fewer were scored than asked for; empty when all were."""
    unit: ScoreUnit = "logit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """A hit, and further hits of the same file that stand below it."""

    hit: Hit
    also: tuple[Hit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """Whether the best hits answer the query."""

    label: ConfidenceLabel
    """`none`: nothing in the collection seems to; `unknown`: there is no measure for this model."""
    cosine: float | None
    """The highest of the best hits; None when the query was not embedded."""
    coverage: float
    """The largest share of the query's words that one of the best hits holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResponse:
    """The answer, and what every stage did to reach it."""

    query: Query
    hits: tuple[Hit, ...]
    """Best first, at most `query.top_k`."""
    candidates: tuple[Hit, ...]
    """All that stage one handed to stage two, in stage one's order."""
    timings: Mapping[str, float]
    """Stage name to milliseconds, in the order of the stages; `total` comes last."""
    reranked: int
    """How many candidates the cross-encoder scored."""
    remembered: int
    """How many of these were known from an earlier search."""
    rerank_note: str
    """Why fewer candidates were scored than asked for; empty when all were."""
    rerank_unit: ScoreUnit = "logit"
    """What the reranker's scores are."""
    index: IndexIdentity
    confidence: Confidence
    withheld: int = 0
    """Hits that were not given, for the query asked for more confidence."""
    degraded: str = ""
    """Why the hits were found by words (BM25) alone; empty when the embedding model took part."""
    pending: bool = False
    """True for first-stage hits that are shown while the reranker still works."""

    @property
    def folded(self) -> tuple[Folded, ...]:
        """The hits by file: each file at its best hit's place, its further hits under that."""
        files: dict[tuple[str, str], list[Hit]] = {}
        for hit in self.hits:
            files.setdefault((hit.chunk.source, hit.chunk.path), []).append(hit)
        return tuple(Folded(hit=first, also=tuple(also)) for first, *also in files.values())

    @property
    def before(self) -> tuple[Hit, ...]:
        """The same hits in first-stage order, each with its first-stage score."""
        ordered = sorted(self.hits, key=lambda hit: hit.first_rank)
        return tuple(replace(hit, score=hit.first_score) for hit in ordered)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexIdentity:
    """What an index was made with. Queries are refused when it differs from what is configured."""

    model: str
    """The embedding model's id; the same whether it runs here or behind an endpoint."""
    dimension: int
    pooling: str
    query_prefix: str
    document_prefix: str
    document_precision: str
    sparse: str
    """Name and version of the BM25 tokenizer and its constants."""
    tokens: str
    """Form of the reranker's tokens that lie with the chunks."""
    chunker: str
    quantization: str
    revision: str = ""
    """Commit or release of the embedding model's weights; empty where nobody tells."""
    probe: str = field(default="", compare=False, repr=False)
    """The vector of a fixed text when the index was made, as `backend.embedding.probe` packs it.
    Not compared with `==`: two runs of one model differ in the last digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSpace:
    """Whose the vectors are that arrive with chunks; fields as in `IndexIdentity`."""

    model: str
    revision: str
    dimension: int
    pooling: str
    query_prefix: str
    document_prefix: str
    precision: str
    """What they were computed in."""
    probe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexProgress:
    """Where an indexing run stands; the same numbers for page, CLI and API."""

    phase: Phase
    files: int = 0
    chunks: int = 0
    chunks_total: int = 0
    """0 while files are still being read."""
    chunks_per_second: float = 0.0
    seconds_left: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSummary:
    """What one source gave to a collection."""

    source: str
    files: int
    chunks: int
    note: str = ""
    """Set when the source is not the one that was asked for, or gave less."""
    revision: str = ""
    """The commit that was indexed; empty where there is none."""
    link: str = ""
    """A URL with `{path}`, `{start}` and `{end}` in it; empty where nothing can be linked to."""
    unlinked: Sequence[str] = ()
    """Paths of files that are not what the link's target holds."""
    asked: str = ""
    """What opens it again, be it a later version or the one that could not be had; empty where
    its own name does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionInfo:
    """A collection that can be searched."""

    name: str
    description: str
    chunks: int
    files: int
    sources: tuple[SourceSummary, ...]
    skipped: Mapping[str, int]
    """Reason to number of files left out."""
    identity: IndexIdentity
    built_at: str
    """ISO 8601, UTC."""

    @property
    def specs(self) -> tuple[str, ...]:
        """What it is made of, to be opened again."""
        return tuple(summary.asked or summary.source for summary in self.sources)

    @property
    def folders(self) -> tuple[str, ...]:
        """Those of its sources whose files can be watched."""
        return tuple(spec for spec in self.specs if spec.startswith("dir:"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What indexing would do."""

    collection: str
    """What the collection would be called."""
    sources: tuple[SourceSummary, ...]
    files: int
    chunks: int
    languages: Mapping[str, int]
    """Language to number of files that have chunks in it, most first."""
    skipped: Mapping[str, int]
    """Reason to number of files left out, most first."""
    examples: Mapping[str, Sequence[str]]
    """Reason to the first paths that are left out for it."""
    chunks_per_second: float
    """How fast chunks are embedded here, measured on some of these; 0 without any."""
    seconds: float
    """How long embedding would take if nothing of it had been done before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """What an indexing run did."""

    info: CollectionInfo
    embedded: int
    """Chunks embedded in this run."""
    reused: int
    """Chunks whose vectors were taken from the index before or from an interrupted run, or that
    arrived with them."""
    seconds: float
    changed: bool
    """False when nothing had changed and the index was left as it was."""
    added: int = 0
    altered: int = 0
    removed: int = 0
    """Files that are new, hold something else, or are gone; of an index made anew all are new."""

    @property
    def summary(self) -> str:
        """What the run did, in a few words: the same for page and command line."""
        if not self.changed:
            return "no change"
        counts = ((self.added, "new"), (self.altered, "changed"), (self.removed, "removed"))
        files = ", ".join(f"{count:,} {what}" for count, what in counts if count) or "no change"
        return f"files: {files}; chunks: {self.embedded:,} embedded, {self.reused:,} reused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """Chunks that resemble the one at a place."""

    place: Chunk
    hits: tuple[ScoredChunk, ...]
    """Most similar first; the score is the cosine of both vectors."""
