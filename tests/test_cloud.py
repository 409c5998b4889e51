"""Searching with models that a provider serves: the same space, or none; and never no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from provider import Answer, Provider, running, serve_embeddings
from pydantic import SecretStr
from samples import write_files

from backend.build import Models
from backend.errors import (
    AddressRefused,
    IdentityMismatch,
    KeyRefused,
    ProviderUnavailable,
    RequestRefused,
)
from backend.providers.serving import Serving
from backend.query import make_query
from backend.types import Filters, SearchResponse
from backend.workspace import Workspace

KEY = "sk-visitor-0123456789abcdef"
FILES = {
    "net/retry.py": "def send(batch):\n    '''Send a failed batch again, later each time.'''\n",
    "img/resize.py": "def resize(image, width):\n    '''Scale a picture to a width.'''\n",
    "db/backup.py": "def snapshot(path):\n    '''Write all tables to a file.'''\n",
}


@pytest.fixture(scope="module")
def workspace(
    open_workspace: Callable[..., Workspace], tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """`FILES` as the collection `shop`, embedded here."""
    made = open_workspace(rerank_budget_ms=10_000)
    made.index(write_files(tmp_path_factory.mktemp("shop"), FILES), collection="shop")
    return made


@pytest.fixture
def provider(workspace: Workspace) -> Iterator[Provider]:
    """Serves the very model that the collection was embedded with, under a key."""
    embedder = workspace.load().embedder
    with running(serve_embeddings(embedder.embed_query, key=KEY)) as served:
        yield served


def at(provider: Provider, **fields: object) -> Serving:
    return Serving(
        **{"provider": "custom", "url": provider.url, "key": SecretStr(KEY), **fields},
    )


@contextmanager
def connected(workspace: Workspace, **serving: Any) -> Iterator[Models]:
    """The models of a visit, until it ends."""
    models = workspace.connect("shop", **serving)
    try:
        yield models
    finally:
        models.disconnect()


def search(
    workspace: Workspace, text: str, models: object = None, *, rerank: bool = False
) -> SearchResponse:
    query = make_query(
        text,
        collection="shop",
        settings=workspace.settings,
        filters=Filters(),
        rerank=rerank,
    )
    *_, response = workspace.stream(query, models)
    return response


def test_a_provider_of_the_same_model_queries_what_was_embedded_here(
    workspace: Workspace, provider: Provider
) -> None:
    with connected(workspace, embedder=at(provider, served_as="minilm")) as models:
        here, there = (search(workspace, "scale an image", m) for m in (None, models))

    assert there.degraded == ""
    assert [hit.chunk for hit in there.hits] == [hit.chunk for hit in here.hits]
    assert [hit.score for hit in there.hits] == pytest.approx([hit.score for hit in here.hits])
    assert {asked.body["model"] for asked in provider.asked} == {"minilm"}
    assert provider.asked[-1].body["input"] == ["scale an image"]


def test_a_model_of_equal_dimension_but_other_vectors_is_refused(
    workspace: Workspace, provider: Provider
) -> None:
    other = np.random.default_rng(1).normal(size=384).tolist()
    provider.behave = lambda asked: Answer({"data": [{"index": 0, "embedding": other}]})

    with pytest.raises(IdentityMismatch, match="gives other vectors now"):
        workspace.connect("shop", embedder=at(provider))


def test_a_wrong_key_is_told_at_once_and_not_repeated(
    workspace: Workspace, provider: Provider
) -> None:
    with pytest.raises(KeyRefused, match="Enter a valid key") as caught:
        workspace.connect("shop", embedder=at(provider, key=SecretStr("sk-wrong-123456")))

    assert "sk-wrong" not in str(caught.value)


def test_a_key_that_is_revoked_later_leaves_the_search_by_words(
    workspace: Workspace, provider: Provider
) -> None:
    with connected(workspace, embedder=at(provider)) as models:
        provider.behave = lambda asked: Answer(status=401)
        response = search(workspace, "failed batch", models)

    assert [hit.chunk.path for hit in response.hits] == ["net/retry.py"]
    assert "words alone" in response.degraded
    assert "refused the key" in response.degraded


def test_a_provider_that_goes_down_leaves_the_search_by_words_and_comes_back(
    workspace: Workspace, provider: Provider
) -> None:
    with connected(workspace, embedder=at(provider)) as models:
        serve = provider.behave
        provider.behave = lambda asked: Answer(hang_up=True)
        down = search(workspace, "failed batch", models)
        provider.behave = serve
        up = search(workspace, "failed batch", models)

    assert "cannot be reached" in down.degraded
    assert [hit.chunk.path for hit in down.hits] == ["net/retry.py"]
    assert up.degraded == ""
    assert len(up.hits) == 3


def test_a_providers_reranker_orders_the_hits(workspace: Workspace, provider: Provider) -> None:
    with connected(workspace, reranker="acme/rank", reranking=at(provider)) as models:
        response = search(workspace, "write all tables to a file", models, rerank=True)

    assert response.hits[0].chunk.path == "db/backup.py"
    assert (response.reranked, response.rerank_note) == (3, "")
    assert provider.asked[-1].path == "/v1/rerank"
    assert provider.asked[-1].body["model"] == "acme/rank"


def test_a_listwise_model_of_the_catalogue_is_asked_to_chat(
    workspace: Workspace, provider: Provider
) -> None:
    with connected(workspace, reranker="nomic-ai/CodeRankLLM", reranking=at(provider)) as models:
        response = search(workspace, "write all tables to a file", models, rerank=True)

    assert response.hits[0].chunk.path == "db/backup.py"
    assert (response.reranked, response.rerank_unit) == (3, "rank")
    assert provider.asked[-1].path == "/v1/chat/completions"
    assert provider.asked[-1].body["model"] == "nomic-ai/CodeRankLLM"


def test_a_reranker_that_fails_leaves_the_first_stages_order_and_says_why(
    workspace: Workspace, provider: Provider
) -> None:
    with connected(workspace, reranker="acme/rank", reranking=at(provider)) as models:
        provider.behave = lambda asked: Answer(b"<html>Gateway</html>")
        response = search(workspace, "write all tables", models, rerank=True)

    assert [hit.rank for hit in response.hits] == [hit.first_rank for hit in response.hits]
    assert response.reranked == 0
    assert "a web page, not JSON" in response.rerank_note


@pytest.mark.parametrize(
    ("provider_name", "url", "error"),
    [
        ("custom", "", AddressRefused),
        ("custom", "http://10.0.0.1/v1", AddressRefused),
        ("custom", "https://127.0.0.1/v1", AddressRefused),
        ("ollama", "", AddressRefused),
        ("cohere", "", RequestRefused),
    ],
)
def test_a_visitor_cannot_name_what_may_not_be_called(
    workspace: Workspace, provider_name: str, url: str, error: type[Exception]
) -> None:
    """Cohere could be called, but does not embed in OpenAI's form."""
    with pytest.raises(error):
        workspace.connect(
            "shop", embedder=Serving(provider=provider_name, url=url, restricted=True)
        )


# Configured by the operator


def test_a_configured_provider_embeds_documents_and_queries(
    open_workspace: Callable[..., Workspace], provider: Provider, tmp_path: Path
) -> None:
    made = open_workspace(
        embedder_provider="custom", embedder_url=provider.url, embedder_key=SecretStr(KEY)
    )
    report = made.index(write_files(tmp_path, FILES), collection="shop")
    response = search(made, "make a picture smaller")

    assert report.info.identity.document_precision == "endpoint"
    assert response.hits[0].chunk.path == "img/resize.py"
    assert response.degraded == ""
    assert [len(asked.body["input"]) for asked in provider.asked] == [1, 3, 1, 1]


def test_the_configured_key_stays_out_of_settings_that_are_shown(
    open_workspace: Callable[..., Workspace], provider: Provider
) -> None:
    made = open_workspace(
        embedder_provider="custom",
        embedder_url=provider.url,
        embedder_key=SecretStr(KEY),
        reranker_key=SecretStr(KEY),
    )

    shown = f"{made.settings!r} {made.settings} {made.settings.model_dump()} {made.load()!r}"
    assert KEY not in shown
    assert KEY not in made.settings.model_dump_json()


def test_a_configured_provider_that_is_down_stops_indexing_with_its_name(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    made = open_workspace(
        embedder_provider="custom", embedder_url="http://127.0.0.1:9/v1", provider_timeout_s=1
    )

    with pytest.raises(
        ProviderUnavailable, match=r"The provider at 127\.0\.0\.1 cannot be reached"
    ):
        made.index(write_files(tmp_path, FILES), collection="shop")


def test_a_reranker_that_nobody_serves_is_told_with_the_answer(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    made = open_workspace(reranker="nomic-ai/CodeRankLLM")
    made.index(write_files(tmp_path, FILES), collection="shop")

    assert "RANKSCOPE_RERANKER_PROVIDER" in search(made, "tables", rerank=True).rerank_note
