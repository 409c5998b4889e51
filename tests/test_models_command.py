"""`python -m backend models`, against a stand-in for the hub and a user's own entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub import COMMIT, StandIn, hub
from samples import write_files
from tiny import DIMENSION, cross_encoder_repository, embedding_repository

from backend import shelf
from backend.__main__ import main
from backend.errors import IdentityMismatch, ModelUnavailable
from backend.models.catalogue import BUNDLED_RERANKER
from backend.workspace import Workspace

OWN = f"""
[[model]]
id = "acme/tiny"
kind = "embedding"
architecture = "nomic_bert"
licence = "MIT"
parameters = 10
max_tokens = 128
dimension = {DIMENSION}
pooling = "cls"
download_bytes = 1000000
[[model]]
id = "acme/twin"
kind = "embedding"
architecture = "nomic_bert"
licence = "[/MIT]"
parameters = 10
max_tokens = 128
dimension = {DIMENSION}
pooling = "cls"
[[model]]
id = "acme/judge"
kind = "cross-encoder"
architecture = "bert"
licence = "MIT"
parameters = 10
max_tokens = 128
query_precision = "int8"
"""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    (tmp_path / "own.toml").write_text(OWN)
    monkeypatch.setenv("RANKSCOPE_MODELS_FILE", str(tmp_path / "own.toml"))
    monkeypatch.setenv("RANKSCOPE_DATA_DIR", str(tmp_path / "data"))
    with hub() as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        stand_in.repositories["acme/tiny"] = tmp_path / "tiny"
        embedding_repository(tmp_path / "tiny", "nomic_bert", pooling="cls", prompts={})
        yield stand_in


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, object]]:
    """Run a command with --json; returns its exit status and what it printed."""

    def run_one(*arguments: str) -> tuple[int, object]:
        status = main(["models", *arguments, "--json"])
        return status, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run_one


def listed(answer: object, id: str) -> dict:
    assert isinstance(answer, list)
    return next(model for model in answer if model["card"]["id"] == id)


def test_a_model_is_listed_prepared_tested_and_timed(
    served: StandIn, run: Callable[..., tuple[int, object]]
) -> None:
    before = listed(run("list")[1], "acme/tiny")
    status, prepared = run("prepare", "acme/tiny")
    after = listed(run("list")[1], "acme/tiny")

    assert (before["state"], before["measured"]) == ("to fetch", False)
    assert status == 0
    assert prepared == after
    assert (after["state"], after["measured"], after["revision"]) == ("ready", True, COMMIT)
    assert after["query_ms"] > 0
    status, times = run("bench", "acme/tiny")
    assert status == 0
    assert list(times) == ["5", "20", "60"]
    assert all(ms > 0 for ms in times.values())


def test_a_model_that_works_passes_its_test_and_one_that_does_not_fails_by_name(
    run: Callable[..., tuple[int, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Random weights prefer nothing, so the bundled reranker is asked."""
    status, checks = run("test", BUNDLED_RERANKER)
    assert status == 0
    assert checks[0]["passed"]

    related, unrelated = shelf._RELATED, shelf._UNRELATED
    monkeypatch.setattr("backend.shelf._RELATED", unrelated)
    monkeypatch.setattr("backend.shelf._UNRELATED", related)
    status, answer = run("test", BUNDLED_RERANKER)
    assert status == 1
    assert "prefers what is related" in answer["error"]


def test_the_list_for_people_tells_state_size_and_speed(
    served: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}

    assert "by endpoint" in lines["nomic-ai/CodeRankLLM"]
    assert "[/MIT]" in lines["acme/twin"], "no markup is read in an entry"
    assert "would fetch 28.3 GB" in lines["nomic-ai/nomic-embed-code"]
    assert "* " in lines["sentence-transformers/all-MiniLM-L6-v2"]


def test_what_does_not_fit_into_memory_is_marked_and_refused(
    served: StandIn,
    run: Callable[..., tuple[int, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run("prepare", "acme/tiny")
    monkeypatch.setattr("backend.shelf.free_memory", lambda: 1000)
    monkeypatch.setattr("backend.embedding.local.free_memory", lambda: 1000)
    status, answer = run("test", "acme/tiny")

    assert listed(run("list")[1], "acme/tiny")["fits"] is False
    assert status == 1
    assert "GB of memory" in answer["error"]
    assert "RANKSCOPE_EMBEDDER_PRECISION" in answer["fix"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("prepare",), "needs the id"),
        (("prepare", "acme/none"), "not in the catalogue"),
        (("prepare", "nomic-ai/CodeRankLLM"), "by an endpoint only"),
        (("test", "acme/tiny"), "is not prepared"),
        (("prepare", "nomic-ai/CodeRankEmbed"), "no such repository"),
    ],
)
def test_what_cannot_be_done_is_told_with_its_fix(
    arguments: tuple[str, ...],
    error: str,
    served: StandIn,
    run: Callable[..., tuple[int, object]],
) -> None:
    status, answer = run(*arguments)

    assert status == 1
    assert error in answer["error"]
    assert answer["fix"]


def test_a_collection_is_made_and_searched_with_another_model_and_belongs_to_it(
    served: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the settings name is fetched by itself if it is small, and recorded with the index."""
    source = write_files(tmp_path / "s", {"a.py": "def send(): pass\n"})
    monkeypatch.setenv("RANKSCOPE_EMBEDDER", "acme/tiny")
    with Workspace() as workspace:
        identity = workspace.index(source, collection="shop").info.identity
        response = workspace.search("send", collection="shop")

        assert (identity.model, identity.revision) == ("acme/tiny", COMMIT)
        assert (identity.dimension, identity.pooling) == (DIMENSION, "cls")
        assert identity.probe.startswith("float32:")
        assert response.degraded == ""
        assert response.hits
    monkeypatch.setenv("RANKSCOPE_EMBEDDER", "acme/twin")
    served.repositories["acme/twin"] = served.repositories["acme/tiny"]
    with Workspace() as workspace:
        workspace.index(source, collection="twins")
        with pytest.raises(
            IdentityMismatch,
            match=r"not 'acme/twin'.*EMBEDDER=acme/tiny, search twins.*--collection shop",
        ):
            workspace.search("send", collection="shop")


def test_a_cross_encoder_of_the_hub_reranks(
    served: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.repositories["acme/judge"] = tmp_path / "judge"
    cross_encoder_repository(tmp_path / "judge")
    source = write_files(
        tmp_path / "s", {f"{name}.py": f"def {name}(): pass\n" for name in ("send", "read")}
    )
    monkeypatch.setenv("RANKSCOPE_EMBEDDER", "acme/tiny")
    monkeypatch.setenv("RANKSCOPE_RERANKER", "acme/judge")
    with Workspace() as workspace:
        workspace.index(source, collection="shop")
        response = workspace.search("send", collection="shop", budget_ms=10_000)

        assert response.reranked == len(response.hits) == 2
        assert all(hit.rerank_score is not None for hit in response.hits)


def test_a_model_of_gigabytes_is_never_fetched_by_a_start(
    served: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKSCOPE_EMBEDDER", "nomic-ai/nomic-embed-code")
    with (
        Workspace() as workspace,
        pytest.raises(ModelUnavailable, match="models prepare nomic-ai/nomic-embed-code"),
    ):
        workspace.load()
    assert not served.asked
