"""The queries that a labelled set makes of its own chunks, for `benchmarks` and `training`."""

from __future__ import annotations

from collections.abc import Mapping

from samples import chunk

from backend.types import Chunk
from benchmarks.labelled import LOOKUPS, LabelledSet, lookups


def answers(*chunks: Chunk) -> tuple[Mapping[str, list[Chunk]], Mapping[str, list[Chunk]]]:
    """Each name, and each path, with the chunks that answer it."""
    made = lookups(LabelledSet(name="own", chunks=chunks, queries=(), targets=()))
    assert [one.name for one in made] == ["names", "paths"]
    names, paths = (
        {
            query: [one for one in chunks if any(target.matches(one) for target in targets)]
            for query, targets in zip(made_of.queries, made_of.targets, strict=True)
        }
        for made_of in made
    )
    return names, paths


def test_a_name_is_asked_alone_and_with_what_it_stands_in() -> None:
    upsert = chunk(1, symbol="models.Client.upsert_all", start_line=3, end_line=9)
    delete = chunk(2, symbol="models.Client.delete_all", start_line=11, end_line=20)
    names, _ = answers(upsert, delete)

    assert names == {
        "upsert_all": [upsert],
        "Client.upsert_all": [upsert],
        "delete_all": [delete],
        "Client.delete_all": [delete],
    }


def test_every_name_of_a_chunk_that_holds_several_is_asked() -> None:
    both = chunk(1, symbol="Client.first, Client.second")

    assert set(answers(both)[0]) == {"first", "second", "Client.first", "Client.second"}


def test_a_name_is_answered_by_all_its_definitions_unless_they_are_many() -> None:
    def named(symbol: str, count: int) -> list[Chunk]:
        places = (10 * place + 1 for place in range(count))
        return [
            chunk(line, symbol=symbol, path=f"{symbol}.py", start_line=line, end_line=line + 5)
            for line in places
        ]

    few, many = named("in_three", 3), named("in_four", 4)

    assert answers(*few, *many)[0] == {"in_three": few}


def test_headings_dunders_and_short_names_are_not_asked() -> None:
    names, _ = answers(
        chunk(1, symbol="Install > Docker", kind="section"),
        chunk(2, symbol="Client.__init__"),
        chunk(3, symbol="go"),
        chunk(4, symbol=""),
    )

    assert names == {}


def test_the_end_of_a_path_is_asked_where_it_is_the_only_one() -> None:
    """One, two and three parts of it; the whole file answers, however far down the chunk is."""
    first = chunk(1, path="src/net/client.py", start_line=1, end_line=2)
    later = chunk(2, path="src/net/client.py", start_line=900, end_line=999)
    other = chunk(3, path="tests/net/client.py")
    elsewhere = chunk(4, path="src/net/client.py", package="another")
    _, alone = answers(first, later)
    _, ambiguous = answers(first, later, other)
    _, twice = answers(first, later, elsewhere)

    assert alone == {
        path: [first, later] for path in ("client.py", "net/client.py", "src/net/client.py")
    }
    assert ambiguous == {
        "src/net/client.py": [first, later],
        "tests/net/client.py": [other],
    }
    assert twice == {}


def test_the_same_queries_are_drawn_every_time_and_not_too_many() -> None:
    chunks = [chunk(i, symbol=f"function_{i}", path=f"file_{i}.py") for i in range(LOOKUPS + 50)]
    one, other = (
        lookups(LabelledSet(name="own", chunks=some, queries=(), targets=()))
        for some in (chunks, chunks[::-1])
    )

    assert [len(made.queries) for made in one] == [LOOKUPS, LOOKUPS]
    assert [made.queries for made in one] == [made.queries for made in other]
