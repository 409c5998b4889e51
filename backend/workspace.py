"""A data folder with its models and collections: what page, MCP, CLI and Python code share."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from loguru import logger

from backend.bench import Bench
from backend.build import (
    DEFAULT_MANIFEST,
    LABELS,
    Models,
    build_indexer,
    build_pipeline,
    build_storage,
    configured_catalogue,
    configured_identity,
    remote_embedder,
    remote_scorer,
)
from backend.catalog import Record
from backend.config import DEFAULT_COLLECTION, Settings, load_settings
from backend.data_folder import DataFolder
from backend.embedding.probe import check_space, take_probe
from backend.errors import (
    IndexDamaged,
    IndexingBusy,
    InvalidLabels,
    InvalidSource,
    ModelUnavailable,
    SearchError,
    UnknownCollection,
    WorkspaceClosed,
)
from backend.evaluation.experiment import EvaluationProgress, evaluate
from backend.evaluation.experiment import OnProgress as OnEvaluation
from backend.evaluation.labels import read_labels, unpacked
from backend.evaluation.report import Evaluation
from backend.export import export_chunks
from backend.following import Following
from backend.ingestion.collection import (
    Manifest,
    Opened,
    collection_name,
    is_manifest,
    open_sources,
)
from backend.ingestion.sources.archive import is_archive
from backend.ingestion.sources.parse import SCHEMES, split_spec
from backend.ingestion.sources.vectors import Vectors
from backend.links import Links
from backend.loading import LoadedModels
from backend.pipeline import SearchPipeline
from backend.preview import preview
from backend.providers.serving import Serving
from backend.query import check_place, make_query, values
from backend.ranking.place import find_place
from backend.reading import OnProgress
from backend.store.protocol import ChunkStore
from backend.types import (
    CollectionInfo,
    Filters,
    IndexIdentity,
    IndexProgress,
    IndexReport,
    Located,
    Preview,
    Query,
    Related,
    SearchResponse,
    SparseVector,
)

_LOOK_S = 0.25
CLOSE_WAIT_S = 10.0
"""How long closing waits for a step of indexing: much longer than one takes, but for a fetch."""


class Workspace:
    """Indexes and searches the collections of one data folder. Safe to call from many threads.

    Args:
        data_dir: The folder; None takes it from the settings.
        settings: All settings; None reads the environment.

    Raises:
        DataFolderUnusable: The folder cannot be created or written.
        DataFolderBusy: Another process, or another Workspace, holds it.
    """

    def __init__(
        self, data_dir: str | Path | None = None, *, settings: Settings | None = None
    ) -> None:
        settings = settings or load_settings()
        if data_dir is not None:
            settings = settings.model_copy(update={"data_dir": Path(data_dir).expanduser()})
        self.settings = settings
        self._catalog, self._storage = build_storage(settings)
        self._folder = DataFolder(settings.data_dir)
        self._stores: dict[str, tuple[ChunkStore, Record]] = {}
        self._links: dict[str, Links] = {}
        self._loading = threading.RLock()
        self._models = LoadedModels(settings, self._loading)
        self._indexing: dict[str, int] = {}
        """Collection to the thread that indexes it."""
        self._indexed = threading.Condition(self._loading)
        self._closing = False

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all collections and let other processes have the folder.

        Runs of indexing end at their next step; the next one goes on from there.
        """
        with self._loading:
            self._closing = True
            mine = threading.get_ident()
            self._indexed.wait_for(lambda: not {*self._indexing.values()} - {mine}, CLOSE_WAIT_S)
            for store, _ in self._stores.values():
                store.close()
            self._stores.clear()
            self._models.close()
            self._catalog.close()
            self._folder.release()

    def announce(self, url: str) -> None:
        """Leave word for other processes where this one can be reached."""
        self._folder.announce(url)

    def load(self) -> Models:
        """Load the models now rather than with the first query.

        Raises:
            ModelUnavailable: Weights are missing, damaged, or cannot be fetched.
        """
        with self._loading:
            self._check_open()
            return self._models.load()

    def index(
        self,
        source: str | Path | Sequence[str | Path] | None = None,
        *,
        collection: str | None = None,
        description: str = "",
        on_progress: OnProgress = lambda progress: None,
    ) -> IndexReport:
        """Index sources, or bring their index up to date; queries are answered meanwhile.

        Args:
            source: One or several of what `parse_source` takes, such as a folder or
                `git:https://host/repository@main`; or the path of a TOML manifest that names
                them. None takes what the collection is made of; without one it is the default.
            collection: What to call it; None takes the manifest's or the first source's name.
            description: A sentence for people and agents who choose a collection; empty keeps the
                one it has.
            on_progress: Called some times a second with where the run stands.

        Raises:
            InvalidSource: The source does not exist or holds no searchable text.
            SourceUnavailable: A package cannot be fetched.
            IndexingBusy: The collection is being indexed already.
            ModelUnavailable: The embedding model cannot be had.
        """
        if collection is not None:
            self._catalog.check_name(collection)
        manifest = self._manifest(source, collection, description)
        if manifest.name:
            return self._index(manifest, on_progress)
        sources = self._open_sources(manifest.sources, on_progress)
        name = collection_name(sources[0].source)
        return self._index(replace(manifest, name=name), on_progress, sources)

    def watch(
        self,
        source: str | Path | Sequence[str | Path] | None = None,
        *,
        collection: str | None = None,
        description: str = "",
        on_progress: OnProgress = lambda progress: None,
        on_failure: Callable[[SearchError], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[IndexReport]:
        """Index sources, and again whenever files in the folders among them have changed.

        What `.gitignore` and `.rankscopeignore` leave out is not watched. While somebody else
        indexes the collection it waits. A run that fails is tried again with the next change, or
        half a minute later.

        Args:
            source, collection, description, on_progress: As `index` takes them.
            on_failure: Called with why a run failed. None raises what fails before anything was
                indexed, and logs the rest.
            stop: Ends the watching when it is set.

        Raises:
            InvalidSource: There is no folder among the sources, or it cannot be watched.
            SearchError: The first run fails, as `index` does.

        Yields:
            What the first run did, each later one that changed something, and the first that
            succeeds after others have failed.
        """
        stop = stop or threading.Event()
        manifest = self._manifest(source, collection, description)
        begun = False

        def ended() -> bool:
            return self._closing or stop.is_set()

        def open_sources() -> list[Opened]:
            nonlocal manifest
            manifest = self._manifest(source, collection, description)
            sources = self._open_sources(manifest.sources, on_progress)
            if not manifest.name:
                manifest = replace(manifest, name=collection_name(sources[0].source))
            return sources

        def outdated() -> bool:
            held = self._stores.get(manifest.name) if source is None else None
            return held is not None and held[1].info.specs != manifest.sources

        def failed(error: SearchError) -> None:
            if on_failure is not None:
                on_failure(error)
            elif not begun:
                raise error
            else:
                logger.warning("{name} could not be updated: {why}", name=manifest.name, why=error)

        for report in Following(
            open_sources=open_sources,
            update=lambda sources: self._index(manifest, on_progress, sources, give_up=ended),
            ended=ended,
            outdated=outdated,
            failed=failed,
        ):
            begun = True
            yield report

    def keep_fresh(self, collection: str, *, on: bool = True) -> None:
        """Note that a collection is to be watched by whoever serves this data folder, or not.

        Raises:
            UnknownCollection: The collection has not been indexed.
            InvalidSource: There is no folder among its sources.
            DataFolderUnusable: There is no room for the note.
        """
        if on and not self._catalog.record(collection).info.folders:
            raise InvalidSource(
                f"There is no folder among the sources of {collection}.", fix="Update it by hand."
            )
        self._catalog.keep_fresh(collection, on=on)

    def kept_fresh(self) -> list[str]:
        """The collections of which that was noted."""
        return [name for name in self._catalog.names() if self._catalog.is_kept_fresh(name)]

    def preview(
        self,
        source: str | Path | Sequence[str | Path] | None = None,
        *,
        collection: str | None = None,
        on_progress: OnProgress = lambda progress: None,
    ) -> Preview:
        """What `index` would read, leave out and take, with the same arguments.

        Packages and repositories are fetched; nothing is indexed.

        Raises:
            InvalidSource: The source does not exist.
            SourceUnavailable: A package or repository cannot be fetched.
            ModelUnavailable: The embedding model cannot be had.
        """
        manifest = self._manifest(source, collection, "")
        sources = self._open_sources(manifest.sources, on_progress)
        name = manifest.name or collection_name(sources[0].source)
        self._catalog.check_name(name)
        return preview(
            sources, collection=name, embedder=self.load().embedder, on_progress=on_progress
        )

    def export(
        self,
        path: str | Path,
        source: str | Path | Sequence[str | Path] | None = None,
        *,
        collection: str | None = None,
        on_progress: OnProgress = lambda progress: None,
    ) -> int:
        """Write down the chunks that `index` would embed, for `scripts/embed_corpus.py`.

        Args:
            path: The file to write, a line of JSON for each chunk.
            source, collection: As `index` takes them.
            on_progress: Called with every file that is read.

        Returns:
            The number of chunks.

        Raises:
            InvalidSource: The source does not exist or holds no searchable text.
            SourceUnavailable: A package or repository cannot be fetched.
            UnknownCollection: The collection has not been indexed.
            SearchError: The file cannot be written.
        """
        manifest = self._manifest(source, collection, "")
        sources = self._open_sources(manifest.sources, on_progress)
        path = Path(path).expanduser().absolute()
        catalogue = configured_catalogue(self.settings)
        return export_chunks(sources, path, catalogue=catalogue, on_progress=on_progress)

    def keep_archive(self, path: Path, name: str) -> str:
        """Keep an archive that was uploaded, so that its collection can be updated from it.

        Args:
            path: Where it lies now.
            name: What its owner calls it; one of that name from before is replaced.

        Returns:
            Its source, for `index`.

        Raises:
            InvalidSource: The name is not an archive's.
            DataFolderUnusable: There is no room for it.
        """
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(name).name).strip("-._")
        if not is_archive(Path(name)):
            raise InvalidSource(
                "That is not an archive by its name.", fix="Choose a .zip, .tar or .tar.gz file."
            )
        target = self._folder.keep(path, name)
        return f"{'zip' if name.endswith(('.zip', '.whl')) else 'tar'}:{target}"

    def reads_host(self, source: str) -> bool:
        """Whether a source, as a user names it, is a path of this machine that nobody uploaded."""
        scheme, rest = split_spec(source)
        if scheme == "git":
            return rest.startswith("file:")
        return SCHEMES[scheme].local and not self._folder.is_upload(Path(rest))

    def search(
        self,
        text: str,
        *,
        collection: str | None = None,
        top_k: int = 10,
        packages: str | Sequence[str] | None = None,
        languages: str | Sequence[str] | None = None,
        kinds: str | Sequence[str] | None = None,
        sources: str | Sequence[str] | None = None,
        path_prefix: str = "",
        paths: str | Sequence[str] | None = None,
        rerank: bool | None = None,
        candidates: int | None = None,
        budget_ms: float | None = None,
        min_confidence: str | None = None,
    ) -> SearchResponse:
        """Search a collection.

        Args:
            text: What to find, in words or identifiers.
            collection: Where; None is the default collection.
            top_k: Hits to return, 1 to 100.
            packages, languages, kinds, sources: Keep only chunks with one of these values.
            path_prefix: Keep only chunks whose path begins with this.
            paths: Keep only chunks of files that match, as in `.gitignore`: `src/**/*.py`; with
                `!tests/` files are left out.
            rerank: Whether the cross-encoder orders the candidates; None is the setting.
            candidates: First-stage hits that it scores, 1 to 100; None is the setting.
            budget_ms: Milliseconds after which it stops; None is the setting.
            min_confidence: `low`, `medium` or `high`: an answer of less confidence has no hits.

        Raises:
            InvalidQuery: The text is blank, too long or not Unicode, or an option is out of range.
            UnknownCollection: The collection has not been indexed.
            IdentityMismatch: It was indexed with another model than is configured, or that model
                gives other vectors now.
        """
        filters = Filters(
            packages=values(packages),
            languages=values(languages),
            kinds=values(kinds),
            sources=values(sources),
            path_prefix=path_prefix.strip(),
            paths=values(paths),
        )
        query = make_query(
            text,
            collection=collection or DEFAULT_COLLECTION,
            settings=self.settings,
            top_k=top_k,
            filters=filters,
            rerank=rerank,
            candidates=candidates,
            budget_ms=budget_ms,
            min_confidence=min_confidence,
        )
        *_, response = self.stream(query)
        return response

    def connect(
        self,
        collection: str,
        *,
        embedder: Serving | None = None,
        reranker: str = "",
        reranking: Serving | None = None,
    ) -> Models:
        """Models for `stream` of which some are served by providers, such as one visitor chose.

        Args:
            collection: What is to be searched: it decides which embedding model must answer.
            embedder: Who serves that model; None takes what is configured.
            reranker: A reranker's id in the catalogue, or its provider's name for it.
            reranking: Who serves it; None takes what is configured.

        Returns:
            To be given up with `disconnect`.

        Raises:
            UnknownCollection: The collection has not been indexed.
            IdentityMismatch: The provider's model gives other vectors than the collection's.
            ProviderError: A provider cannot be reached or refuses.
        """
        identity = self._open(collection)[1]
        models = replace(self._models.load_what_can_be(), agreed={})
        if embedder is not None:
            card = configured_catalogue(self.settings).card(identity.model, kind="embedding")
            models = replace(models, embedder=remote_embedder(card, embedder, self.settings))
            try:
                take_probe(models.embedder)  # Whoever connects wants to know now.
                self._check_space(collection, identity, models)
            except SearchError:
                models.disconnect()
                raise
        if reranking is not None:
            models = replace(models, scorer=remote_scorer(reranker, reranking, self.settings))
        return models

    def stream(self, query: Query, models: Models | None = None) -> Iterator[SearchResponse]:
        """Answer with first-stage hits at once, then with the final order.

        Args:
            query: What is asked.
            models: Who answers; None takes what is configured.

        Raises:
            UnknownCollection: The collection has not been indexed.
            IdentityMismatch: It was indexed with another model than is configured.
        """
        collection = query.collection
        try:
            yield from self._pipeline(collection, models).stream(query)
        except IndexDamaged:
            held = self._stores.get(collection)
            if held is None or not self._catalog.moved(collection, held[1].generation):
                raise
            # Another machine has replaced the index just now.
            yield from self._pipeline(collection, models).stream(query)

    def evaluate(
        self,
        collection: str | None = None,
        *,
        labels: str | Path | None = None,
        quantization: bool = True,
        seed: int = 0,
        on_progress: OnEvaluation = lambda progress: None,
    ) -> Evaluation:
        """Measure how well each way of searching ranks what answers labelled queries.

        Args:
            collection: What is searched; None is the default collection, or for a BEIR folder one
                of its documents, which is made or brought up to date first.
            labels: A JSONL file of spans or a BEIR folder; None takes the set that ships with the
                collection.
            quantization: Whether to compare the quantization modes too, in copies of the index.
            seed: Decides the bootstrap's resamples.
            on_progress: Called before each search; what it raises ends the evaluation.

        Raises:
            InvalidLabels: The labels cannot be read, or none of them lies in the collection.
            InvalidSource: The documents of a BEIR folder cannot be read.
            UnknownCollection: The collection has not been indexed.
            IdentityMismatch: It was indexed with another model than is configured.
            ModelUnavailable: A model cannot be had.
        """
        if labels is None:
            labels = self.labels(collection or DEFAULT_COLLECTION)
        judged = read_labels(Path(labels))
        if collection is None and judged.corpus is not None:
            collection = self._index_corpus(judged.name, judged.corpus, on_progress)
        collection = collection or DEFAULT_COLLECTION
        store, identity = self._open(collection)
        models = self.load()
        self._check_space(collection, identity, models)
        with closing(Bench(self.settings, models, store, identity)) as bench:
            return evaluate(
                bench,
                judged,
                collection=collection,
                identity=identity,
                scratch=self._folder.evaluations,
                quantization=quantization,
                seed=seed,
                on_progress=on_progress,
            )

    def _index_corpus(self, name: str, corpus: Path, on_progress: OnEvaluation) -> str:
        """Index the documents of a BEIR set, each as one chunk whose path is its id."""
        collection = "beir-" + re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:50]

        def show(progress: IndexProgress) -> None:
            message = f"Indexing {progress.chunks:,} of {progress.chunks_total:,} documents"
            on_progress(EvaluationProgress(done=0, total=0, message=message))

        with unpacked(corpus, self._folder.evaluations) as path:
            source = f"jsonl:{quote(path.resolve().as_posix())}?path=_id&symbol=title"
            self.index(
                source,
                collection=collection,
                description=f"Documents of the BEIR set {name}.",
                on_progress=show,
            )
        return collection

    def labels(self, collection: str) -> Path:
        """The labelled set that ships with a collection.

        Raises:
            InvalidLabels: None does.
        """
        for path in LABELS.glob("*.jsonl"):
            if path.stem == collection:
                return path
        raise InvalidLabels(
            f"No labelled set ships with {collection!r}.",
            fix="Name a JSONL file of spans or a BEIR folder.",
        )

    def collections(self) -> list[CollectionInfo]:
        """What can be searched, by name."""
        return self._catalog.infos()

    def find_related(
        self, path: str, line: int, *, collection: str | None = None, top_k: int = 10
    ) -> Related:
        """Find chunks that resemble the one at a place. Needs no model.

        Args:
            path: A file of the collection; the end of its path is enough where it is the only one.
            line: A line of it, from 1.
            collection: Where; None is the default collection.
            top_k: Hits to return, 1 to 100.

        Raises:
            InvalidQuery: The path or an option cannot be searched with.
            UnknownCollection: The collection has not been indexed.
            UnknownPlace: The collection holds no such line.
        """
        path, line, top_k = check_place(path, line, top_k)
        store, _ = self._open(collection or DEFAULT_COLLECTION)
        place = find_place(store.distinct("path"), store.at, path, line)
        (dense,) = store.vectors([place.id]).values()
        nothing = SparseVector([], [])
        found = store.search(
            Located(dense=dense, sparse=nothing, filters=Filters(), limit=top_k + 1)
        )
        others = [hit for hit in found if hit.chunk.id != place.id]
        return Related(place=place, hits=tuple(others[:top_k]))

    def facets(self, collection: str) -> Mapping[str, Mapping[str, int]]:
        """The values that each filter can take in a collection, with their number of chunks.

        Raises:
            UnknownCollection: The collection has not been indexed.
        """
        return self._open(collection)[0].facets()

    def is_current(self) -> bool:
        """Whether the default collection is there, whole, and made as configured now."""
        manifest = Manifest.load(DEFAULT_MANIFEST)
        try:
            info = self._catalog.record(manifest.name).info
        except (UnknownCollection, IndexDamaged):
            return False
        made, configured = info.identity, configured_identity(self.settings, self.load().embedder)
        if "endpoint" in (made.document_precision, configured.document_precision):
            # The same model in another place: what it embedded there need not be embedded again.
            configured = replace(
                configured, revision=made.revision, document_precision=made.document_precision
            )
        return (
            tuple(summary.source for summary in info.sources) == manifest.sources
            and not any(summary.note for summary in info.sources)
            and made == configured
        )

    def _manifest(
        self, source: str | Path | Sequence[str | Path] | None, collection: str | None, about: str
    ) -> Manifest:
        """What is to be indexed; its name is empty if nobody gave one."""
        if source is not None:
            return _named(source, collection, about)
        default = Manifest.load(DEFAULT_MANIFEST)
        if collection is None:
            return default
        try:
            made_of = self._catalog.record(collection).info.specs
        except (UnknownCollection, IndexDamaged):
            if collection == default.name:
                return default
            raise
        return Manifest(name=collection, description=about, sources=made_of)

    def _index(
        self,
        manifest: Manifest,
        on_progress: OnProgress,
        sources: Sequence[Opened] | None = None,
        *,
        give_up: Callable[[], bool] | None = None,
    ) -> IndexReport:
        """Index a collection; while another thread does, wait, or without `give_up` refuse."""
        name = manifest.name
        with self._loading:
            while give_up and name in self._indexing and not give_up():
                self._indexed.wait(_LOOK_S)
            if name in self._indexing:
                raise IndexingBusy(
                    f"{name} is being indexed already.", fix="Wait until it is done."
                )
            current = self._current(name)
            self._indexing[name] = threading.get_ident()

        def tell(progress: IndexProgress) -> None:
            if not self._closing:
                on_progress(progress)
            if self._closing:
                raise WorkspaceClosed(
                    f"The workspace was closed while {name} was indexed.",
                    fix="Index it again: it goes on from there.",
                )

        try:
            if sources is None:
                sources = self._open_sources(manifest.sources, tell)
            spaces = [one.source.space for one in sources if isinstance(one.source, Vectors)]
            arriving = spaces[0] if len(spaces) == len(sources) else None
            models = self.load() if arriving is None else self._models.load_what_can_be()
            indexer = build_indexer(
                self.settings, models, self._catalog, self._storage, arriving=arriving
            )
            report = indexer.index(
                name,
                sources,
                description=manifest.description,
                current=current,
                publish=partial(self._publish, name),
                on_progress=tell,
            )
            self._catalog.discard_earlier(name)
            on_progress(
                IndexProgress(
                    phase="done", chunks=report.info.chunks, chunks_total=report.info.chunks
                )
            )
            return report
        finally:
            with self._loading:
                del self._indexing[name]
                self._indexed.notify_all()
                if not self._indexing:
                    self._models.release_documents()

    def _publish(self, name: str, record: Record, store: ChunkStore) -> None:
        """Search this index from now on. The one before is released with its last search."""
        with self._loading:
            self._catalog.commit(name, record)
            self._stores[name] = (store, record)
            self._links[name] = Links(record.info.sources)

    def _check_open(self) -> None:
        if not self._folder.held:
            raise WorkspaceClosed("The workspace is closed.", fix="Open another one.")

    def _current(self, name: str) -> ChunkStore | None:
        """The open index of a collection; None when there is none, or none that can be read."""
        try:
            return self._open(name)[0]
        except (UnknownCollection, IndexDamaged):
            return None

    def _open_sources(self, specs: Sequence[str], on_progress: OnProgress) -> list[Opened]:
        waiting = list(specs)

        def fetched(spec: str) -> None:
            waiting.remove(spec)
            on_progress(IndexProgress(phase="fetch", message=", ".join(waiting)))

        on_progress(IndexProgress(phase="fetch", message=", ".join(waiting)))
        return open_sources(specs, downloads=self._folder.downloads, on_fetched=fetched)

    def _pipeline(self, collection: str, models: Models | None) -> SearchPipeline:
        store, identity = self._open(collection)
        models = models or self._models.load_what_can_be()
        if models.agreed.get(collection) is not identity:
            self._check_space(collection, identity, models)
        return build_pipeline(models, store, identity, links=self._links[collection])

    def _check_space(self, collection: str, identity: IndexIdentity, models: Models) -> None:
        """Compare an index with the embedder, once for each index.

        Raises:
            IdentityMismatch: Its vectors come from another model.
        """
        configured = configured_identity(self.settings, models.embedder)
        matching = [
            info.name for info in self._catalog.infos() if info.identity.model == configured.model
        ]
        check_space(
            collection,
            replace(identity, probe=""),
            replace(configured, revision=""),
            matching=matching,
        )
        try:
            probe = take_probe(models.embedder)
        except ModelUnavailable:
            return  # Nothing is compared with these vectors now.
        check_space(collection, identity, replace(configured, probe=probe))
        models.agreed[collection] = identity

    def _open(self, collection: str) -> tuple[ChunkStore, IndexIdentity]:
        with self._loading:
            self._check_open()
            if collection in self._stores:
                store, record = self._stores[collection]
                if not self._catalog.moved(collection, record.generation):
                    return store, record.info.identity
            record = self._catalog.record(collection)
            identity = record.info.identity
            store = self._storage.open(collection, record.generation, identity)
            self._stores[collection] = (store, record)
            self._links[collection] = Links(record.info.sources)
            return store, identity


def _named(
    source: str | Path | Sequence[str | Path], collection: str | None, description: str
) -> Manifest:
    """The sources that somebody named, or those of the manifest that somebody did."""
    specs = [str(one) for one in ([source] if isinstance(source, (str, Path)) else source)]
    if not specs:
        raise InvalidSource("No source was named.", fix="Name a folder or a package to index.")
    if len(specs) == 1 and is_manifest(specs[0]):
        manifest = Manifest.load(Path(specs[0]).expanduser())
        return replace(
            manifest,
            name=collection or manifest.name,
            description=description or manifest.description,
        )
    return Manifest(name=collection or "", description=description, sources=tuple(specs))
