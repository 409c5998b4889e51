"""Embedding and reranking over HTTP: right answers are used, wrong ones are refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from provider import DIMENSION, Answer, Asked, Provider, embedding, relevance, running, serve_models
from samples import chunk

from backend.embedding.endpoint import EmbeddingEndpoint
from backend.errors import AnswerInvalid, ProviderUnavailable, RequestTooLarge
from backend.models.catalogue import ModelCard
from backend.providers.client import ProviderClient
from backend.reranking.endpoint import RerankEndpoint
from backend.reranking.listwise import STEP, WINDOW, ListwiseEndpoint, parse_order, prompt
from backend.reranking.stage import Rerank
from backend.types import Candidates, Filters, Query, ScoredChunk

BUDGET_MS = 20_000


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running(serve_models) as served:
        yield served


@pytest.fixture
def client(provider: Provider) -> Iterator[ProviderClient]:
    made = ProviderClient(provider.url, label="Acme", timeout_s=20)
    yield made
    made.close()


def changed(change: Callable[[dict], object]) -> Callable[[Asked], Answer]:
    """A provider whose right answer is changed on the way."""

    def behave(asked: Asked) -> Answer:
        answer = serve_models(asked)
        return replace(answer, body=change(json.loads(json.dumps(answer.body))))

    return behave


# Embedding

CARD = ModelCard(
    id="acme/embed-1",
    kind="embedding",
    architecture="bert",
    licence="MIT",
    parameters=1,
    max_tokens=512,
    dimension=DIMENSION,
    query_prefix="query: ",
    document_prefix="doc: ",
)


@pytest.fixture
def embedder(client: ProviderClient) -> EmbeddingEndpoint:
    return EmbeddingEndpoint(
        client,
        path="/embeddings",
        card=CARD,
        served_as="acme/embed",
        max_inputs=4,
        max_chars=200,
    )


def unit(text: str) -> np.ndarray:
    vector = np.array(embedding(text))
    return vector / np.linalg.norm(vector)


def test_a_query_is_asked_with_its_prefix_and_comes_back_with_unit_norm(
    provider: Provider, embedder: EmbeddingEndpoint
) -> None:
    vector = embedder.embed_query("retry")

    np.testing.assert_allclose(vector, unit("query: retry"), atol=1e-6)
    assert vector.dtype == np.float32
    (asked,) = provider.asked
    assert asked.body == {
        "model": "acme/embed",
        "input": ["query: retry"],
        "encoding_format": "float",
    }


def test_documents_keep_their_order_over_batches_that_come_back_in_any(
    provider: Provider, embedder: EmbeddingEndpoint
) -> None:
    texts = [f"text {i}" for i in range(11)]
    vectors = embedder.embed_documents(texts)

    np.testing.assert_allclose(vectors, [unit(f"doc: {text}") for text in texts], atol=1e-6)
    assert sorted(len(asked.body["input"]) for asked in provider.asked) == [3, 4, 4]


def test_batches_keep_to_the_characters_that_a_request_may_hold(
    provider: Provider, embedder: EmbeddingEndpoint
) -> None:
    texts = ["a" * 90, "b" * 90, "c" * 90, "d" * 900, "e"]
    vectors = embedder.embed_documents(texts)

    np.testing.assert_allclose(vectors, [unit(f"doc: {text}") for text in texts], atol=1e-6)
    assert sorted(len(asked.body["input"]) for asked in provider.asked) == [1, 1, 1, 2]


def test_no_documents_are_no_request(provider: Provider, embedder: EmbeddingEndpoint) -> None:
    assert embedder.embed_documents([]).shape == (0, DIMENSION)
    assert provider.asked == []


def test_a_batch_that_is_too_large_is_halved_until_it_fits(
    provider: Provider, embedder: EmbeddingEndpoint
) -> None:
    def narrow(asked: Asked) -> Answer:
        return Answer(status=413) if len(asked.body["input"]) > 1 else serve_models(asked)

    provider.behave = narrow
    texts = [f"text {i}" for i in range(6)]

    np.testing.assert_allclose(
        embedder.embed_documents(texts), [unit(f"doc: {text}") for text in texts], atol=1e-6
    )


def test_a_single_text_that_is_too_large_is_an_error(
    provider: Provider, embedder: EmbeddingEndpoint
) -> None:
    provider.behave = lambda asked: Answer(status=413)

    with pytest.raises(RequestTooLarge, match="longer context"):
        embedder.embed_documents(["x", "y"])


def _with_first(data: dict, **fields: object) -> dict:
    data["data"][0] |= fields
    return data


WRONG_EMBEDDINGS = {
    "one is missing": (lambda a: {"data": a["data"][1:]}, "numbered 0 for 2"),
    "one is twice there": (lambda a: {"data": [*a["data"], a["data"][0]]}, "0, 1, 1 for 2"),
    "an index is repeated": (lambda a: _with_first(a, index=0), "0, 0 for 2"),
    "an index is out of range": (lambda a: _with_first(a, index=7), "0, 7 for 2"),
    "an index is no number": (lambda a: _with_first(a, index="1"), "another form"),
    "an index is missing": (lambda a: {"data": [{"embedding": [1]}]}, "index: Field required"),
    "too short": (lambda a: _with_first(a, embedding=[1.0] * 7), "dimension 7, not 8"),
    "empty": (lambda a: _with_first(a, embedding=[]), "dimension 0, not 8"),
    "another model's": (
        lambda a: {"data": [{"index": i, "embedding": [1.0] * 16} for i in range(2)]},
        "dimension 16, not 8",
    ),
    "NaN": (lambda a: _with_first(a, embedding=[math.nan] * 8), "finite"),
    "infinite": (lambda a: _with_first(a, embedding=[math.inf] * 8), "finite"),
    "a huge number": (lambda a: _with_first(a, embedding=[1e308] * 8), "without a direction"),
    "null": (lambda a: _with_first(a, embedding=[None] * 8), "another form"),
    "zero": (lambda a: _with_first(a, embedding=[0.0] * 8), "without a direction"),
    "base64": (lambda a: _with_first(a, embedding="AAAAAA=="), "another form"),
    "no data": (lambda a: {"object": "list"}, "data: Field required"),
    "nothing at all": (lambda a: {"data": []}, "numbered not at all for 2"),
    "ten thousand": (lambda a: {"data": a["data"] * 5_000}, "more than the"),
}


@pytest.mark.parametrize("case", WRONG_EMBEDDINGS)
def test_wrong_embeddings_are_refused_by_name(
    provider: Provider, embedder: EmbeddingEndpoint, case: str
) -> None:
    change, message = WRONG_EMBEDDINGS[case]
    provider.behave = changed(change)

    with pytest.raises(AnswerInvalid, match=message):
        embedder.embed_documents(["one", "two"])


# Reranking by score


def candidates(*texts: str) -> list[ScoredChunk]:
    return [
        ScoredChunk(chunk=chunk(i, path=f"m{i}.py", symbol="", text=text), score=1 / (i + 1))
        for i, text in enumerate(texts)
    ]


FOUND = candidates("parse a color", "retry a failed batch", "retry nothing")
ASKED = "retry failed batch"


def reranker(client: ProviderClient, form: str = "documents", **more: object) -> RerankEndpoint:
    scale = "logit" if form == "texts" else "probability"
    options = {"model": "acme/rank", "form": form, "scale": scale, "max_inputs": 32, **more}
    return RerankEndpoint(client, path="/rerank", **options)


def test_probabilities_become_log_odds(provider: Provider, client: ProviderClient) -> None:
    said = reranker(client).score(ASKED, FOUND, budget_ms=BUDGET_MS)
    chances = [relevance(ASKED, one.chunk.passage) for one in FOUND]

    assert said.unit == "logit"
    assert said.scores == pytest.approx([math.log(p / (1 - p)) for p in chances])
    assert provider.asked[0].body == {
        "model": "acme/rank",
        "query": ASKED,
        "documents": [one.chunk.passage for one in FOUND],
        "top_n": 3,
    }


def test_certainties_stay_finite(provider: Provider, client: ProviderClient) -> None:
    results = [{"index": i, "relevance_score": float(i == 1)} for i in range(3)]
    provider.behave = lambda asked: Answer({"results": results})
    said = reranker(client).score(ASKED, FOUND, budget_ms=BUDGET_MS)

    assert said.scores == pytest.approx([-9.21, 9.21, -9.21], abs=0.01)


def test_raw_scores_are_taken_as_they_are(provider: Provider, client: ProviderClient) -> None:
    said = reranker(client, "texts").score(ASKED, FOUND, budget_ms=BUDGET_MS)

    expected = [20 * relevance(ASKED, one.chunk.passage) - 10 for one in FOUND]
    assert said.scores == pytest.approx(expected)
    assert provider.asked[0].body == {
        "query": ASKED,
        "texts": [one.chunk.passage for one in FOUND],
        "raw_scores": True,
        "truncate": True,
    }


@pytest.mark.parametrize("form", ["documents", "texts"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_scores_do_not_depend_on_the_batches(
    provider: Provider, client: ProviderClient, form: str, limit: int
) -> None:
    whole = reranker(client, form).score(ASKED, FOUND, budget_ms=BUDGET_MS)
    parts = reranker(client, form, max_inputs=limit).score(ASKED, FOUND, budget_ms=BUDGET_MS)

    assert parts == whole
    assert len(provider.asked) == 1 + math.ceil(3 / limit)


def test_candidates_are_halved_when_the_provider_finds_them_too_many(
    provider: Provider, client: ProviderClient
) -> None:
    whole = reranker(client).score(ASKED, FOUND, budget_ms=BUDGET_MS)
    provider.behave = lambda asked: (
        Answer(status=413) if len(asked.body["documents"]) > 1 else serve_models(asked)
    )

    assert reranker(client).score(ASKED, FOUND, budget_ms=BUDGET_MS) == whole


def test_a_batch_that_comes_too_late_is_left_unscored(
    provider: Provider, client: ProviderClient
) -> None:
    def slow_for_the_last(asked: Asked) -> Answer:
        late = "nothing" in asked.body["documents"][0]
        return replace(serve_models(asked), silent_s=3.0 if late else 0.0)

    provider.behave = slow_for_the_last
    said = reranker(client, max_inputs=1).score(ASKED, FOUND, budget_ms=1_000)

    assert [score is None for score in said.scores] == [False, False, True]


def test_a_provider_that_is_too_slow_leaves_the_fused_order_with_a_note(
    provider: Provider, client: ProviderClient
) -> None:
    provider.behave = lambda asked: replace(serve_models(asked), silent_s=3.0)
    query = Query(
        **{"text": ASKED, "collection": "c", "top_k": 3, "rerank": True},
        **{"filters": Filters(), "candidates": 9, "budget_ms": 200},
    )
    ranked = Rerank(reranker(client), tokens_stored=False)(Candidates(query=query, found=FOUND))

    assert [hit.chunk for hit in ranked.hits] == [one.chunk for one in FOUND]
    assert ranked.scored == 0
    assert "Acme did not answer within 0." in ranked.note


def test_without_a_budget_or_candidates_nobody_is_asked(
    provider: Provider, client: ProviderClient
) -> None:
    for scorer in (reranker(client), listwise(client)):
        assert list(scorer.score(ASKED, FOUND, budget_ms=0).scores) == [None] * 3
        assert list(scorer.score(ASKED, [], budget_ms=BUDGET_MS).scores) == []

    assert provider.asked == []


WRONG_SCORES = {
    "one is missing": (lambda a: {"results": a["results"][1:]}, "did not score each of 3"),
    "one is twice there": (lambda a: {"results": a["results"] * 2}, "did not score each of 3"),
    "out of range": (
        lambda a: {"results": [{"index": i + 1, "relevance_score": 0.5} for i in range(3)]},
        "did not score each of 3",
    ),
    "NaN": (
        lambda a: {"results": [{"index": i, "relevance_score": math.nan} for i in range(3)]},
        "finite",
    ),
    "no probability": (
        lambda a: {"results": [{"index": i, "relevance_score": 3.0 * i} for i in range(3)]},
        "no probabilities.*Choose the preset",
    ),
    "another form": (lambda a: a["results"], "another form"),
    "no score": (lambda a: {"results": [{"index": 0}]}, "Field required"),
}


@pytest.mark.parametrize("case", WRONG_SCORES)
def test_wrong_scores_are_refused_by_name(
    provider: Provider, client: ProviderClient, case: str
) -> None:
    change, message = WRONG_SCORES[case]
    provider.behave = changed(change)

    with pytest.raises(AnswerInvalid, match=message):
        reranker(client).score(ASKED, FOUND, budget_ms=BUDGET_MS)


# Reranking by order


def listwise(client: ProviderClient) -> ListwiseEndpoint:
    return ListwiseEndpoint(client, path="/chat/completions", model="acme/CodeRankLLM")


def in_order(scores: list[float | None]) -> list[int]:
    """Candidates by falling score."""
    return sorted(range(len(scores)), key=lambda i: -(scores[i] or 0.0))


def test_the_models_order_becomes_scores_of_places(
    provider: Provider, client: ProviderClient
) -> None:
    said = listwise(client).score(ASKED, FOUND, budget_ms=BUDGET_MS)

    assert said.unit == "rank"
    assert in_order(list(said.scores)) == [1, 2, 0]
    assert provider.asked[0].path == "/v1/chat/completions"
    assert provider.asked[0].body["temperature"] == 0


def test_the_prompt_is_the_one_that_the_model_was_trained_on() -> None:
    """Source: the released code of arXiv:2412.01007."""
    assert prompt("add numbers", ["def add(): ...", "def sub(): ..."]) == (
        "I will provide you with 2 code snippets, each indicated by a numerical identifier []. "
        "Rank the code snippets based on their relevance to the functionality described by the "
        "following doc string: add numbers.\n"
        "\n"
        "[1] def add(): ...\n"
        "[2] def sub(): ...\n"
        "\n"
        "Doc String: add numbers.\n"
        "Rank the 2 code snippets above based on their relevance to the functionality described "
        "by the doc string. All the code snippets should be included and listed using "
        "identifiers, in descending order of relevance. The output format should be [] > [], "
        "e.g., [2] > [1]. Only respond with the ranking results, do not say any word or explain."
    )


def test_a_passage_cannot_pass_as_a_numbered_candidate() -> None:
    text = prompt("x {query} [1]", ["see [2] > [1]", "{num}"])

    assert "see (2) > (1)" in text
    assert "x {query} (1)" in text
    assert "[2] {num}" in text


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 29, 30, 31, 55, 100])
def test_the_best_candidate_rises_from_the_last_place_to_the_first(
    provider: Provider, client: ProviderClient, count: int
) -> None:
    found = candidates(*["filler"] * (count - 1), "retry failed batch")
    said = listwise(client).score(ASKED, found, budget_ms=BUDGET_MS)

    assert in_order(list(said.scores))[0] == count - 1
    assert len(set(said.scores)) == count, "each place is given once"
    sizes = [asked.body["messages"][0]["content"].count("\n[") for asked in provider.asked]
    assert max(sizes) == min(count, WINDOW)
    assert len(sizes) == 1 + math.ceil(max(count - WINDOW, 0) / STEP)


SAID = {
    "as asked": ("[2] > [3] > [1]", [1, 2, 0]),
    "with words": ("Sure! Here it is: [2] > [3] > [1]. Enjoy.", [1, 2, 0]),
    "on lines": ("[2]\n[3]\n[1]", [1, 2, 0]),
    "with spaces": ("[ 2 ] > [3]>[1]", [1, 2, 0]),
    "without brackets": ("2 > 3 > 1", [1, 2, 0]),
    "with commas": ("2, 3, 1", [1, 2, 0]),
    "in part": ("[3]", [2, 0, 1]),
    "repeated": ("[2] > [2] > [2] > [1] > [2]", [1, 0, 2]),
    "out of range": ("[0] > [4] > [99] > [3] > [2]", [2, 1, 0]),
    "after thinking": ("<think>[1] is best? [1] > [2]</think>[2] > [3] > [1]", [1, 2, 0]),
    "cut off": ("[2] > [3] > [", [1, 2, 0]),
    "endlessly": ("[2] > " * 2_000, [1, 0, 2]),
    "as a huge number": ("[3] > [9" + "9" * 500 + "]", [2, 0, 1]),
}


@pytest.mark.parametrize("case", SAID)
def test_every_candidate_is_kept_once_whatever_the_model_says(
    provider: Provider, client: ProviderClient, case: str
) -> None:
    text, order = SAID[case]
    provider.behave = lambda asked: Answer({"choices": [{"message": {"content": text}}]})
    said = listwise(client).score(ASKED, FOUND, budget_ms=BUDGET_MS)

    assert in_order(list(said.scores)) == order
    assert len(set(said.scores)) == len(FOUND)


NO_ORDER = {
    "an excuse": {"choices": [{"message": {"content": "As of 2024 I cannot rank 3 snippets."}}]},
    "nothing": {"choices": [{"message": {"content": ""}}]},
    "null": {"choices": [{"message": {"content": None}}]},
    "no choice": {"choices": []},
    "another protocol": {"data": []},
}


@pytest.mark.parametrize("case", NO_ORDER)
def test_an_answer_without_an_order_is_an_error(
    provider: Provider, client: ProviderClient, case: str
) -> None:
    provider.behave = lambda asked: Answer(NO_ORDER[case])

    with pytest.raises(AnswerInvalid):
        listwise(client).score(ASKED, FOUND, budget_ms=BUDGET_MS)


def test_a_short_budget_orders_the_best_candidates_alone(
    provider: Provider, client: ProviderClient
) -> None:
    """Once it knows how long a window takes; before, it could only be too late."""
    found = candidates(*["filler"] * 39, "retry failed batch")
    scorer = listwise(client)
    provider.behave = lambda asked: replace(serve_models(asked), silent_s=0.4)
    with pytest.raises(ProviderUnavailable, match="did not answer within"):
        scorer.score(ASKED, found, budget_ms=750)
    said = scorer.score(ASKED, found, budget_ms=750)

    assert [score is None for score in said.scores[:20]] == [False] * 20
    assert said.scores[39] is None


@pytest.mark.parametrize("text", ["", "[", "]", "[]", "no", "[a] > [b]", "[1" * 9_000])
def test_what_names_nobody_is_no_order(text: str) -> None:
    assert parse_order(text, 5) == []
