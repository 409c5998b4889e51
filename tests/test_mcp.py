"""What an agent meets, through the official client over streamable HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import App, indexing
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult, Tool
from provider import Answer, Provider, running, serve_embeddings
from pydantic import SecretStr

from backend.config import DEFAULT_COLLECTION
from backend.types import IndexProgress
from mcp_tools.gradio_endpoint import MCP_PATH

KEY = "sk-operator-0123456789abcdef"
pytestmark = pytest.mark.filterwarnings("ignore")  # Those of Gradio and uvicorn, in this process.


def call(app: App, tool: str, **arguments: object) -> CallToolResult:
    """Call a tool in a session of its own."""

    async def go(session: ClientSession) -> CallToolResult:
        return await session.call_tool(tool, arguments)

    return _session(app, go)


def answer(app: App, tool: str, **arguments: object) -> dict[str, Any]:
    """The JSON that a tool answers with."""
    result = call(app, tool, **arguments)
    assert not result.isError, result.content
    (content,) = result.content
    return json.loads(content.text)


def tools(app: App) -> dict[str, Tool]:
    async def go(session: ClientSession) -> list[Tool]:
        return (await session.list_tools()).tools

    return {tool.name: tool for tool in _session(app, go)}


def _session(app: App, go: Callable[[ClientSession], Any]) -> Any:
    async def talk() -> Any:
        url = app.url.rstrip("/") + MCP_PATH
        async with (
            streamablehttp_client(url) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await go(session)

    return asyncio.run(talk())


def test_exactly_three_tools_are_published(app: App) -> None:
    """Every public listener of the page would be a tool as well."""
    assert set(tools(app)) == {"search", "find_related", "list_collections"}


def test_tools_tell_what_they_search_and_take(app: App) -> None:
    search = tools(app)["search"]

    assert DEFAULT_COLLECTION in search.description
    assert "qdrant-client" in search.description
    assert search.inputSchema["required"] == ["query"]
    assert all(field["description"] for field in search.inputSchema["properties"].values())


def test_search_answers_with_the_place_and_both_ranks(app: App) -> None:
    found = answer(app, "search", query="send a failed batch again with a longer pause", top_k=3)

    first = found["hits"][0]
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert first["path"] in ("shop/retry.py", "docs/guide.md")
    assert first["source"].startswith("dir:")
    assert first["start_line"] <= first["end_line"]
    assert {"first_rank", "score", "symbol", "kind", "text"} <= first.keys()
    assert found["timings_ms"].keys() == {
        "read",
        "embed",
        "retrieve",
        "rank",
        "assess",
        "rerank",
        "total",
    }
    assert found["reranked"] == found["candidates"] > 0


def test_reranking_can_be_left_out(app: App) -> None:
    found = answer(app, "search", query="failed batch", rerank=False)

    assert found["reranked"] == 0
    assert all(hit["rank"] == hit["first_rank"] for hit in found["hits"])


def test_filters_limit_hits(app: App) -> None:
    found = answer(
        app,
        "search",
        query="batch",
        languages=["markdown"],
        kinds=["section"],
        path_prefix="docs/g",
    )

    assert {hit["path"] for hit in found["hits"]} == {"docs/guide.md"}


def test_long_hits_are_cut_and_say_so(app: App) -> None:
    found = answer(app, "search", query="enumerate all the constants", max_lines=2)

    first = found["hits"][0]
    assert first["symbol"] == "enumerate_constants"
    assert first["text_cut"] is True
    assert first["text"].count("\n") == 1


def test_collections_are_listed(app: App) -> None:
    listed = answer(app, "list_collections")

    assert listed["default"] == DEFAULT_COLLECTION
    chunks = {entry["name"]: entry["chunks"] for entry in listed["collections"]}
    assert chunks[DEFAULT_COLLECTION] > 0
    assert "preparing" not in listed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"query": "x", "top_k": 0}, "top_k is 0; it must lie between 1 and 100."),
        ({"query": "x", "top_k": 10_000}, "top_k is 10000; it must lie between 1 and 100."),
        ({"query": "x", "max_lines": 0}, "max_lines is 0; it must lie between 1 and 200."),
        ({"query": "x", "collection": "nope"}, "There is no collection 'nope'."),
        ({"query": "x", "collection": "../../etc"}, "There is no collection '../../etc'."),
        ({"query": "word " * 20_000}, "The query has 100,000 characters; 10,000 are allowed."),
        ({"query": "  \n "}, "The query is empty."),
        ({"query": 7}, "7 is not of type 'string'"),
        ({}, "'query' is a required property"),
    ],
)
def test_bad_arguments_get_one_clear_error(
    app: App, arguments: dict[str, object], told: str
) -> None:
    result = call(app, "search", **arguments)

    assert result.isError
    assert told in result.content[0].text
    assert "Traceback" not in result.content[0].text


def test_unexpected_errors_leak_nothing(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret /home/someone/key")

    monkeypatch.setattr(app.workspace, "search", fail)
    result = call(app, "search", query="anything")

    assert result.isError
    assert result.content[0].text == "The search failed inside the server; its log says why."


def test_tools_answer_at_once_while_the_collection_is_built(
    serve: Callable[..., App], corpus: Path
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow(on_progress: Callable[[IndexProgress], None]) -> None:
        on_progress(IndexProgress(phase="embed", chunks=3, chunks_total=12, seconds_left=4.2))
        reached.set()
        go_on.wait(60)

    building = serve(lambda workspace: slow)
    try:
        assert reached.wait(60)
        found = answer(building, "search", query="failed batch")
        listed = answer(building, "list_collections")
    finally:
        go_on.set()

    assert found["status"] == "preparing"
    assert found["hits"] == []
    progress = {
        "step": "index",
        "phase": "embed",
        "chunks": 3,
        "chunks_total": 12,
        "seconds_left": 4,
    }
    assert found["progress"] == progress
    assert listed == {"default": DEFAULT_COLLECTION, "collections": [], "preparing": progress}


def test_further_hits_of_a_file_stand_under_its_first(app: App) -> None:
    found = answer(app, "search", query="upload points", top_k=8)

    places = [(hit["source"], hit["path"]) for hit in found["hits"]]
    assert len(set(places)) == len(places)
    further = [one for hit in found["hits"] for one in hit.get("also", [])]
    assert further
    assert all(
        {"rank", "start_line", "end_line", "symbol", "text"} <= one.keys() for one in further
    )
    ranks = [hit["rank"] for hit in found["hits"]] + [one["rank"] for one in further]
    assert sorted(ranks) == list(range(1, len(ranks) + 1))


def test_confidence_and_a_floor_are_part_of_the_answer(app: App) -> None:
    assert answer(app, "search", query="weather in Paris tomorrow")["confidence"] == "none"
    empty = answer(app, "search", query="weather in Paris tomorrow", min_confidence="low")
    assert (empty["hits"], empty["withheld"]) == ([], 8)
    assert call(app, "search", query="x", min_confidence="sure").isError


def test_path_patterns_limit_hits(app: App) -> None:
    found = answer(app, "search", query="batch", paths=["shop/", "!helpers.py"])
    assert {hit["path"] for hit in found["hits"]} >= {"shop/retry.py"}
    assert all(hit["path"].startswith("shop/") for hit in found["hits"])
    assert "shop/helpers.py" not in {hit["path"] for hit in found["hits"]}

    refused = call(app, "search", query="batch", paths=["!"])
    assert refused.isError
    assert "is not a path pattern" in refused.content[0].text


def test_a_place_leads_to_what_resembles_it(app: App) -> None:
    found = answer(app, "find_related", path="shop/retry.py", line=5, top_k=2)

    assert found["place"]["path"] == "shop/retry.py"
    assert len(found["hits"]) == 2
    assert found["hits"][0]["similarity"] >= found["hits"][1]["similarity"]
    assert found["hits"][0]["text"]
    refused = call(app, "find_related", path="shop/rety.py", line=5)
    assert refused.isError
    assert "Did you mean shop/retry.py" in refused.content[0].text


def test_a_misspelled_name_says_how_it_was_read(app: App) -> None:
    found = answer(app, "search", query="send_wiht_retries")

    assert found["read_as"] == "send_with_retries"
    assert found["hits"][0]["path"] == "shop/retry.py"


# Models that a provider serves, and no longer does


@pytest.fixture(scope="module")
def provider(app: App) -> Iterator[Provider]:
    """Serves the model of `app`, and a reranker."""
    embedder = app.workspace.load().embedder
    with running(serve_embeddings(embedder.embed_query, key=KEY)) as served:
        yield served


@pytest.fixture(scope="module")
def served_elsewhere(serve: Callable[..., App], corpus: Path, provider: Provider) -> App:
    """The same project, with both models at the provider."""
    at = {"provider": "custom", "url": provider.url, "key": SecretStr(KEY)}
    settings = {f"{part}_{name}": at[name] for part in ("embedder", "reranker") for name in at}
    served = serve(
        indexing(corpus),
        **settings,
        reranker="acme/rank",
    )
    assert served.preparation.wait(timeout_s=300).step == "ready"
    return served


@pytest.fixture
def failing(provider: Provider) -> Iterator[Callable[[str], None]]:
    """Let the provider refuse the key for one of its paths, until the test is over."""
    behave = provider.behave

    def fail(path: str) -> None:
        provider.behave = lambda asked: (
            Answer(status=401) if asked.path.endswith(path) else behave(asked)
        )

    yield fail
    provider.behave = behave


QUERY = "send a failed batch again with a longer pause"


def test_a_whole_answer_says_nothing_of_what_could_have_been_missing(
    served_elsewhere: App,
) -> None:
    found = answer(served_elsewhere, "search", query=QUERY)

    assert not {"degraded", "note"} & found.keys()
    assert found["reranked"] == found["candidates"] > 0


def test_an_answer_without_the_embedding_model_says_so_and_why(
    served_elsewhere: App, failing: Callable[[str], None]
) -> None:
    failing("/embeddings")
    found = answer(served_elsewhere, "search", query=QUERY)

    assert found["degraded"].startswith("Found by words alone, without the embedding model: ")
    assert "refused the key" in found["degraded"]
    assert found["hits"][0]["path"] in ("shop/retry.py", "docs/guide.md")
    assert KEY not in json.dumps(found)


def test_an_answer_without_the_reranker_says_so_and_why(
    served_elsewhere: App, failing: Callable[[str], None]
) -> None:
    failing("/rerank")
    found = answer(served_elsewhere, "search", query=f"{QUERY}, please")

    assert "refused the key" in found["note"]
    assert (found["reranked"], "degraded" in found) == (0, False)
    assert all(hit["rank"] == hit["first_rank"] for hit in found["hits"])
    assert KEY not in json.dumps(found)
