"""Collections on a Qdrant server: whoever points at it sees the same, and it may come and go.

The server is a stand-in that checks each request against Qdrant's API description; with
`QDRANT_URL` set, those tests that need no failing server ask a real one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from qdrant_client import QdrantClient
from qdrant_server import Engine, Refused, serving
from samples import write_files

from backend.config import Settings
from backend.errors import (
    IdentityMismatch,
    StoreKeyRefused,
    StoreRefused,
    StoreUnavailable,
    UnknownCollection,
)
from backend.preparation import Preparation
from backend.types import IndexProgress, SearchResponse
from backend.workspace import Workspace

FILES = {
    "net/retry.py": "def send(batch):\n    '''Send a failed batch again, later each time.'''\n",
    "img/resize.py": "def resize(image, width):\n    '''Scale a picture to a width.'''\n",
    "db/backup.py": "def snapshot(path):\n    '''Write all tables to a file.'''\n",
}
ASKED = "send a failed batch again"
Open = Callable[..., Workspace]


@dataclass
class Server:
    """A server and the settings that lead to it."""

    settings: dict[str, object]
    engine: Engine | None
    """None when it is a real one."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if url := os.environ.get("QDRANT_URL"):
        key = os.environ.get("QDRANT_API_KEY")
        yield Server({"qdrant_url": url, "qdrant_key": SecretStr(key) if key else None}, None)
        return
    engine = Engine(tmp_path / "engine")
    engine.folder.mkdir()
    with serving(engine) as url:
        yield Server({"qdrant_url": url}, engine)


@pytest.fixture
def name(server: Server) -> Iterator[str]:
    """A collection's name that nobody has used, and will not see again."""
    made = f"shop-{uuid.uuid4().hex[:8]}"
    yield made
    key = server.settings.get("qdrant_key")
    client = QdrantClient(
        url=str(server.settings["qdrant_url"]),
        api_key=key.get_secret_value() if isinstance(key, SecretStr) else None,
        check_compatibility=False,
    )
    for one in client.get_collections().collections:
        if made in one.name:
            client.delete_collection(one.name)
    client.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "project", FILES)


@pytest.fixture
def machine(open_workspace: Open, server: Server) -> Open:
    """Opens a machine: a workspace with a data folder of its own, on the server."""
    return lambda **more: open_workspace(rerank=False, **server.settings, **more)


def paths(response: SearchResponse) -> list[str]:
    return [hit.chunk.path for hit in response.hits]


def test_a_collection_on_the_server_answers_as_one_in_the_data_folder(
    machine: Open, open_workspace: Open, name: str, folder: Path
) -> None:
    here, there = open_workspace(rerank=False), machine()
    for workspace in (here, there):
        workspace.index(folder, collection=name)
    expected, found = (w.search(ASKED, collection=name) for w in (here, there))

    assert paths(found) == paths(expected)
    assert [h.score for h in found.hits] == pytest.approx([h.score for h in expected.hits])
    assert there.facets(name) == here.facets(name)
    assert not (there.settings.data_dir / "collections").exists()
    only = there.search(ASKED, collection=name, path_prefix="db/")
    assert paths(only) == ["db/backup.py"]


def test_what_is_indexed_again_costs_what_has_changed(
    machine: Open, name: str, folder: Path
) -> None:
    workspace = machine()
    first = workspace.index(folder, collection=name)
    same = workspace.index(folder, collection=name)
    write_files(folder, {"net/retry.py": "def send():\n    '''Open a socket.'''\n"})
    (folder / "img/resize.py").unlink()
    changed = workspace.index(folder, collection=name)

    assert (first.embedded, same.changed, changed.embedded) == (3, False, 1)
    assert set(paths(workspace.search("socket", collection=name))) == {
        *("net/retry.py", "db/backup.py")
    }
    assert [info.chunks for info in workspace.collections() if info.name == name] == [2]


def test_two_machines_see_the_same_collections(machine: Open, name: str, folder: Path) -> None:
    one, other = machine(), machine()
    one.index(folder, collection=name, description="A shop.")
    (info,) = [info for info in other.collections() if info.name == name]

    assert (info.chunks, info.description) == (3, "A shop.")
    assert paths(other.search(ASKED, collection=name)) == paths(one.search(ASKED, collection=name))


def test_a_machine_with_another_model_is_refused(machine: Open, name: str, folder: Path) -> None:
    one, other = machine(), machine(embedder="nomic-ai/CodeRankEmbed")
    one.index(folder, collection=name)

    with pytest.raises(IdentityMismatch, match="was indexed with"):
        other.search(ASKED, collection=name)


def test_an_index_that_one_machine_replaces_is_searched_by_the_other_at_once(
    machine: Open, server: Server, name: str, folder: Path
) -> None:
    one, other = machine(quantization="none"), machine(quantization="scalar")
    one.index(folder, collection=name)
    assert one.search(ASKED, collection=name).index.quantization == "none"
    other.index(folder, collection=name)

    assert one.search(ASKED, collection=name).index.quantization == "scalar"
    if server.engine:
        assert len(server.engine.collections) == 1, "the one before is gone"


def test_a_machine_does_not_trust_its_notes_when_another_has_indexed_since(
    machine: Open, name: str, folder: Path, tmp_path: Path
) -> None:
    one, other = machine(), machine()
    one.index(folder, collection=name)
    other.index(write_files(tmp_path / "less", {"a.py": FILES["net/retry.py"]}), collection=name)
    report = one.index(folder, collection=name)

    assert report.info.chunks == 3
    assert set(paths(other.search(ASKED, collection=name))) == {*FILES}


def test_indexing_that_the_server_breaks_off_goes_on_when_it_is_back(
    open_workspace: Open, tmp_path: Path
) -> None:
    engine = Engine(tmp_path / "engine")
    engine.folder.mkdir()
    files = {f"m{i}.py": f"def f_{i}():\n    '''Part {i}.'''\n" for i in range(300)}
    folder = write_files(tmp_path / "many", files)
    with serving(engine) as url:
        workspace = open_workspace(rerank=False, qdrant_url=url, qdrant_timeout_s=60)
        upserts = 0

        def before(method: str, path: str) -> None:
            nonlocal upserts
            upserts += method == "put" and "/points" in path
            if upserts > 1:
                raise Refused(503, "shutting down")

        engine.before = before
        with pytest.raises(StoreUnavailable):
            workspace.index(folder, collection="shop")
        engine.before = lambda method, path: None
        with pytest.raises(UnknownCollection):
            workspace.search("part", collection="shop")
        report = workspace.index(folder, collection="shop")

        assert report.info.chunks == 300
        assert 0 < report.embedded < 300, "what was written before is not embedded again"
        assert len(engine.collections) == 1


def test_searches_fail_clearly_while_the_server_is_down_and_then_go_on(
    open_workspace: Open, tmp_path: Path, folder: Path
) -> None:
    engine = Engine(tmp_path / "engine")
    engine.folder.mkdir()
    with serving(engine) as url:
        workspace = open_workspace(rerank=False, qdrant_url=url, qdrant_timeout_s=60)
        workspace.index(folder, collection="shop")
        before = paths(workspace.search(ASKED, collection="shop"))
        assert [info.name for info in workspace.collections()] == ["shop"]
    with pytest.raises(StoreUnavailable, match=r"cannot be reached.*then ask again"):
        workspace.search(ASKED, collection="shop")
    assert [info.name for info in workspace.collections()] == ["shop"], "as last seen"
    with serving(engine, port=int(url.rpartition(":")[2])):
        assert paths(workspace.search(ASKED, collection="shop")) == before


def test_an_app_that_starts_before_its_server_prepares_once_that_is_there(
    open_workspace: Open, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.preparation.RETRY_S", 0.2)
    engine = Engine(tmp_path / "engine")
    engine.folder.mkdir()
    with serving(engine) as url:
        pass
    workspace = open_workspace(rerank=False, qdrant_url=url, qdrant_timeout_s=60)
    told: list[IndexProgress] = []
    preparation = Preparation(
        workspace,
        build=lambda on_progress: workspace.index(
            folder, collection="shop", on_progress=lambda progress: told.append(progress)
        ),
    )
    preparation.start()
    while preparation.readiness.step != "failed":
        preparation.wait(timeout_s=0.1)
    assert "cannot be reached" in preparation.readiness.message
    with serving(engine, port=int(url.rpartition(":")[2])):
        assert preparation.wait(timeout_s=120).step == "ready"
        assert len(paths(workspace.search(ASKED, collection="shop"))) == 3


def test_a_wrong_key_is_told_with_the_setting_that_holds_it(
    open_workspace: Open, tmp_path: Path, folder: Path
) -> None:
    engine = Engine(tmp_path, key="right-key-0123456789")
    with serving(engine) as url:
        workspace = open_workspace(qdrant_url=url, qdrant_key=SecretStr("wrong-key-0123456789"))
        with pytest.raises(StoreKeyRefused, match="RANKSCOPE_QDRANT_KEY") as caught:
            workspace.index(folder, collection="shop")
    assert "wrong-key" not in f"{caught.value} {workspace.settings!r}"


def test_an_address_that_is_none_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="RANKSCOPE_QDRANT_URL"):
        Workspace(settings=Settings(data_dir=tmp_path, qdrant_url="localhost:6333"))
    Workspace(tmp_path).close()
