"""The cross-encoder keeps to its budget, and its opinion moves hits without losing any."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from samples import chunk

from backend.build import RERANKER
from backend.errors import ModelUnavailable
from backend.inference.session import OnnxModel, TokenRow
from backend.reranking.blend import blend, normal_scores
from backend.reranking.cross_encoder import CrossEncoder, check_files
from backend.reranking.stage import Rerank, first_stage_order
from backend.reranking.window import best_window
from backend.types import Candidates, Filters, PairScores, Query, ScoredChunk

UNLIMITED_MS = 60_000
ANSWER = "def send_with_retries(batch):\n    '''Send a failed batch again.'''\n"
OTHER = "def parse_color(name):\n    '''Read a color from its name.'''\n"


@pytest.fixture
def encoder() -> Iterator[CrossEncoder]:
    """A fresh one: it remembers scores."""
    made = CrossEncoder(RERANKER, threads=2)
    yield made
    made.close()


def candidates(*texts: str) -> list[ScoredChunk]:
    return [
        ScoredChunk(chunk=chunk(i, path=f"m{i}.py", symbol="", text=text), score=1 / (i + 1))
        for i, text in enumerate(texts)
    ]


def score(
    encoder: CrossEncoder, query: str, found: list[ScoredChunk], *, budget_ms: float
) -> list[float | None]:
    return list(encoder.score(query, found, budget_ms=budget_ms).scores)


def many(count: int) -> list[ScoredChunk]:
    return candidates(*(f"def f_{i}(x):\n" + f"    x = work(x, {i})\n" * 30 for i in range(count)))


def test_what_answers_scores_above_what_does_not(encoder: CrossEncoder) -> None:
    asked = "where is a failed batch sent again"
    other, answer = score(encoder, asked, candidates(OTHER, ANSWER), budget_ms=UNLIMITED_MS)

    assert other is not None
    assert answer is not None
    assert answer > other


def test_scores_do_not_depend_on_who_tokenized_or_on_the_company(encoder: CrossEncoder) -> None:
    """An int8 model would tell, for it scales its activations by all that it sees at once."""
    found = many(5)
    tokens = encoder.tokenize([one.chunk.passage for one in found])
    stored = [
        ScoredChunk(chunk=one.chunk, score=one.score, tokens=packed)
        for one, packed in zip(found, tokens, strict=True)
    ]
    together = score(encoder, "work on x", found, budget_ms=UNLIMITED_MS)
    fresh = CrossEncoder(RERANKER, threads=1)
    alone = [score(fresh, "work on x", [one], budget_ms=UNLIMITED_MS)[0] for one in stored]
    fresh.close()

    assert together == alone


@pytest.mark.parametrize("budget_ms", [0, 0.001])
def test_without_time_nothing_is_scored(encoder: CrossEncoder, budget_ms: float) -> None:
    assert score(encoder, "x", many(4), budget_ms=budget_ms) == [None] * 4


def test_a_short_budget_is_kept_and_the_best_candidates_are_scored_first(
    encoder: CrossEncoder,
) -> None:
    """Candidates are taken in waves of eight: no wave is begun before the one ahead of it."""
    found = many(100)
    started = time.perf_counter()
    scores = score(encoder, "work on x", found, budget_ms=120)
    spent_ms = (time.perf_counter() - started) * 1000
    scored = [i for i, score in enumerate(scores) if score is not None]

    assert len(scored) < 100
    assert spent_ms < 120 + 400, "a batch that was begun may end; other work shares these cores"
    assert not scored or len(scored) > max(scored) // 8 * 8 - 8


def test_a_pair_that_was_scored_before_takes_no_time(encoder: CrossEncoder) -> None:
    found = many(6)
    first = score(encoder, "work on x", found, budget_ms=UNLIMITED_MS)

    assert score(encoder, "work on x", found, budget_ms=0) == first
    assert encoder.score("work on x", found, budget_ms=0).remembered == 6
    assert score(encoder, "work on y", found, budget_ms=0) == [None] * 6


def test_no_candidates_have_no_scores(encoder: CrossEncoder) -> None:
    assert score(encoder, "x", [], budget_ms=UNLIMITED_MS) == []


def test_any_text_can_be_scored(encoder: CrossEncoder) -> None:
    texts = [
        "",
        " ",
        "🎉" * 50,
        "a\0b",
        "x" * 100_000,
        "word " * 50_000,
        "日本語",
        "\n\n\n",
        "[SEP]",
    ]
    for query in ("x", "word " * 2000, "🎉", "\0", "[CLS]"):
        scores = score(encoder, query, candidates(*texts), budget_ms=UNLIMITED_MS)
        assert all(isinstance(score, float) for score in scores), query


def test_queries_side_by_side_get_their_own_scores(encoder: CrossEncoder) -> None:
    found = many(4)
    asked = [f"work on x {i}" for i in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda q: score(encoder, q, found, budget_ms=UNLIMITED_MS), asked))
    fresh = CrossEncoder(RERANKER, threads=1)
    alone = [score(fresh, query, found, budget_ms=UNLIMITED_MS) for query in asked]
    fresh.close()

    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=0.3)


@pytest.mark.parametrize("damage", ["other bytes", "cut off", "missing", "no sums", "bad sums"])
def test_damaged_weights_are_refused_with_the_fix(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "reranker"
    shutil.copytree(RERANKER, folder)
    sums, model = folder / "SHA256SUMS", folder / "model.onnx"
    if damage == "other bytes":
        model.write_bytes(b"x" + model.read_bytes()[1:])
    elif damage == "cut off":
        model.write_bytes(model.read_bytes()[:-1])
    elif damage == "missing":
        (folder / "tokenizer.json").unlink(missing_ok=True)
    elif damage == "no sums":
        sums.unlink()
    else:
        sums.write_text("not sums at all\n")

    with pytest.raises(ModelUnavailable, match=r"Restore assets/models"):
        CrossEncoder(folder, threads=1)


def test_the_bundled_weights_are_what_their_checksums_say() -> None:
    check_files(RERANKER)


# Blending


def test_without_scores_the_first_stages_scores_stand() -> None:
    assert blend([0.3, 0.2, 0.1], [None, None, None]) == [0.3, 0.2, 0.1]
    assert blend([], []) == []


def test_candidates_that_were_not_scored_keep_their_order() -> None:
    final = blend([0.5, 0.4, 0.3, 0.2, 0.1], [-4.0, 7.0, None, None, None])

    assert final[2] > final[3] > final[4]


def test_equal_scores_change_nothing() -> None:
    final = blend([0.5, 0.4, 0.3], [2.0, 2.0, 2.0])

    assert sorted(final, reverse=True) == final


def test_a_higher_score_never_lowers_a_candidate() -> None:
    final = [blend([0.5, 0.4, 0.3, 0.2], [0.0, logit, 1.0, -1.0])[1] for logit in (-9, -1, 0, 2, 9)]

    assert final == sorted(final)
    assert final[0] < final[-1]


def test_only_the_distance_between_the_scores_of_a_query_counts() -> None:
    low, high = (blend([0.5, 0.4], [base, base + 1.0]) for base in (-8.0, 8.0))

    assert low == pytest.approx(high)


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_an_order_becomes_scores_that_keep_it_and_balance(count: int) -> None:
    scores = normal_scores(range(count))

    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == count
    assert sum(scores) == pytest.approx(0, abs=1e-9)
    assert count < 5 or 0.7 < statistics.pstdev(scores) < 1.05


def test_an_order_of_all_candidates_outweighs_the_first_stage_but_for_a_clear_winner() -> None:
    reversed_order = normal_scores([4, 3, 2, 1, 0])
    even = blend([0.5, 0.4, 0.3, 0.2, 0.1], reversed_order, unit="rank")
    winner = blend([9.0, 0.4, 0.3, 0.2, 0.1], normal_scores([1, 0, 2, 3, 4]), unit="rank")

    assert even == sorted(even)
    assert max(winner) == winner[0]


# The stage


@dataclass(frozen=True)
class Refusing:
    """A scorer whose provider does not answer."""

    def score(self, query: str, candidates: object, *, budget_ms: float) -> PairScores:
        raise ModelUnavailable("The reranker does not answer.", fix="Start it.")


def test_a_scorer_that_fails_leaves_the_order_and_says_why() -> None:
    query = Query(
        **{"text": "send again", "collection": "c", "top_k": 3, "rerank": True},
        **{"filters": Filters(), "candidates": 9, "budget_ms": UNLIMITED_MS},
    )
    found = candidates(OTHER, ANSWER)
    ranked = Rerank(Refusing(), tokens_stored=True)(Candidates(query=query, found=found))

    assert [hit.chunk for hit in ranked.hits] == [one.chunk for one in found]
    assert [hit.rerank_score for hit in ranked.hits] == [None, None]
    assert ranked.scored == 0
    assert ranked.note == "not reranked: The reranker does not answer. Start it."


def test_the_stage_ranks_all_candidates_and_scores_the_first_ones(encoder: CrossEncoder) -> None:
    query = Query(
        **{"text": "send a failed batch again", "collection": "c", "top_k": 3, "rerank": True},
        **{"filters": Filters(), "candidates": 2, "budget_ms": UNLIMITED_MS},
    )
    found = candidates(OTHER, ANSWER, ANSWER + "# 2", OTHER + "# 2")
    ranked = Rerank(encoder, tokens_stored=False)(Candidates(query=query, found=found))

    assert sorted(hit.first_rank for hit in ranked.hits) == [1, 2, 3, 4]
    assert [hit.rank for hit in ranked.hits] == [1, 2, 3, 4]
    assert (ranked.scored, ranked.note) == (2, "")
    assert {hit.first_rank: hit.rerank_score is None for hit in ranked.hits} == {
        **{1: False, 2: False, 3: True, 4: True}
    }
    assert {hit.first_rank: hit.first_score for hit in ranked.hits} == {
        i + 1: one.score for i, one in enumerate(found)
    }


def test_what_is_held_back_rises_less_and_only_where_it_was_scored(encoder: CrossEncoder) -> None:
    query = Query(
        **{"text": "send a failed batch again", "collection": "c", "top_k": 4, "rerank": True},
        **{"filters": Filters(), "candidates": 2, "budget_ms": UNLIMITED_MS},
    )

    def best(*held_back: float) -> list[int]:
        found = [
            ScoredChunk(chunk=one.chunk, score=1 - i / 100, held_back=held)
            for i, (one, held) in enumerate(
                zip(candidates(OTHER, ANSWER, ANSWER + "#2", OTHER), held_back, strict=True)
            )
        ]
        ranked = Rerank(encoder, tokens_stored=False)(Candidates(query=query, found=found))
        return [hit.first_rank for hit in ranked.hits]

    assert best(0, 0, 0, 0) == [2, 1, 3, 4]
    assert best(0, -0.2, 0, 0) == [1, 3, 4, 2]
    assert best(0, 0, -0.2, 0) == [2, 1, 3, 4], "nothing was said of the third"


def test_tokens_of_another_reranker_are_not_believed(encoder: CrossEncoder) -> None:
    query = Query(
        **{"text": "send again", "collection": "c", "top_k": 3, "rerank": True},
        **{"filters": Filters(), "candidates": 9, "budget_ms": UNLIMITED_MS},
    )
    (right,) = encoder.tokenize([chunk(0, path="m0.py", symbol="", text=ANSWER).passage])
    (wrong,) = encoder.tokenize(["other.py\nnothing at all"])
    (one,) = candidates(ANSWER)
    scores = []
    for tokens, stored in ((right, True), (wrong, False)):
        fresh = CrossEncoder(RERANKER, threads=1)
        found = [ScoredChunk(chunk=one.chunk, score=1.0, tokens=tokens)]
        ranked = Rerank(fresh, tokens_stored=stored)(Candidates(query=query, found=found))
        scores.append(ranked.hits[0].rerank_score)
        fresh.close()

    assert scores[0] == scores[1]


def test_more_hits_than_candidates_change_nothing_for_the_candidates() -> None:
    first, scores = [0.5, 0.4, 0.3], [-1.0, 2.0, 0.5]

    assert blend([*first, 0.2, 0.01], scores)[:3] == blend(first, scores)
    assert blend([*first, 0.2, 0.01], scores)[3:] == [0.2, 0.01]


@dataclass
class Stalling:
    """A model that the system stops for a while once, as when a machine sleeps."""

    model: OnnxModel
    stalled: bool = False

    def run(self, row: TokenRow) -> object:
        if not self.stalled:
            self.stalled = True
            time.sleep(1)
        return self.model.run(row)


def test_a_stall_does_not_end_reranking_for_ever(
    encoder: CrossEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "_model", Stalling(encoder._model))
    score(encoder, "send again", candidates(OTHER), budget_ms=UNLIMITED_MS)
    later = [score(encoder, f"send {i}", many(3), budget_ms=200) for i in range(10)]

    assert any(one is not None for one in later[-1])


def test_nothing_found_is_nothing_ranked() -> None:
    assert first_stage_order([]).hits == ()


# The window of a long chunk


def test_the_window_holds_the_querys_rarest_words() -> None:
    body = [2100] * 300 + [9000] + [2100] * 300

    assert 9000 in best_window(body, [9000, 2100], size=50)
    assert len(best_window(body, [9000], size=50)) == 50


def test_the_window_of_a_short_chunk_is_all_of_it() -> None:
    assert best_window([5, 6, 7], [6], size=3) == [5, 6, 7]


def test_the_window_begins_at_the_start_when_nothing_tells_otherwise() -> None:
    assert best_window(list(range(3000, 3100)), [], size=10) == list(range(3000, 3010))
