"""What every store does: one suite over the exact oracle, Qdrant Edge and a Qdrant server."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as qe
from pydantic import SecretStr
from qdrant_server import Engine, serving
from samples import chunk

from backend.embedding.bm25 import document_vector, query_vector
from backend.errors import DataFolderBusy, DataFolderUnusable, IndexDamaged, InvalidVector
from backend.store.connection import QdrantServer
from backend.store.edge import EdgeStore
from backend.store.exact import ExactStore
from backend.store.protocol import ChunkStore
from backend.store.quantization import MODES
from backend.store.server import ServerStore
from backend.types import Filters, FloatArray, Fusion, Located, Quantization, QuantizationMode

DIMENSION = 64
FUSION = Fusion(bm25_weight=0.05, depth=60)
WORDS = ("upsert", "points", "retry", "batch", "vector", "snapshot", "collection", "filter")
CHUNKS = [
    chunk(
        i,
        path=("src/api" if i % 3 else "src") + f"/part_{i}.py",
        package=("client", "server")[i % 2],
        language=("python", "rust", "markdown")[i % 3],
        kind=("function", "class")[i % 5 == 0],
        # No two chunks hold a word equally often, so that no two BM25 scores are equal.
        text=" ".join([f"unique{i}", *np.repeat(WORDS, [(i * 7 + w * 13) % 61 for w in range(8)])]),
        symbol=f"symbol{i}",
    )
    for i in range(60)
]
TOKENS = [bytes([i, 0]) for i in range(len(CHUNKS))]


def unit(rows: int, *, seed: int, dimension: int = DIMENSION) -> FloatArray:
    drawn = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


VECTORS = unit(len(CHUNKS), seed=1)
QUERIES = unit(12, seed=2)


def ask(
    dense: FloatArray = QUERIES[0], text: str = "", limit: int = 10, **filters: object
) -> Located:
    return Located(dense=dense, sparse=query_vector(text), filters=Filters(**filters), limit=limit)


def edge(
    folder: Path, mode: QuantizationMode, *, dimension: int = DIMENSION, rescore: bool = True
) -> EdgeStore:
    make = EdgeStore.open if folder.exists() else EdgeStore.create
    quantization = Quantization(mode=mode, rescore=rescore, oversampling=3.0)
    return make(folder, dimension=dimension, quantization=quantization, fusion=FUSION)


def fill(store: ChunkStore, *, optimize: bool = True) -> None:
    sparse = [document_vector(one) for one in CHUNKS]
    store.upsert(CHUNKS, VECTORS, sparse, TOKENS)
    if optimize:
        store.optimize()


def ids(store: ChunkStore, located: Located) -> list[str]:
    return [hit.chunk.id for hit in store.search(located)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantServer]:
    """The server at `QDRANT_URL` (and `QDRANT_API_KEY`), or a stand-in."""
    url, key = os.environ.get("QDRANT_URL"), os.environ.get("QDRANT_API_KEY")
    if url:
        made = QdrantServer(url, key=SecretStr(key) if key else None, timeout_s=30)
        yield made
        made.close()
        return
    with serving(Engine(tmp_path_factory.mktemp("server"))) as url:
        made = QdrantServer(url)
        yield made
        made.close()


def on_server(
    server: QdrantServer,
    mode: QuantizationMode,
    name: str,
    *,
    dimension: int = DIMENSION,
    rescore: bool = True,
) -> ServerStore:
    quantization = Quantization(mode=mode, rescore=rescore, oversampling=3.0)
    there = server.ask(lambda client: client.collection_exists(name))
    make = ServerStore.open if there else ServerStore.create
    return make(server, name, dimension=dimension, quantization=quantization, fusion=FUSION)


@contextmanager
def made(where: str, server: QdrantServer, folder: Path) -> Iterator[ChunkStore]:
    """An empty store, such as `exact`, `edge binary` or `server scalar`; gone in the end."""
    kind, _, mode = where.partition(" ")
    if kind == "exact":
        yield ExactStore(dimension=DIMENSION, fusion=FUSION)
    elif kind == "edge":
        store = edge(folder / "index", mode)
        yield store
        store.close()
    else:
        name = f"rankscope-test-{uuid.uuid4().hex[:12]}"
        yield on_server(server, mode, name)
        server.ask(lambda client: client.delete_collection(name))


IN_PROCESS = ["exact", *(f"edge {mode}" for mode in MODES)]
EVERYWHERE = [*IN_PROCESS, *(f"server {mode}" for mode in MODES)]


@pytest.fixture(params=EVERYWHERE)
def empty_store(
    request: pytest.FixtureRequest, server: QdrantServer, tmp_path: Path
) -> Iterator[ChunkStore]:
    with made(request.param, server, tmp_path) as store:
        yield store


@pytest.fixture(scope="module", params=EVERYWHERE)
def store(
    request: pytest.FixtureRequest, server: QdrantServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChunkStore]:
    """Holds `CHUNKS`; shared, so tests only read it."""
    with made(request.param, server, tmp_path_factory.mktemp("edge")) as store:
        fill(store)
        yield store


@pytest.fixture(scope="module")
def oracle() -> ExactStore:
    exact = ExactStore(dimension=DIMENSION, fusion=FUSION)
    fill(exact)
    return exact


def test_hits_carry_the_chunk_and_its_tokens_as_they_were_written(store: ChunkStore) -> None:
    (hit,) = store.search(ask(VECTORS[7], "unique7", limit=1))

    assert hit.chunk == CHUNKS[7]
    assert hit.tokens == TOKENS[7]


@pytest.mark.parametrize("text", ["", "upsert", "unique11 retry", "the of and ???", "🎉"])
def test_fused_order_and_scores_equal_the_oracles(
    store: ChunkStore, oracle: ExactStore, text: str
) -> None:
    """With rescoring the codes cost nothing here: the depth of the fusion covers all chunks."""
    for query in QUERIES:
        located = ask(query, text, limit=8)
        found, expected = store.search(located), oracle.search(located)

        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected])
        assert [hit.chunk.id for hit in found] == [hit.chunk.id for hit in expected]


def test_without_a_dense_vector_bm25_answers_alone(store: ChunkStore, oracle: ExactStore) -> None:
    located = replace(ask(VECTORS[5], "unique11 retry", limit=8), dense=None)
    found, expected = store.search(located), oracle.search(located)

    assert found[0].chunk.id == CHUNKS[11].id
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], rel=1e-4)


def test_entries_hold_everything_once_and_make_the_same_index_again(
    store: ChunkStore, tmp_path: Path
) -> None:
    copy = edge(tmp_path / "copy", "none")
    seen: list[str] = []
    for entries in store.entries(batch=7):
        copy.upsert(entries.chunks, entries.dense, entries.sparse, entries.tokens)
        seen += [one.id for one in entries.chunks]
    copy.optimize()

    assert sorted(seen) == sorted(one.id for one in CHUNKS)
    located = ask(QUERIES[3], "unique11 retry", limit=8)
    found, expected = copy.search(located), store.search(located)
    assert [(hit.chunk, hit.tokens) for hit in found] == [(h.chunk, h.tokens) for h in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected])


def test_one_index_can_be_searched_with_another_fusion(store: ChunkStore) -> None:
    located = ask(VECTORS[5], "unique11", limit=1)
    dense = store.searched_with(fusion=replace(FUSION, bm25_weight=0.0))
    bm25 = store.searched_with(fusion=replace(FUSION, bm25_weight=1000.0))

    assert ids(dense, located) == [CHUNKS[5].id]
    assert ids(bm25, located) == [CHUNKS[11].id]
    assert store.search(located)[0].score == pytest.approx(
        store.searched_with(fusion=FUSION).search(located)[0].score
    )


def test_scores_fall_from_the_first_hit_to_the_last(store: ChunkStore) -> None:
    scores = [hit.score for hit in store.search(ask(text="retry batch", limit=50))]

    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]


@pytest.mark.parametrize(
    "filters",
    [
        {"packages": ["client"]},
        {"languages": ["rust"]},
        {"languages": ["rust", "markdown"]},
        {"kinds": ["class"]},
        {"path_prefix": "src/api/"},
        {"path_prefix": "src/api/part_1"},
        {"path_prefix": "src/part_3"},
        {"path_prefix": "sr"},
        {"packages": ["server"], "languages": ["python"], "kinds": ["function"]},
        {"packages": ["client"], "path_prefix": "src/api/part_4"},
    ],
    ids=str,
)
def test_filters_let_through_exactly_the_chunks_that_match_all(
    store: ChunkStore, filters: dict[str, object]
) -> None:
    expected = {
        one.id
        for one in CHUNKS
        if one.package in filters.get("packages", [one.package])
        and one.language in filters.get("languages", [one.language])
        and one.kind in filters.get("kinds", [one.kind])
        and one.path.startswith(str(filters.get("path_prefix", "")))
    }
    found = ids(store, ask(text="upsert", limit=60, **filters))

    assert len(expected) > 1
    assert set(found) == expected


@pytest.mark.parametrize(
    ("globs", "passes"),
    [
        (["src/api/"], lambda path: "/api/" in path),
        (["/src/*.py"], lambda path: "/api/" not in path),
        (["part_1?.py"], lambda path: re.search(r"part_1\d\.py", path)),
        (["src/**/part_2*.py"], lambda path: "part_2" in path),
        (["!src/api/"], lambda path: "/api/" not in path),
        (["src/api/", "!part_[1-4]*"], lambda path: re.search(r"/api/part_[05-9]", path)),
        (["part_7.py", "part_8.py"], lambda path: path.endswith(("part_7.py", "part_8.py"))),
        (["!*.rs"], lambda path: True),
        (["*.rs"], lambda path: False),
    ],
    ids=str,
)
def test_path_patterns_let_through_exactly_the_files_that_match(
    store: ChunkStore, globs: list[str], passes: Callable[[str], object]
) -> None:
    found = ids(store, ask(text="upsert", limit=60, paths=globs))

    assert set(found) == {one.id for one in CHUNKS if passes(one.path)}


def test_a_pattern_sees_files_written_after_it_was_first_asked(empty_store: ChunkStore) -> None:
    fill(empty_store)
    assert ids(empty_store, ask(text="upsert", paths=["*.zig"])) == []
    late = chunk(900, path="src/late.zig", text="upsert")
    empty_store.upsert([late], VECTORS[:1], [document_vector(late)], [b""])
    assert ids(empty_store, ask(text="upsert", paths=["*.zig"])) == [late.id]
    empty_store.delete([late.id])
    assert "src/late.zig" not in empty_store.distinct("path")


def test_sources_are_told_apart(empty_store: ChunkStore) -> None:
    here, there = chunk(1, source="dir:a"), chunk(2, source="dir:b")
    vectors = [document_vector(here), document_vector(there)]
    empty_store.upsert([here, there], VECTORS[:2], vectors, [b"", b""])

    assert ids(empty_store, ask(text="upsert", sources=["dir:b"])) == [there.id]


def test_chunks_are_searched_among_given_ones(store: ChunkStore) -> None:
    wanted = [CHUNKS[3].id, CHUNKS[40].id, "00000000-0000-4000-8000-000000000000"]

    assert set(ids(store, ask(text="upsert", ids=wanted))) == {CHUNKS[3].id, CHUNKS[40].id}
    assert ids(store, ask(text="upsert", ids=wanted, path_prefix="elsewhere/")) == []


def test_a_place_is_in_the_chunk_that_holds_its_line(store: ChunkStore) -> None:
    assert list(store.at(CHUNKS[9].path, CHUNKS[9].start_line)) == [CHUNKS[9]]
    assert list(store.at(CHUNKS[9].path, CHUNKS[9].end_line)) == [CHUNKS[9]]
    assert list(store.at(CHUNKS[9].path, CHUNKS[9].end_line + 1)) == []
    assert list(store.at("nowhere.py", 4)) == []


def test_values_of_paths_and_symbols_are_listed(store: ChunkStore) -> None:
    assert sorted(store.distinct("path")) == sorted(one.path for one in CHUNKS)
    assert sorted(store.distinct("symbol")) == sorted(one.symbol for one in CHUNKS)


@pytest.mark.parametrize(
    "filters",
    [
        {"packages": ["nobody"]},
        {"sources": ["dir:elsewhere"]},
        {"kinds": ["Function"]},
        {"path_prefix": "api/"},
        {"path_prefix": "SRC"},
        {"path_prefix": "src/%"},
        {"packages": ["client"], "path_prefix": "src/api/part_1.py"},
    ],
    ids=str,
)
def test_filters_that_nothing_matches_find_nothing(
    store: ChunkStore, filters: dict[str, object]
) -> None:
    assert store.search(ask(text="upsert", **filters)) == []


def test_limit_bounds_the_number_of_hits(store: ChunkStore) -> None:
    assert [len(store.search(ask(text="upsert", limit=n))) for n in (1, 7)] == [1, 7]


def test_vectors_come_back_as_they_were_written(store: ChunkStore) -> None:
    """Quantized codes are beside the originals, not in their place."""
    vectors = store.vectors([one.id for one in CHUNKS])

    assert len(vectors) == len(CHUNKS)
    for one, written in zip(CHUNKS, VECTORS, strict=True):
        np.testing.assert_allclose(vectors[one.id], written, atol=1e-6)


def test_vectors_of_unknown_ids_are_left_out(store: ChunkStore) -> None:
    assert set(store.vectors([chunk(999).id, CHUNKS[3].id])) == {CHUNKS[3].id}


def test_facets_count_the_values_of_each_filter(store: ChunkStore) -> None:
    facets = {field: dict(values) for field, values in store.facets().items()}

    assert facets == {
        "package": {"client": 30, "server": 30},
        "language": {"python": 20, "rust": 20, "markdown": 20},
        "kind": {"function": 48, "class": 12},
        "source": {"dir:/home/me/project": 60},
    }
    assert list(store.facets()["kind"]) == ["function", "class"], "most frequent first"


def test_length_is_the_number_of_chunks(store: ChunkStore) -> None:
    assert len(store) == len(CHUNKS)


def test_searches_side_by_side_agree_with_one_after_the_other(store: ChunkStore) -> None:
    asked = [ask(query, text) for query in QUERIES for text in ("upsert", "batch vector")]
    alone = [ids(store, located) for located in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda located: ids(store, located), asked * 3))

    assert together == alone * 3


def test_an_empty_store_finds_nothing(empty_store: ChunkStore) -> None:
    assert len(empty_store) == 0
    assert empty_store.search(ask(text="upsert")) == []
    assert empty_store.vectors([CHUNKS[0].id]) == {}


def test_chunks_are_found_before_the_index_is_optimized(empty_store: ChunkStore) -> None:
    fill(empty_store, optimize=False)

    assert ids(empty_store, ask(VECTORS[5], "unique5", limit=1)) == [CHUNKS[5].id]


def test_writing_an_id_again_replaces_its_chunk_vector_and_terms(empty_store: ChunkStore) -> None:
    fill(empty_store)
    changed = chunk(5, text="entirely zebra", path="moved.py", package="elsewhere")
    empty_store.upsert([changed], VECTORS[9:10] * -1, [document_vector(changed)], [b"new"])
    empty_store.optimize()

    (hit,) = empty_store.search(ask(-VECTORS[9], "zebra", limit=1))
    assert (hit.chunk, hit.tokens) == (changed, b"new")
    assert len(empty_store) == len(CHUNKS)
    assert empty_store.search(ask(text="unique5", path_prefix=CHUNKS[5].path)) == []


def test_removed_chunks_are_found_counted_and_listed_no_more(empty_store: ChunkStore) -> None:
    """Also by the words and the filters that only they had, and before and after optimizing."""
    fill(empty_store)
    empty_store.delete([CHUNKS[7].id, chunk(999).id])
    empty_store.upsert(
        [], np.empty((0, DIMENSION), np.float32), [], [], remove=[CHUNKS[8].id, chunk(998).id]
    )
    for _ in range(2):
        left = [one.id for one in CHUNKS if one.id not in (CHUNKS[7].id, CHUNKS[8].id)]
        assert len(empty_store) == len(left)
        assert set(ids(empty_store, ask(VECTORS[7], "unique7 unique8", limit=60))) == {*left}
        assert empty_store.search(ask(text="unique7", path_prefix=CHUNKS[7].path)) == []
        assert empty_store.vectors([CHUNKS[7].id, CHUNKS[8].id]) == {}
        assert sum(empty_store.facets()["package"].values()) == len(left)
        assert [one.id for part in empty_store.entries() for one in part.chunks] == sorted(left)
        empty_store.optimize()


def test_what_is_written_and_removed_in_one_step_is_not_removed(empty_store: ChunkStore) -> None:
    sparse = [document_vector(one) for one in CHUNKS[:2]]
    removed = [CHUNKS[0].id, CHUNKS[1].id]
    empty_store.upsert(CHUNKS[:2], VECTORS[:2], sparse, TOKENS[:2], remove=removed)

    assert set(ids(empty_store, ask(text="unique0"))) == set(removed)


def test_a_removed_chunk_can_be_written_again(empty_store: ChunkStore) -> None:
    fill(empty_store)
    empty_store.delete([one.id for one in CHUNKS])
    assert len(empty_store) == 0
    assert empty_store.search(ask(text="upsert")) == []
    fill(empty_store)

    assert ids(empty_store, ask(VECTORS[5], "unique5", limit=1)) == [CHUNKS[5].id]
    assert len(empty_store) == len(CHUNKS)


@pytest.mark.parametrize("empty_store", IN_PROCESS, indirect=True)
def test_a_search_sees_a_step_whole_or_not_at_all(empty_store: ChunkStore) -> None:
    """Versions of one file replace one another while others search: no answer mixes two."""
    versions = [
        [
            chunk(100 * version + i, symbol=f"version{version}", text="ever changing")
            for i in range(20 + version)
        ]
        for version in range(12)
    ]
    stop = threading.Event()
    seen: set[str] = set()

    def write(version: int) -> None:
        chunks = versions[version]
        empty_store.upsert(
            chunks,
            unit(len(chunks), seed=version),
            [document_vector(one) for one in chunks],
            [b""] * len(chunks),
            remove=[one.id for one in versions[version - 1]],
        )

    def search() -> None:
        while not stop.is_set():
            hits = empty_store.search(ask(text="changing", limit=60))
            (symbol,) = {hit.chunk.symbol for hit in hits}
            assert len(hits) == 20 + int(symbol.removeprefix("version"))
            seen.add(symbol)

    write(0)
    with ThreadPoolExecutor(3) as pool:
        searching = [pool.submit(search) for _ in range(3)]
        for turn in range(1, 48):
            write(turn % 12)
            if turn == 30:
                empty_store.optimize()
        stop.set()
        for one in searching:
            one.result()
    assert len(seen) > 3, "the searches did run beside the writing"


def test_chunks_without_a_searchable_word_are_stored(empty_store: ChunkStore) -> None:
    """Their BM25 vector is empty; the dense one finds them."""
    bare = chunk(1, text="=== ???", path="???", symbol="")
    assert document_vector(bare).indices == []
    empty_store.upsert([bare], VECTORS[:1], [document_vector(bare)], [b""])

    assert ids(empty_store, ask(VECTORS[0], "upsert")) == [bare.id]


def test_vectors_that_would_never_be_found_are_refused_and_nothing_is_written(
    empty_store: ChunkStore,
) -> None:
    sparse = [document_vector(one) for one in CHUNKS[:2]]
    refused = {
        "NaN": np.full((2, DIMENSION), np.nan, np.float32),
        "infinite": np.vstack([VECTORS[:1], np.full((1, DIMENSION), np.inf, np.float32)]),
        "negative infinite": np.vstack([VECTORS[:1], np.full((1, DIMENSION), -np.inf, np.float32)]),
        "too short": VECTORS[:2, :-1],
        "too long": np.hstack([VECTORS[:2], VECTORS[:2]]),
        "one missing": VECTORS[:1],
        "one too many": VECTORS[:3],
        "flat": VECTORS[0],
    }
    for what, vectors in refused.items():
        with pytest.raises(InvalidVector):
            empty_store.upsert(CHUNKS[:2], vectors, sparse, TOKENS[:2])
        assert len(empty_store) == 0, what


# Qdrant Edge alone: what lies on disk, and what is quantized.


@pytest.mark.parametrize("mode", ["none", "binary+scalar"])
def test_a_reopened_index_answers_as_before(tmp_path: Path, mode: QuantizationMode) -> None:
    first = edge(tmp_path / "index", mode)
    fill(first)
    asked = [ask(query, "upsert points") for query in QUERIES]
    before = [ids(first, located) for located in asked]
    first.close()
    second = edge(tmp_path / "index", mode)

    assert [ids(second, located) for located in asked] == before
    assert len(second) == len(CHUNKS)
    assert dict(second.facets()["package"]) == {"client": 30, "server": 30}


def test_what_was_written_but_not_optimized_survives_closing(tmp_path: Path) -> None:
    """An interrupted run goes on from there."""
    first = edge(tmp_path / "index", "binary")
    fill(first, optimize=False)
    first.close()

    assert len(edge(tmp_path / "index", "binary").vectors([one.id for one in CHUNKS])) == 60


def test_an_index_that_is_open_is_not_opened_twice(tmp_path: Path) -> None:
    held = edge(tmp_path / "index", "none")

    with pytest.raises(DataFolderBusy, match=r"stop it"):
        edge(tmp_path / "index", "none")
    held.close()


@pytest.mark.parametrize("damage", ["nothing there", "an empty folder", "no config"])
def test_an_index_that_cannot_be_read_says_to_index_again(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "index"
    if damage == "an empty folder":
        folder.mkdir()
    if damage == "no config":
        made = edge(folder, "none")
        fill(made)
        made.close()
        (folder / "edge_config.json").write_bytes(b"{")
    quantization = Quantization(mode="none", rescore=True, oversampling=3.0)

    with pytest.raises(IndexDamaged, match=r"Index the collection again"):
        EdgeStore.open(folder, dimension=DIMENSION, quantization=quantization, fusion=FUSION)


def test_an_index_in_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(DataFolderUnusable):
        edge(tmp_path / "file" / "index", "none")


def test_many_small_updates_answer_as_one_large_one(tmp_path: Path, oracle: ExactStore) -> None:
    """Each is a small segment of its own, or is merged with others: nobody can tell."""
    store = edge(tmp_path / "index", "turbo4")
    for i in range(0, len(CHUNKS), 10):
        part = slice(i, i + 10)
        sparse = [document_vector(one) for one in CHUNKS[part]]
        store.upsert(CHUNKS[part], VECTORS[part], sparse, TOKENS[part])
        store.optimize()

    for query in QUERIES:
        located = ask(query, "upsert batch", limit=8)
        found, expected = store.search(located), oracle.search(located)
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected])
        assert [hit.chunk.id for hit in found] == [hit.chunk.id for hit in expected]


def test_a_step_that_was_cut_off_midway_is_seen_whole(tmp_path: Path) -> None:
    """Killed between the engine's two operations, an index holds hollow points: nobody sees."""
    store = edge(tmp_path / "index", "turbo4")
    fill(store)
    hollow = [qe.Point(id=one.id, vector={}, payload={}) for one in CHUNKS[:3]]
    store._shard.update(qe.UpdateOperation.upsert_points(hollow))
    store.close()
    store = edge(tmp_path / "index", "turbo4")
    for _ in range(2):
        assert len(store) == len(CHUNKS) - 3
        assert len(ids(store, ask(VECTORS[0], "unique0 unique1", limit=60))) == len(CHUNKS) - 3
        assert sum(len(part.chunks) for part in store.entries()) == len(CHUNKS) - 3
        assert set(store.vectors([CHUNKS[0].id, CHUNKS[5].id])) == {CHUNKS[5].id}
        store.optimize()
    assert store._shard.info().points_count == len(CHUNKS) - 3, "and optimizing clears them away"


LARGE = 800


def like_embeddings(rows: int, *, seed: int) -> FloatArray:
    """Unit vectors that, like those of texts, vary in far fewer directions than they have."""
    directions = np.random.default_rng(0).normal(size=(24, 384))
    mixed = np.random.default_rng(seed).normal(size=(rows, 24)) @ directions
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)


LARGE_VECTORS = like_embeddings(LARGE, seed=3)
LARGE_QUERIES = like_embeddings(25, seed=4)


def _dense_top(store: ChunkStore, query: FloatArray, limit: int = 10) -> list[str]:
    return ids(store, ask(query, "", limit=limit))


def _large(folder: Path, mode: QuantizationMode, *, rescore: bool) -> EdgeStore:
    store = edge(folder, mode, dimension=384, rescore=rescore)
    if len(store) == 0:
        chunks = [chunk(i) for i in range(LARGE)]
        nothing = [query_vector("")] * LARGE
        store.upsert(chunks, LARGE_VECTORS, nothing, [b""] * LARGE)
        store.optimize()
    return store


@pytest.fixture(scope="module")
def exact_top() -> list[list[str]]:
    order = np.argsort(-(LARGE_QUERIES @ LARGE_VECTORS.T), axis=1)[:, :10]
    return [[chunk(int(i)).id for i in row] for row in order]


@pytest.fixture(scope="module", params=[mode for mode in MODES if mode != "none"])
def large_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, QuantizationMode]:
    folder = tmp_path_factory.mktemp("large") / "index"
    _large(folder, request.param, rescore=True).close()
    return folder, request.param


Large = tuple[Path, QuantizationMode]


def test_codes_alone_rank_otherwise_than_exact(
    large_folder: Large, exact_top: list[list[str]]
) -> None:
    """The proof that quantized codes are really what is searched."""
    store = _large(*large_folder, rescore=False)
    found = [_dense_top(store, query) for query in LARGE_QUERIES]
    store.close()
    rescoring = _large(*large_folder, rescore=True)
    unscored = rescoring.searched_with(rescore=False)
    also_found = [_dense_top(unscored, query) for query in LARGE_QUERIES]
    rescoring.close()

    assert found != exact_top
    assert also_found != exact_top


def test_rescoring_with_oversampling_finds_what_exact_search_finds(
    large_folder: Large, exact_top: list[list[str]]
) -> None:
    store = _large(*large_folder, rescore=True)
    found = [_dense_top(store, query) for query in LARGE_QUERIES]
    store.close()
    overlap = [len({*one} & {*other}) for one, other in zip(found, exact_top, strict=True)]

    assert sum(overlap) / (10 * len(exact_top)) >= 0.99


def test_every_vector_of_a_small_collection_is_quantized(large_folder: Large) -> None:
    """The engine's own threshold would leave a few thousand chunks as they are."""
    store = _large(*large_folder, rescore=True)
    quantized = store.quantized
    store.close()

    assert quantized == LARGE


def test_mode_none_ranks_exactly(tmp_path: Path, exact_top: list[list[str]]) -> None:
    store = _large(tmp_path / "index", "none", rescore=False)

    assert [_dense_top(store, query) for query in LARGE_QUERIES] == exact_top


def test_coarser_codes_lose_more(tmp_path: Path, exact_top: list[list[str]]) -> None:
    """Bits lose more than bytes: the modes are not one configuration under several names."""
    recall = {}
    for mode in ("scalar", "binary"):
        store = _large(tmp_path / mode, mode, rescore=False)
        found = [_dense_top(store, query) for query in LARGE_QUERIES]
        recall[mode] = sum(len({*a} & {*b}) for a, b in zip(found, exact_top, strict=True))
        store.close()

    assert recall["scalar"] > recall["binary"]
