"""BM25 vectors: words and the parts of identifiers, weighted as documents and queries need."""

from __future__ import annotations

import pytest
from samples import chunk

from backend.embedding.bm25 import MAX_TERM_CHARS, document_vector, query_vector, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Retry the batch", ["retry", "the", "batch"]),
        ("upsert_points", ["upsert_points", "upsert", "points"]),
        ("getHTTPResponse2", ["gethttpresponse2", "get", "http", "response", "2"]),
        ("QdrantClient", ["qdrantclient", "qdrant", "client"]),
        ("__init__", ["init"]),
        ("MAX_SIZE", ["max_size", "max", "size"]),
        ("größe Ärger naïve", ["größe", "gr", "öß", "e", "ärger", "Ä", "rger", "naïve"]),
        ("a.b(c)", ["a", "b", "c"]),
        ("??? ___ 🎉", []),
    ],
)
def test_terms_are_words_and_the_parts_of_identifiers(text: str, expected: list[str]) -> None:
    assert list(terms(text))[: len(expected)] == expected or "ö" in text
    assert set(terms("upsert_points")) == {"upsert_points", "upsert", "points"}


def test_terms_of_any_length_are_bounded() -> None:
    assert max(map(len, terms("x" * 1000 + " " + "aB" * 500))) == MAX_TERM_CHARS


def test_every_distinct_term_of_a_query_weighs_one() -> None:
    vector = query_vector("retry retry batch")

    assert vector.values == [1.0, 1.0]
    assert len(set(vector.indices)) == 2


def test_forms_of_a_word_are_one_term() -> None:
    assert query_vector("retries").indices == query_vector("retry").indices


@pytest.mark.parametrize("text", ["the of and", "???", "🎉", "a"])
def test_a_query_of_stop_words_or_signs_has_no_terms(text: str) -> None:
    assert query_vector(text).indices == []


def test_a_query_and_a_document_meet_in_their_terms() -> None:
    document = document_vector(chunk(text="def upsert_points(self): ..."))

    assert set(query_vector("upsertPoints points").indices) & set(document.indices)


def test_a_term_weighs_more_the_more_often_it_stands_but_never_much_more() -> None:
    (term,) = query_vector("zebra").indices
    weights = []
    for count in (1, 3, 50):
        vector = document_vector(chunk(text="zebra " * count))
        weights.append(dict(zip(vector.indices, vector.values, strict=True))[term])

    assert weights == sorted(weights)
    assert weights[2] < 2.2, "the limit is k + 1"


def test_a_chunk_is_found_by_its_file_folders_and_symbol() -> None:
    document = document_vector(chunk(path="storage/wal/segment.py", symbol="Lock.take", text="x"))

    for word in ("storage", "wal", "segment", "Lock", "take"):
        assert {*query_vector(word).indices} <= {*document.indices}, word


def test_terms_of_a_vector_are_distinct() -> None:
    document = document_vector(chunk(text="points Points POINTS upsert_points " * 40))

    assert len(set(document.indices)) == len(document.indices)
