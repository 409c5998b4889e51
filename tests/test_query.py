"""What may be asked: bad queries and options are refused with one clear error."""

from __future__ import annotations

import math

import pytest

from backend.config import Settings
from backend.errors import InvalidQuery
from backend.globs import matching
from backend.query import MAX_QUERY_CHARS, make_query, values
from backend.types import Filters, Query

SETTINGS = Settings(rerank=True, rerank_candidates=17, rerank_budget_ms=123.0)


def ask(text: object = "retry", **options: object) -> Query:
    return make_query(text, collection="c", settings=SETTINGS, **options)


@pytest.mark.parametrize("text", ["", " ", "\n\t \r\n", "\0", "\u3000"])
def test_a_blank_query_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery, match=r"query is empty\. Describe"):
        ask(text)


def test_a_query_of_a_hundred_thousand_characters_is_refused() -> None:
    with pytest.raises(InvalidQuery, match=r"100,000 characters; 10,000 are allowed"):
        ask("x" * 100_000)


def test_the_longest_query_that_is_allowed_is_taken() -> None:
    assert len(ask("x" * MAX_QUERY_CHARS).text) == MAX_QUERY_CHARS


@pytest.mark.parametrize("text", ["caf\udce9", "\ud800", b"bytes".decode() + "\udcff"])
def test_a_query_that_is_not_utf8_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery, match="query is not valid UTF-8"):
        ask(text)


@pytest.mark.parametrize("text", [None, b"retry", 7, ["retry"]])
def test_a_query_that_is_not_text_is_refused(text: object) -> None:
    with pytest.raises(InvalidQuery, match="query is text, not"):
        ask(text)


def test_white_space_and_nul_are_evened_out() -> None:
    assert ask("  where\nare\0batches\t retried 🎉 ").text == "where are batches retried 🎉"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("top_k", value) for value in (0, -1, 101, 10_000, math.nan, "10", None, True)),
        *(("candidates", value) for value in (0, 101, math.inf, "5", False)),
        *(("budget_ms", value) for value in (-1, 60_001, math.nan, math.inf, "300")),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(
        InvalidQuery, match=rf"{option} is .*; it must lie between .* Pass {option}"
    ):
        ask(**{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [("top_k", 1), ("top_k", 100), ("candidates", 100), ("budget_ms", 0), ("budget_ms", 60_000)],
)
def test_the_ends_of_a_range_belong_to_it(option: str, value: float) -> None:
    assert getattr(ask(**{option: value}), option) == value


def test_options_left_out_come_from_the_settings() -> None:
    query = ask()

    assert (query.rerank, query.candidates, query.budget_ms) == (True, 17, 123.0)
    assert query.filters == Filters()


def test_options_win_over_the_settings() -> None:
    query = ask(rerank=False, candidates=3, budget_ms=0)

    assert (query.rerank, query.candidates, query.budget_ms) == (False, 3, 0)


@pytest.mark.parametrize(
    "filters",
    [Filters(packages=["\udcff"]), Filters(kinds=["a", "\ud800"]), Filters(path_prefix="\udc80")],
)
def test_a_filter_that_is_not_utf8_is_refused(filters: Filters) -> None:
    with pytest.raises(InvalidQuery, match="filter is not valid UTF-8"):
        ask(filters=filters)


def test_filters_take_languages_and_kinds_in_any_case() -> None:
    filters = ask(filters=Filters(languages=["Python"], kinds=["METHOD"])).filters

    assert (list(filters.languages), list(filters.kinds)) == (["python"], ["method"])


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidQuery, match=r"no kind 'functions'.*class, function, method"):
        ask(filters=Filters(kinds=["functions"]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, ()), ("", ()), (" a ", ("a",)), (["a", " ", "b "], ("a", "b")), ((), ())],
)
def test_filters_take_one_value_or_several(given: object, expected: tuple[str, ...]) -> None:
    assert values(given) == expected


def test_a_path_pattern_that_would_backtrack_for_years_is_matched_at_once() -> None:
    paths = ["a" * 200 + ".py", "a" * 200 + "b"]

    assert matching(["*a" * 30 + "b"], paths) == paths[1:]
    assert matching(["**/" * 50 + "a*.py"], paths) == paths[:1]


@pytest.mark.parametrize("glob", ["!", "/", "\\", "", " ", "src/[ab", "!/", "[z-a]", "a\\"])
def test_a_path_pattern_that_is_none_is_refused(glob: str) -> None:
    with pytest.raises(InvalidQuery, match=r"is not a path pattern\. Write it as in \.gitignore"):
        ask(filters=Filters(paths=[glob]))


def test_too_many_path_patterns_are_refused() -> None:
    with pytest.raises(InvalidQuery, match="51 path patterns were given; 50 are allowed"):
        ask(filters=Filters(paths=[f"{i}.py" for i in range(51)]))
