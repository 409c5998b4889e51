"""What a Qdrant server can do wrong, each as an error that tells the fix, and that it passes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr
from qdrant_client import models
from qdrant_server import Engine, Refused, serving
from samples import chunk

from backend.errors import (
    IndexDamaged,
    StoreError,
    StoreKeyRefused,
    StoreRefused,
    StoreTooOld,
    StoreUnavailable,
)
from backend.store.connection import ATTEMPTS, QdrantServer
from backend.store.server import ServerStore
from backend.types import Fusion, Quantization, SparseVector

FORM = {
    "dimension": 4,
    "quantization": Quantization(mode="none", rescore=True, oversampling=2.0),
    "fusion": Fusion(bm25_weight=0.05, depth=10),
}
KEY = "qd-0123456789abcdefghij"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


@pytest.fixture
def url(engine: Engine) -> Iterator[str]:
    with serving(engine) as address:
        yield address


@pytest.fixture
def server(url: str) -> Iterator[QdrantServer]:
    made = QdrantServer(url, timeout_s=60)
    yield made
    made.close()


def write(store: ServerStore, count: int = 3) -> None:
    chunks = [chunk(i) for i in range(count)]
    dense = np.eye(4, dtype=np.float32)[np.arange(count) % 4]
    store.upsert(chunks, dense, [SparseVector([1], [1.0])] * count, [b""] * count)


def test_a_server_that_is_down_is_an_error_with_its_address() -> None:
    server = QdrantServer("http://127.0.0.1:9", timeout_s=1)

    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9 cannot be reached.*Start it"):
        ServerStore.create(server, "c", **FORM)
    server.close()


def test_a_server_that_comes_back_is_used_again_without_a_restart(engine: Engine) -> None:
    with serving(engine) as url:
        server = QdrantServer(url, timeout_s=60)
        store = ServerStore.create(server, "c", **FORM)
        write(store)
    with pytest.raises(StoreUnavailable):
        len(store)
    with serving(engine, port=int(url.rpartition(":")[2])):
        assert len(store) == 3
    server.close()


def test_a_server_that_does_not_answer_in_time_is_not_waited_for(engine: Engine, url: str) -> None:
    impatient = QdrantServer(url, timeout_s=1)
    engine.before = lambda method, path: time.sleep(2.5)

    with pytest.raises(StoreUnavailable, match="did not answer within 1 s"):
        ServerStore.open(impatient, "c", **FORM)
    impatient.close()


def refusing(engine: Engine, status: int, times: int) -> list[str]:
    """Make the next requests fail; returns the paths that were asked for."""
    asked: list[str] = []

    def before(method: str, path: str) -> None:
        asked.append(path)
        if len(asked) <= times:
            raise Refused(status, "try later")

    engine.before = before
    return asked


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_failure_that_passes_is_not_noticed(
    engine: Engine, server: QdrantServer, status: int
) -> None:
    store = ServerStore.create(server, "c", **FORM)
    asked = refusing(engine, status, times=ATTEMPTS - 1)

    assert len(store) == 0
    assert len(asked) == ATTEMPTS


def test_retries_are_bounded(engine: Engine, server: QdrantServer) -> None:
    store = ServerStore.create(server, "c", **FORM)
    asked = refusing(engine, 503, times=99)

    with pytest.raises(StoreUnavailable, match="HTTP 503: try later"):
        len(store)
    assert len(asked) == ATTEMPTS


@pytest.mark.parametrize("version", ["1.18.4", "1.9.0", "0.11.7"])
def test_a_server_that_is_too_old_is_told_from_one_that_is_not(
    engine: Engine, server: QdrantServer, version: str
) -> None:
    engine.version = version

    with pytest.raises(StoreTooOld, match=rf"version {version}; 1\.19 is needed\. Update"):
        ServerStore.create(server, "c", **FORM)
    engine.version = "1.19.0"  # Updated meanwhile.
    assert len(ServerStore.create(server, "c", **FORM)) == 0


@pytest.mark.parametrize("version", ["1.19.0", "1.20.3-dev", "2.0.0"])
def test_newer_servers_are_welcome(engine: Engine, server: QdrantServer, version: str) -> None:
    engine.version = version

    assert len(ServerStore.create(server, "c", **FORM)) == 0


@pytest.mark.parametrize("key", [None, "qd-another-key-0123456789"])
def test_a_key_that_is_missing_or_wrong_is_told_and_not_repeated(
    engine: Engine, url: str, key: str | None
) -> None:
    engine.key = KEY
    server = QdrantServer(url, key=SecretStr(key) if key else None)

    with pytest.raises(StoreKeyRefused, match=r"does not accept the API key.*QDRANT_KEY") as caught:
        ServerStore.create(server, "c", **FORM)
    server.close()
    assert not key or key not in f"{caught.value} {server!r}"
    assert KEY not in f"{caught.value}"


def test_the_right_key_opens(engine: Engine, url: str) -> None:
    engine.key = KEY
    server = QdrantServer(url, key=SecretStr(f" {KEY}\n"))

    assert len(ServerStore.create(server, "c", **FORM)) == 0
    assert KEY not in repr(server)
    server.close()


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(StoreRefused, match="Copy it again"):
        QdrantServer("http://127.0.0.1:9", key=SecretStr(key))


@pytest.mark.parametrize(
    "url",
    [
        *["", "localhost:6333", "qdrant://x", "http://", "http://key@host:6333", "http://h:x"],
        *["http://host:6333?api-key=secret", "https://host/#x"],
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StoreRefused, match="RANKSCOPE_QDRANT_URL is not") as caught:
        QdrantServer(url)

    assert "secret" not in str(caught.value)
    assert "key@" not in str(caught.value)


def test_something_else_that_answers_is_not_taken_for_a_server(
    engine: Engine, server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qdrant_server.answer", lambda *asked: {"hello": "world"})

    with pytest.raises(StoreRefused, match="is not a Qdrant server"):
        ServerStore.create(server, "c", **FORM)


def test_a_collection_that_is_gone_says_to_index_again(server: QdrantServer) -> None:
    store = ServerStore.create(server, "c", **FORM)
    server.ask(lambda client: client.delete_collection("c"))

    with pytest.raises(IndexDamaged, match="Index the collection again"):
        len(store)
    with pytest.raises(IndexDamaged):
        ServerStore.open(server, "c", **FORM)


def test_a_collection_of_another_dimension_is_not_opened(server: QdrantServer) -> None:
    ServerStore.create(server, "c", **FORM)

    with pytest.raises(IndexDamaged, match="dimension 5"):
        ServerStore.open(server, "c", **{**FORM, "dimension": 5})


def test_points_that_are_no_chunks_are_not_shown(server: QdrantServer) -> None:
    """Somebody else wrote them."""
    store = ServerStore.create(server, "c", **FORM)
    point = models.PointStruct(id=7, vector={"dense": [1.0, 0, 0, 0]}, payload={"a": 1})
    server.ask(lambda client: client.upsert("c", [point], wait=True))

    with pytest.raises(IndexDamaged, match=r"Point 7 .* is not a chunk"):
        list(store.entries())


def test_a_collection_that_cannot_be_made_whole_is_not_left_behind(
    engine: Engine, server: QdrantServer
) -> None:
    def before(method: str, path: str) -> None:
        if path.startswith("/collections/c/index"):
            raise Refused(400, "Bad request: strict mode")

    engine.before = before
    with pytest.raises(StoreRefused, match="HTTP 400: Bad request: strict mode"):
        ServerStore.create(server, "c", **FORM)
    assert engine.collections == {}


def test_shards_replicas_and_metadata_are_what_was_asked_for(
    engine: Engine, server: QdrantServer
) -> None:
    ServerStore.create(server, "c", **FORM, shards=3, replicas=2, metadata={"a": {"b": [1]}})

    config = engine.collections["c"].config
    assert (config["shard_number"], config["replication_factor"]) == (3, 2)
    assert engine.collections["c"].metadata == {"a": {"b": [1]}}


def test_nothing_is_indexed_while_a_collection_is_filled(
    engine: Engine, server: QdrantServer
) -> None:
    store = ServerStore.create(server, "c", **FORM)
    thresholds = [engine.collections["c"].config["optimizers_config"]["indexing_threshold"]]
    write(store)
    store.optimize()
    thresholds.append(engine.collections["c"].config["optimizers_config"]["indexing_threshold"])

    assert thresholds == [0, 1]


def test_large_batches_are_cut_into_requests_that_a_server_takes(
    engine: Engine, server: QdrantServer
) -> None:
    store = ServerStore.create(server, "c", **FORM)
    write(store, count=1_100)
    upserts = [path for method, path in engine.requests if path.startswith("/collections/c/points")]

    assert len(upserts) == 3
    assert len(store) == 1_100


def test_the_stand_in_refuses_what_the_api_description_does_not_know(url: str) -> None:
    """Without this the whole suite would prove nothing."""
    server = QdrantServer(url)
    with pytest.raises(StoreError, match="propertes"):
        server.ask(
            lambda client: client.http.client.request(
                type_=None,
                method="PUT",
                url="/collections/x",
                json={"vectors": {}, "propertes": 1},
                params={},
            )
        )
    with pytest.raises(StoreError, match="is not valid"):
        server.ask(
            lambda client: client.http.client.request(
                type_=None,
                method="POST",
                url="/collections/x/points/query",
                json={"query": {"formula": {"summ": []}}},
                params={},
            )
        )
    server.close()
