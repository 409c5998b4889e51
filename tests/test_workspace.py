"""Indexing and searching a data folder, with the real engine and models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from samples import write_files

from backend.config import InvalidSettings, Settings, load_settings
from backend.errors import (
    DataFolderBusy,
    DataFolderUnusable,
    IdentityMismatch,
    IndexDamaged,
    IndexingBusy,
    InvalidQuery,
    InvalidSource,
    ModelUnavailable,
    UnknownCollection,
    WorkspaceClosed,
)
from backend.types import IndexProgress, SearchResponse
from backend.workspace import Workspace

ROOT = Path(__file__).parent.parent
TOPICS = ("retry failed batches", "parse a date", "resize an image", "open a socket", "sort rows")


def many_files(count: int) -> dict[str, str]:
    """Files of one short chunk each: indexing takes several batches and little time."""
    return {
        f"pkg{i % 4}/m{i}.py": f"def f_{i}():\n    '''{TOPICS[i % 5]} {i}'''\n"
        for i in range(count)
    }


RETRY = "def send(batch):\n    '''Send a failed batch again, later each time.'''\n"
FILES = {
    "net/retry.py": RETRY,
    "net/copy_of_retry.py": RETRY,
    "img/resize.py": "def resize(image, width):\n    '''Scale a picture to a width.'''\n",
    "img/Resize.java": "class Resize { int width; }\n",
    "docs/guide.md": "## Backups\nTake a snapshot every night.\n\n## Speed\nUse codes.\n",
    "logo.png": "\x89PNG",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "project", FILES)


@pytest.fixture(scope="module")
def indexed(
    open_workspace: Callable[..., Workspace], tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """`FILES` as the collection `shop`; shared, so tests only search it."""
    workspace = open_workspace(rerank_budget_ms=10_000)
    folder = write_files(tmp_path_factory.mktemp("shop"), FILES)
    workspace.index(folder, collection="shop", description="A shop.")
    return workspace


def paths(response: SearchResponse) -> list[str]:
    return [hit.chunk.path for hit in response.hits]


# Searching


def test_a_question_finds_the_lines_that_answer_it(indexed: Workspace) -> None:
    response = indexed.search("where are failed batches retried", collection="shop", top_k=2)
    chunk = response.hits[0].chunk

    assert (chunk.start_line, chunk.end_line, chunk.symbol) == (1, 2, "send")
    assert chunk.path.startswith("net/")
    assert chunk.source.startswith("dir:/")
    assert chunk.text.startswith("def send(batch):")
    assert len(response.hits) == 2


def test_hits_before_reranking_are_the_same_in_the_first_stages_order(indexed: Workspace) -> None:
    response = indexed.search("scale a picture", collection="shop", top_k=3)
    scores = [hit.score for hit in response.before]

    assert {hit.chunk.id for hit in response.before} == {hit.chunk.id for hit in response.hits}
    assert [hit.first_rank for hit in response.before] == sorted(
        hit.first_rank for hit in response.hits
    )
    assert scores == sorted(scores, reverse=True) == [hit.first_score for hit in response.before]
    assert [hit.rank for hit in response.hits] == [1, 2, 3]
    assert all(hit.moved == hit.first_rank - hit.rank for hit in response.hits)


def test_candidates_are_all_that_the_reranker_was_given(indexed: Workspace) -> None:
    response = indexed.search("speed", collection="shop", top_k=1)

    assert len(response.hits) == 1
    assert [hit.first_rank for hit in response.candidates] == [1, 2, 3, 4, 5]
    assert response.reranked == 5
    assert all(hit.rerank_score is not None for hit in response.candidates)
    assert response.rerank_note == ""


def test_timings_name_the_stages_in_order_and_add_up(indexed: Workspace) -> None:
    timings = dict(indexed.search("a question asked once", collection="shop").timings)

    assert list(timings) == ["read", "embed", "retrieve", "rank", "assess", "rerank", "total"]
    assert timings.pop("total") == pytest.approx(sum(timings.values()))
    assert all(ms > 0 for ms in timings.values())


def test_without_reranking_the_first_stages_order_stands(indexed: Workspace) -> None:
    response = indexed.search("snapshot", collection="shop", rerank=False)

    assert list(response.timings) == ["read", "embed", "retrieve", "rank", "assess", "total"]
    assert [hit.moved for hit in response.hits] == [0] * len(response.hits)
    assert response.hits == response.before
    assert response.reranked == 0


def test_a_budget_of_nothing_keeps_the_order_and_says_so(indexed: Workspace) -> None:
    response = indexed.search("never asked before this", collection="shop", budget_ms=0)

    assert response.reranked == 0
    assert response.rerank_note == "stopped at 0 ms: 0 of 5 candidates scored"
    assert [hit.moved for hit in response.hits] == [0] * 5


def test_only_as_many_candidates_are_reranked_as_asked(indexed: Workspace) -> None:
    response = indexed.search("resize to width", collection="shop", candidates=2)

    assert response.reranked == 2
    assert [hit.rerank_score is None for hit in response.candidates] == [False] * 2 + [True] * 3


def test_first_stage_hits_come_before_the_final_ones(indexed: Workspace) -> None:
    from backend.query import make_query

    query = make_query("send again", collection="shop", settings=indexed.settings)
    first, final = indexed.stream(query)

    assert (first.pending, final.pending) == (True, False)
    assert "rerank" not in first.timings
    assert [hit.chunk.id for hit in first.hits] == [hit.chunk.id for hit in final.candidates]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"languages": "java"}, {"img/Resize.java"}),
        ({"languages": ["java", "markdown"]}, {"img/Resize.java", "docs/guide.md"}),
        ({"kinds": "function", "path_prefix": "img/"}, {"img/resize.py"}),
        ({"packages": "nobody"}, set()),
    ],
)
def test_filters_limit_a_search(
    indexed: Workspace, filters: dict[str, str], expected: set[str]
) -> None:
    assert set(paths(indexed.search("resize", collection="shop", **filters))) == expected


@pytest.mark.parametrize("text", ["???", "the of and", "🎉", "a", "ß" * 9000, "def send(batch):"])
def test_any_text_that_is_not_blank_gets_an_answer(indexed: Workspace, text: str) -> None:
    assert len(indexed.search(text, collection="shop").hits) == 5


@pytest.mark.parametrize("name", ["nothing", "../shop", "", "shop/", "\0", "\udcff", "x" * 5000])
def test_an_unknown_collection_is_refused_with_the_known_ones(
    indexed: Workspace, name: str
) -> None:
    with pytest.raises(UnknownCollection, match=r"Known collections: shop\."):
        indexed.search("anything", collection=name)


def test_bad_queries_are_refused_whatever_the_collection(indexed: Workspace) -> None:
    for text, options in (("", {}), ("x", {"top_k": 0}), ("x", {"path_prefix": "\udcff"})):
        with pytest.raises(InvalidQuery):
            indexed.search(text, collection="shop", **options)


def test_searches_from_many_threads_agree(indexed: Workspace) -> None:
    asked = [*TOPICS, "snapshot", "codes", "picture"]
    alone = [paths(indexed.search(text, collection="shop")) for text in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda t: paths(indexed.search(t, collection="shop")), asked * 3))

    assert together == alone * 3


def test_facets_tell_what_filters_can_take(indexed: Workspace) -> None:
    facets = indexed.facets("shop")

    assert dict(facets["language"]) == {"python": 2, "markdown": 2, "java": 1}
    assert sum(facets["package"].values()) == 5


# Indexing


def test_a_report_counts_what_was_read_and_what_was_not(indexed: Workspace) -> None:
    (info,) = indexed.collections()

    assert (info.name, info.description, info.files, info.chunks) == ("shop", "A shop.", 4, 5)
    assert info.skipped == {"identical to another file": 1, "not a known text format": 1}
    assert [(source.files, source.chunks, source.note) for source in info.sources] == [(4, 5, "")]


def test_indexing_again_without_a_change_does_nothing(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    workspace = open_workspace()
    first = workspace.index(folder, collection="shop")
    second = workspace.index(folder, collection="shop")

    assert (first.changed, first.embedded, first.reused) == (True, 5, 0)
    assert (second.changed, second.embedded, second.info) == (False, 0, first.info)


def test_only_chunks_that_changed_are_embedded_and_deleted_files_leave(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    workspace = open_workspace()
    workspace.index(folder, collection="shop", description="A shop.")
    guide = folder / "docs/guide.md"
    guide.write_text("\n\n" + guide.read_text().replace("every night", "each Friday"))
    (folder / "img/resize.py").unlink()
    report = workspace.index(folder, collection="shop")
    found = workspace.search("backup snapshot Friday", collection="shop", top_k=10)

    assert (report.changed, report.embedded, report.reused) == (True, 1, 3)
    assert "each Friday" in found.hits[0].chunk.text
    assert found.hits[0].chunk.start_line == 3, "moved lines are told where they stand now"
    assert "img/resize.py" not in paths(found)
    assert report.info.description == "A shop.", "leaving it out keeps it"


def test_a_description_can_be_changed_without_a_change_of_files(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    workspace = open_workspace()
    workspace.index(folder, collection="shop")
    report = workspace.index(folder, collection="shop", description="Sells things.")

    assert report.changed is False
    assert workspace.collections()[0].description == "Sells things."


def test_another_quantization_rebuilds_the_index_from_the_same_vectors(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    first = open_workspace(quantization="binary")
    first.index(folder, collection="shop")
    first.close()
    changed = first.settings.model_copy(update={"quantization": "scalar"})
    with Workspace(settings=changed) as second:
        report = second.index(folder, collection="shop")

    assert (report.changed, report.embedded, report.reused) == (True, 0, 5)
    assert report.info.identity.quantization == "scalar"


def test_a_collection_is_named_by_its_folder_unless_told(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    assert open_workspace().index(folder).info.name == "project"


@pytest.mark.parametrize("name", ["../evil", "a b", ".hidden", "", "x" * 65, "a/b", "é"])
def test_a_name_that_is_not_a_folders_is_refused_before_anything_is_read(
    open_workspace: Callable[..., Workspace], folder: Path, name: str
) -> None:
    workspace = open_workspace()
    seen: list[str] = []
    with pytest.raises(InvalidSource, match="cannot name a collection"):
        workspace.index(folder, collection=name, on_progress=lambda p: seen.append(p.phase))

    assert "read" not in seen


def test_a_folder_without_text_is_refused_and_says_what_was_there(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    folder = write_files(tmp_path / "images", {"a.png": "x", "b.png": "x", "c.py": ""})
    workspace = open_workspace()
    with pytest.raises(InvalidSource, match=r"\(2 not a known text format, 1 empty\)"):
        workspace.index(folder, collection="images")

    assert workspace.collections() == []


def test_progress_runs_from_the_first_file_to_the_last_chunk(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    folder = write_files(tmp_path / "many", many_files(300))
    seen: list[IndexProgress] = []
    open_workspace().index(folder, collection="many", on_progress=seen.append)
    embedding = [progress for progress in seen if progress.phase == "embed"]

    order = ["fetch", "read", "embed", "optimize", "done"]
    assert sorted({p.phase for p in seen}, key=order.index) == order
    assert [p.phase for p in seen] == sorted((p.phase for p in seen), key=order.index)
    assert [p.files for p in seen if p.phase == "read"] == list(range(1, 301))
    assert [(p.chunks, p.chunks_total) for p in embedding] == [(128, 300), (256, 300), (300, 300)]
    assert all(p.chunks_per_second > 0 and p.seconds_left is not None for p in embedding)
    assert embedding[-1].seconds_left == 0


def test_what_was_indexed_answers_while_it_is_indexed_again(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    workspace = open_workspace()
    workspace.index(folder, collection="shop")
    write_files(folder, {"new.py": "def brand_new(): pass\n"})
    answers: list[list[str]] = []

    def search(progress: IndexProgress) -> None:
        answers.append(paths(workspace.search(f"send {len(answers)}", collection="shop")))

    workspace.index(folder, collection="shop", on_progress=search)

    assert len(answers) > 5
    assert "new.py" not in answers[0]
    assert all({"net/copy_of_retry.py", "docs/guide.md"} <= {*answer} for answer in answers)
    assert "new.py" in answers[-1]


def test_a_search_never_sees_a_first_index_half_made(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    """Until it is ready there is one clear answer, and the moment of the switch is no exception."""
    workspace = open_workspace()
    workspace.load()
    done = threading.Event()
    refusals: set[type[BaseException]] = set()

    def search() -> list[str]:
        while True:
            over = done.is_set()
            try:
                return paths(workspace.search("send", collection="shop", rerank=False))
            except (UnknownCollection, IndexingBusy) as exc:
                refusals.add(type(exc))
                assert not over

    with ThreadPoolExecutor(1) as pool:
        searching = pool.submit(search)
        workspace.index(folder, collection="shop")
        done.set()
        assert len(searching.result(timeout=60)) == 5
    assert UnknownCollection in refusals


def test_a_collection_is_indexed_by_one_run_at_a_time(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    workspace = open_workspace()
    refused: list[IndexingBusy] = []

    def index_again(progress: IndexProgress) -> None:
        if progress.phase == "embed" and not refused:
            with pytest.raises(IndexingBusy, match="Wait") as error:
                workspace.index(folder, collection="shop")
            refused.append(error.value)

    workspace.index(folder, collection="shop", on_progress=index_again)

    assert len(refused) == 1
    assert workspace.index(folder, collection="shop").changed is False, "and then again"


def test_a_run_that_is_called_off_is_continued_by_the_next(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    workspace = open_workspace()
    folder = write_files(tmp_path / "many", many_files(300))

    def call_off(progress: IndexProgress) -> None:
        if progress.phase == "embed" and progress.chunks == 256:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workspace.index(folder, collection="many", on_progress=call_off)
    report = workspace.index(folder, collection="many")

    assert (report.embedded, report.reused) == (44, 256)


def test_only_the_current_generation_stays_on_disk(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    workspace = open_workspace()
    for number in range(3):
        write_files(folder, {"new.py": f"x = {number}\n"})
        workspace.index(folder, collection="shop")
    kept = list((workspace.settings.data_dir / "collections/shop").glob("generation-*"))

    assert len(kept) == 1


# The data folder


def test_a_folder_that_another_workspace_holds_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with Workspace(tmp_path / "data"), pytest.raises(DataFolderBusy) as error:
        Workspace(tmp_path / "data")

    assert str(tmp_path / "data") in error.value.message
    assert "RANKSCOPE_DATA_DIR" in error.value.fix


def test_a_folder_that_an_app_in_another_process_holds_is_refused_with_its_address(
    tmp_path: Path,
) -> None:
    script = (
        "import sys; from backend import Workspace; w = Workspace(sys.argv[1]);"
        "w.announce('http://127.0.0.1:7860'); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "data")],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"ready"
        with pytest.raises(DataFolderBusy, match=rf"127\.0\.0\.1:7860 \(process {holder.pid}\)"):
            Workspace(tmp_path / "data")
        holder.kill()
        holder.wait()
    Workspace(tmp_path / "data").close()


def test_closing_lets_the_next_one_in_whichever_thread_closes(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    closing = threading.Thread(target=workspace.close)
    closing.start()
    closing.join()

    Workspace(tmp_path).close()


@pytest.mark.parametrize("place", ["file/data", "file", "/proc/rankscope"])
def test_a_data_folder_that_cannot_be_made_is_refused_with_the_fix(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataFolderUnusable, match=r"cannot be written: .*RANKSCOPE_DATA_DIR"):
        Workspace(tmp_path / place)


def _change_record(workspace: Workspace, change: Callable[[dict], None]) -> Settings:
    workspace.close()
    path = workspace.settings.data_dir / "collections/shop/collection.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return workspace.settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "sentence-transformers/all-MiniLM-L12-v2"),
        ("dimension", 768),
        ("pooling", "cls"),
        ("query_prefix", "query: "),
        ("document_prefix", "passage: "),
        ("sparse", "bm25-words-0"),
    ],
)
def test_an_index_made_with_something_else_is_refused(
    small: Workspace, field: str, value: object
) -> None:
    """Also one of equal dimension: its vectors would be searched and nothing sensible found."""
    settings = _change_record(
        small, lambda record: record["info"]["identity"].update({field: value})
    )
    with (
        Workspace(settings=settings) as workspace,
        pytest.raises(IdentityMismatch, match=rf"{field} .*[Ii]ndex it again"),
    ):
        workspace.search("send", collection="shop")


def test_an_index_whose_model_answers_otherwise_now_is_refused_until_it_is_indexed_again(
    small: Workspace, tmp_path: Path
) -> None:
    """The same name, release and dimension, but other weights: the probe tells."""
    vector = np.random.default_rng(0).normal(size=384).astype("<f2")
    probe = f"float32:{b64encode(vector.tobytes()).decode()}"
    settings = _change_record(
        small, lambda record: record["info"]["identity"].update({"probe": probe})
    )
    (made_with,) = settings.data_dir.glob("collections/shop/*/identity.json")
    made_with.write_text(json.dumps(json.loads(made_with.read_text()) | {"probe": probe}))
    with Workspace(settings=settings) as workspace:
        with pytest.raises(IdentityMismatch, match=r"gives other vectors now.*--collection shop"):
            workspace.search("send", collection="shop")
        report = workspace.index(tmp_path / "s", collection="shop")

        assert (report.embedded, report.reused) == (1, 0)
        assert workspace.search("send", collection="shop").hits


def test_an_index_of_another_release_is_searched_if_its_probe_agrees(small: Workspace) -> None:
    """A repository gets commits that leave its weights alone."""
    settings = _change_record(
        small, lambda record: record["info"]["identity"].update({"revision": "an earlier commit"})
    )
    with Workspace(settings=settings) as workspace:
        assert workspace.search("send", collection="shop").hits


def test_another_release_without_a_probe_is_refused(small: Workspace) -> None:
    settings = _change_record(
        small,
        lambda record: record["info"]["identity"].update({"revision": "earlier", "probe": ""}),
    )
    with (
        Workspace(settings=settings) as workspace,
        pytest.raises(IdentityMismatch, match=r"'earlier'.*no probe"),
    ):
        workspace.search("send", collection="shop")


def test_without_its_embedding_model_a_collection_is_searched_by_words_and_says_so(
    small: Workspace,
) -> None:
    """And with the model again as soon as that is there, without a restart."""
    small.close()
    data_dir = small.settings.data_dir
    (data_dir / "models").rename(data_dir / "models elsewhere")
    downloads = data_dir / "downloads"
    downloads.rename(data_dir / "downloads elsewhere")
    with (
        pytest.MonkeyPatch.context() as patch,
        Workspace(settings=small.settings) as workspace,
    ):
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_CONFIG_FILE", "/dev/null")
        patch.delenv("PIP_FIND_LINKS", raising=False)
        response = workspace.search("where is send", collection="shop")

        assert [hit.chunk.path for hit in response.hits] == ["a.py"]
        assert response.degraded.startswith("Found by words alone")
        assert "could not be fetched" in response.degraded
        assert not workspace.search("unheard", collection="shop").hits
        with pytest.raises(ModelUnavailable):
            workspace.load()

        shutil.rmtree(data_dir / "models")
        (data_dir / "models elsewhere").rename(data_dir / "models")
        workspace.load()
        assert workspace.search("unheard", collection="shop").degraded == ""


@pytest.fixture
def small(open_workspace: Callable[..., Workspace], tmp_path: Path) -> Workspace:
    """One file as the collection `shop`; a test may do with it what it likes."""
    workspace = open_workspace()
    workspace.index(write_files(tmp_path / "s", {"a.py": "def send(): pass\n"}), collection="shop")
    return workspace


@pytest.mark.parametrize("damage", ["record", "cut off", "index"])
def test_a_damaged_collection_says_so_hurts_no_other_and_is_repaired_by_indexing(
    small: Workspace, tmp_path: Path, damage: str
) -> None:
    small.index(write_files(tmp_path / "o", {"b.py": "def other(): pass\n"}), collection="other")
    small.close()
    folder = small.settings.data_dir / "collections/shop"
    if damage == "record":
        (folder / "collection.json").write_text("[]")
    elif damage == "cut off":
        record = (folder / "collection.json").read_text()
        (folder / "collection.json").write_text(record[: len(record) // 2])
    else:
        for path in folder.glob("generation-*/index/*.json"):
            path.write_text("{")
    with Workspace(settings=small.settings) as workspace:
        with pytest.raises(IndexDamaged, match=r"Index .*again"):
            workspace.search("send", collection="shop")
        assert paths(workspace.search("other", collection="other")) == ["b.py"]
        assert "other" in [info.name for info in workspace.collections()]
        workspace.index(tmp_path / "s", collection="shop")
        assert paths(workspace.search("send", collection="shop")) == ["a.py"]


def test_a_damaged_default_collection_is_not_current(tmp_path: Path) -> None:
    record = tmp_path / "collections/qdrant_ecosystem/collection.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    with Workspace(tmp_path) as workspace:
        assert workspace.is_current() is False


# Settings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("RANKSCOPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # No .env here.
    return monkeypatch


def test_every_setting_is_an_environment_variable(environment: pytest.MonkeyPatch) -> None:
    given = {
        **{"DATA_DIR": "/x", "THREADS": "3", "QUANTIZATION": "turbo4", "RESCORE": "false"},
        **{"OVERSAMPLING": "2.5", "RERANK": "no", "RERANK_CANDIDATES": "7", "PORT": "81"},
        **{"RERANK_BUDGET_MS": "9", "HOST": "0.0.0.0", "LOG_LEVEL": "DEBUG"},
        **{"INDEXING": "off"},
        **{"EMBEDDER": "a/b", "EMBEDDER_PRECISION": "int8", "MODELS_FILE": "/m.toml"},
        **{"EMBEDDER_PROVIDER": "tei", "EMBEDDER_URL": "http://e", "EMBEDDER_KEY": "k1"},
        **{"EMBEDDER_SERVED_AS": "e", "RERANKER": "c/d", "RERANKER_PROVIDER": "cohere"},
        **{"RERANKER_URL": "http://r", "RERANKER_KEY": "k2", "RERANKER_SERVED_AS": "r"},
        **{
            "HUB_ENDPOINT": "http://hub.test",
            "REMOTE_CODE": "true",
            "PROVIDER_TIMEOUT_S": "7",
            "PROVIDER_HOSTS": "a.test, b.test",
        },
        **{"QDRANT_URL": "http://q", "QDRANT_KEY": "k3", "QDRANT_GRPC_PORT": "6334"},
        **{"QDRANT_TIMEOUT_S": "8", "QDRANT_SHARDS": "3", "QDRANT_REPLICAS": "2"},
    }
    for name, value in given.items():
        environment.setenv(f"RANKSCOPE_{name}", value)
    settings = load_settings()

    assert {name.lower() for name in given} == set(Settings.model_fields)
    assert settings == Settings(
        **{"data_dir": Path("/x"), "threads": 3, "quantization": "turbo4", "rescore": False},
        **{"oversampling": 2.5, "rerank": False, "rerank_candidates": 7, "port": 81},
        **{"rerank_budget_ms": 9, "host": "0.0.0.0", "log_level": "DEBUG"},
        **{"indexing": "off"},
        **{"embedder": "a/b", "embedder_precision": "int8", "models_file": Path("/m.toml")},
        **{"embedder_provider": "tei", "embedder_url": "http://e", "embedder_key": "k1"},
        **{"embedder_served_as": "e", "reranker": "c/d", "reranker_provider": "cohere"},
        **{"reranker_url": "http://r", "reranker_key": "k2", "reranker_served_as": "r"},
        **{"hub_endpoint": "http://hub.test", "remote_code": True},
        **{"provider_timeout_s": 7, "provider_hosts": "a.test, b.test"},
        **{"qdrant_url": "http://q", "qdrant_key": "k3", "qdrant_grpc_port": 6334},
        **{"qdrant_timeout_s": 8, "qdrant_shards": 3, "qdrant_replicas": 2},
    )
    assert settings.allowed_hosts == ("a.test", "b.test")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("THREADS", "many"), ("THREADS", "0"), ("QUANTIZATION", "ternary"), ("PORT", "99999")],
        *[("OVERSAMPLING", "nan"), ("RERANK", "perhaps"), ("LOG_LEVEL", "LOUD")],
    ],
)
def test_a_setting_that_is_out_of_range_is_named(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(f"RANKSCOPE_{name}", value)
    with pytest.raises(InvalidSettings, match=f"RANKSCOPE_{name} is not valid.*Correct or unset"):
        load_settings()


def test_an_empty_variable_is_not_a_setting(environment: pytest.MonkeyPatch) -> None:
    """An empty data folder would be whatever folder the process stands in."""
    for name in Settings.model_fields:
        environment.setenv(f"RANKSCOPE_{name.upper()}", "")

    assert load_settings().port == 7860
    assert load_settings().data_dir.name == "rankscope"


def test_a_tilde_is_the_home_folder(environment: pytest.MonkeyPatch) -> None:
    """A container's or a service's environment has no shell to expand it."""
    environment.setenv("RANKSCOPE_DATA_DIR", "~/index")

    assert load_settings().data_dir == Path.home() / "index"


# The end of a workspace


def test_a_closed_workspace_is_refused_and_opens_nothing(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    """Without the lock it would work on files that another process may be changing."""
    workspace = open_workspace()
    workspace.index(folder, collection="shop")
    workspace.close()

    with pytest.raises(WorkspaceClosed, match="Open another one"):
        workspace.search("retry", collection="shop")
    with pytest.raises(WorkspaceClosed):
        workspace.load()
    with Workspace(settings=workspace.settings) as again:
        assert again.search("retry", collection="shop").hits


def test_what_a_killed_process_left_half_made_is_swept(tmp_path: Path) -> None:
    half = tmp_path / "downloads" / "tmpabc"
    half.mkdir(parents=True)
    (half / "half").write_text("made")
    (tmp_path / "downloads" / "whole.whl").write_text("kept")

    with Workspace(tmp_path):
        assert not half.exists()
        assert (tmp_path / "downloads" / "whole.whl").exists()


# Watching, and closing while something is indexed


def test_watched_folders_are_indexed_again_when_a_file_that_counts_changes(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    write_files(folder, {".gitignore": "build/\n", "build/made.py": "made = 0\n"})
    workspace = open_workspace()
    stop = threading.Event()
    runs: list[str] = []
    reports = workspace.watch(
        folder, collection="shop", stop=stop, on_progress=lambda p: runs.append(p.phase)
    )
    assert next(reports).info.chunks == 5
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, reports)
        for number in range(3):
            write_files(folder, {"build/made.py": f"made = {number}\n"})
            time.sleep(0.6)
        runs_before = runs.count("done")
        write_files(folder, {"net/new.py": "def brand_new(): pass\n"})
        (folder / "net/retry.py").unlink()
        report = following.result(timeout=60)

        assert runs_before <= 2, "what is ignored starts nothing"
        assert (report.changed, report.info.files) == (True, 5)
        assert "net/new.py" in paths(workspace.search("brand new", collection="shop"))
        following = pool.submit(lambda: next(reports, "over"))
        stop.set()
        assert following.result(timeout=60) == "over"


def test_watching_goes_on_after_a_run_that_failed_and_ends_with_the_workspace(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    folder = write_files(tmp_path / "notes", {"a.md": "# Notes\n\nBuy milk.\n"})
    workspace = open_workspace()
    reports = workspace.watch(folder)
    assert next(reports).info.files == 1
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, reports)
        (folder / "a.md").unlink()
        time.sleep(1.5)
        assert workspace.search("milk", collection="notes").hits, "nothing left to index"
        write_files(folder, {"b.md": "# Notes\n\nBuy bread.\n"})
        assert following.result(timeout=60).info.files == 1
        following = pool.submit(lambda: next(reports, "over"))
        workspace.close()
        assert following.result(timeout=60) == "over"


def test_what_is_no_folder_is_not_watched(
    open_workspace: Callable[..., Workspace],
) -> None:
    with pytest.raises(InvalidSource, match="no folder to watch"):
        next(open_workspace().watch("installed:pytest"))


def test_closing_ends_indexing_at_its_next_step_and_the_next_run_goes_on(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    workspace = open_workspace()
    folder = write_files(tmp_path / "many", many_files(300))
    embedding = threading.Event()

    def slowly(progress: IndexProgress) -> None:
        if progress.phase == "embed":
            embedding.set()
            time.sleep(0.2)

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(workspace.index, folder, collection="many", on_progress=slowly)
        assert embedding.wait(timeout=60)
        workspace.close()
        with pytest.raises(WorkspaceClosed, match="goes on from there"):
            run.result(timeout=60)
    with Workspace(settings=workspace.settings) as again:
        report = again.index(folder, collection="many")

        assert report.reused >= 128
        assert report.embedded + report.reused == 300


def test_a_run_may_close_its_own_workspace(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    workspace = open_workspace()
    with pytest.raises(WorkspaceClosed):
        workspace.index(folder, collection="shop", on_progress=lambda p: workspace.close())
    Workspace(settings=workspace.settings).close()
