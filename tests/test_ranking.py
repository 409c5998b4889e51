"""Signals of name and place order what was retrieved, and each of them says what it added."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from samples import chunk

from backend.config import Settings
from backend.embedding import bm25
from backend.query import make_query
from backend.ranking.confidence import Assess
from backend.ranking.reading import Place, names, places
from backend.ranking.retrieve import MAX_NAMED_FILES, Retrieve
from backend.ranking.signals import SIGNALS
from backend.ranking.spelling import ReadNames
from backend.ranking.stage import SIGNAL_NAMES, Rank
from backend.types import Candidates, Confidence, Filters, Located, ScoredChunk, SparseVector

ELSEWHERE = tuple(f"src/other_{i}.py" for i in range(6))
"""Files enough for names to tell something."""


def hits(*paths: str, **fields: object) -> list[ScoredChunk]:
    """Candidates of nearly equal scores, best first, followed by some that do not matter."""
    return [
        ScoredChunk(
            chunk=chunk(i, **{"symbol": "", "kind": "function", "path": path, **fields}),
            score=0.5 - i / 1000,
        )
        for i, path in enumerate((*paths, *ELSEWHERE))
    ]


def rank(query: str, found: Sequence[ScoredChunk], *, without: Sequence[str] = ()) -> Candidates:
    asked = make_query(query, collection="", settings=Settings(), candidates=100)
    return Rank(bm25.stem).without(without)(Candidates(query=asked, found=found))


def order(query: str, found: Sequence[ScoredChunk], *, without: Sequence[str] = ()) -> list[str]:
    return [hit.chunk.path for hit in rank(query, found, without=without).found]


def signals(query: str, found: Sequence[ScoredChunk]) -> dict[str, dict[str, float]]:
    return {hit.chunk.path: dict(hit.signals) for hit in rank(query, found).found}


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("how do sessions persist cookies", "app/session.py"),
        ("rate limit per client", "app/ratelimit.go"),
        ("rate limit per client", "app/rate_limit.go"),
        ("rate limit per client", "app/RateLimit.java"),
        ("routing of requests", "app/routing/index.js"),
        ("routing of requests", "app/routing/__init__.py"),
        ("the logger's test helpers", "app/logger.test.ts"),
    ],
)
def test_a_file_whose_name_the_query_spells_comes_up(query: str, path: str) -> None:
    found = hits("app/unrelated.py", path)

    assert order(query, found)[0] == path
    assert signals(query, found)[path]["file named"] > 0


def test_a_name_that_is_spelled_only_in_part_is_not_the_file_named() -> None:
    assert "file named" not in signals("retry policy", hits("app/retry_after_header.py"))


def test_words_of_folders_count_and_rare_ones_more() -> None:
    found = hits("src/billing/a.py", "src/common/b.py", "lib/common/c.py", "lib/common/d.py")
    added = signals("common billing", found)

    assert added["src/billing/a.py"]["path words"] > added["src/common/b.py"]["path words"] > 0


@pytest.mark.parametrize("query", ["parse_args", "where is parse_args()", "Parser.parse_args"])
def test_the_definition_of_a_name_comes_before_its_users(query: str) -> None:
    found = hits("app/user.py", "app/defined.py")
    found[1] = ScoredChunk(
        chunk=chunk(1, path="app/defined.py", defines="Parser Parser.parse_args"),
        score=found[1].score,
    )

    assert order(query, found)[0] == "app/defined.py"


def test_the_owner_that_the_query_names_comes_before_others() -> None:
    found = hits("app/local.py", "app/remote.py", "app/client.py")
    for i, owner in enumerate(("Local", "Remote", "Client")):
        defined = chunk(i, path=f"app/{owner.lower()}.py", symbol="", defines=f"{owner}.upsert")
        found[i] = ScoredChunk(chunk=defined, score=found[i].score)
    without = ("file named", "path words")

    assert order("Client.upsert", found, without=without)[0] == "app/client.py"
    assert order("upsert", found, without=without)[0] == "app/local.py"


@pytest.mark.parametrize(
    "path",
    [
        "tests/a.py",
        "src/test_a.py",
        "pkg/a_test.go",
        "src/a.spec.ts",
        "app/ATest.java",
        "examples/a.rs",
        "third_party/a/a.c",
        "vendor/a/a.go",
        "benchmarks/a.py",
        "src/legacy/a.js",
        "CHANGELOG.md",
        "pkg/a_pb2.pyi",
    ],
)
def test_what_stands_aside_falls_back_unless_it_is_asked_for(path: str) -> None:
    found = hits(path, "src/b.py")

    assert order("how are batches sent", found)[0] == "src/b.py"
    assert order("tests and examples and the changelog of batches", found)[0] == path


@pytest.mark.parametrize(
    "path", ["src/latest.py", "src/contest.go", "src/inspect.rs", "src/history.js"]
)
def test_names_that_only_look_like_tests_do_not(path: str) -> None:
    assert "aside" not in signals("how are batches sent", hits(path))[path]


def test_a_copy_comes_up_where_it_alone_defines_what_the_query_spells() -> None:
    found = hits("src/user.py", "tests/helpers.py", "src/helpers.py")
    found[1] = ScoredChunk(
        chunk=chunk(1, path="tests/helpers.py", defines="wait_until"), score=found[1].score
    )
    assert order("wait_until", found)[0] == "tests/helpers.py"

    found[2] = ScoredChunk(
        chunk=chunk(2, path="src/helpers.py", defines="wait_until"), score=found[2].score
    )
    assert order("wait_until", found)[0] == "src/helpers.py"


def test_code_comes_before_prose_unless_documentation_is_asked_for() -> None:
    found = hits("guide.md", "src/b.py")
    found[0] = ScoredChunk(chunk=chunk(0, path="guide.md", kind="section"), score=0.5)

    assert order("send a batch", found)[0] == "src/b.py"
    assert order("documentation: send a batch", found)[0] == "guide.md"


def test_tests_and_prose_are_held_back_beside_a_reranker_unless_they_are_asked_for() -> None:
    found = hits("guide.md", "tests/a.py", "src/b.py")
    found[0] = ScoredChunk(chunk=chunk(0, path="guide.md", kind="section"), score=0.5)

    def held(query: str) -> dict[str, float]:
        return {hit.chunk.path: hit.held_back for hit in rank(query, found).found}

    assert held("send a batch")["src/b.py"] == 0
    assert held("send a batch")["guide.md"] < 0
    assert held("send a batch")["tests/a.py"] < 0
    assert held("documentation of the tests of sending")["guide.md"] == 0
    assert held("documentation of the tests of sending")["tests/a.py"] == 0


def test_what_the_query_spells_is_not_held_back() -> None:
    found = hits("vendor/sending.py", "vendor/receiving.py", "src/b.py")
    asked = {h.chunk.path: h for h in rank("a fault in vendor/sending.py", found).found}

    assert asked["vendor/receiving.py"].held_back < 0
    assert asked["vendor/sending.py"].signals["aside"] < 0
    assert asked["vendor/sending.py"].held_back == 0


def test_further_hits_of_a_file_fall_back_but_a_much_better_one_stays() -> None:
    found = hits("a.py", "a.py", "a.py", "b.py", "c.py")
    assert order("anything", found)[:3] == ["a.py", "b.py", "c.py"]
    best = [ScoredChunk(chunk=hit.chunk, score=hit.score + (i < 2)) for i, hit in enumerate(found)]
    assert order("anything", best)[:3] == ["a.py", "a.py", "b.py"]


def test_a_path_brings_its_file_up_and_a_line_its_chunk() -> None:
    found = hits("src/a.py", "lib/api/client.py", "lib/api/client.py")
    late = chunk(2, path="lib/api/client.py", start_line=100, end_line=140)
    found[2] = ScoredChunk(chunk=late, score=found[2].score)

    assert order("api/client.py", found)[0] == "lib/api/client.py"
    assert rank("client.py:120 fails", found).found[0].chunk == late
    assert rank('File "lib/api/client.py", line 120, in send', found).found[0].chunk == late
    assert all("place" not in hit.signals for hit in rank("other/client.py", found).found)


def test_every_hit_says_what_each_signal_added() -> None:
    found = hits("tests/session.py", "src/session.py", "src/session.py")
    for hit in rank("session cookies", found).found:
        before = found[hit.fused_rank - 1]
        assert hit.chunk == before.chunk
        assert hit.score == pytest.approx(before.score + sum(hit.signals.values()))
        assert hit.fused_score == pytest.approx(before.score)
        assert set(hit.signals) <= set(SIGNAL_NAMES)
        assert all(hit.signals.values())


@pytest.mark.parametrize("name", SIGNAL_NAMES)
def test_each_signal_can_be_left_out(name: str) -> None:
    query = "where do sessions of client_name in src/session.py:5 live"
    found = hits("src/session.py", "src/session.py", "tests/session.py", "README.md", "src/b.py")
    fields = {"path": "README.md", "kind": "section"}
    found[3] = ScoredChunk(chunk=chunk(3, **fields), score=found[3].score)
    fields = {"path": "src/b.py", "symbol": "client_name", "defines": "client_name"}
    found[4] = ScoredChunk(chunk=chunk(4, **fields), score=found[4].score)

    everywhere = {used for hit in rank(query, found).found for used in hit.signals}
    left = {used for hit in rank(query, found, without=[name]).found for used in hit.signals}
    assert everywhere - left == {name}


def test_without_signals_the_order_is_as_retrieved() -> None:
    found = hits("tests/session.py", "session.py", "session.py")

    assert order("session", found, without=SIGNAL_NAMES) == [hit.chunk.path for hit in found]


def test_in_a_handful_of_files_names_tell_nothing() -> None:
    found = hits("tests/session.py", "session.py", "session.py")[:3]

    assert order("session", found) == [hit.chunk.path for hit in found]


def test_the_line_that_a_query_gives_tells_the_chunks_of_one_file_apart() -> None:
    found = hits("lib/client.py", "lib/client.py")[:2]
    late = chunk(1, path="lib/client.py", start_line=100, end_line=140)
    found[1] = ScoredChunk(chunk=late, score=found[0].score - 0.5)

    assert rank("/srv/app/lib/client.py:120", found).found[0].chunk == late


def test_no_candidates_stay_none() -> None:
    assert rank("session", []).found == []


def test_name_signals_together_are_worth_less_than_a_clearly_better_text() -> None:
    """A ranking that wins only where the query names the file has learnt the benchmark."""
    most = sum(s.weight for s in SIGNALS if s.name in ("file named", "path words", "symbol words"))

    assert most < 0.2, "cosines of good and bad hits lie further apart"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("src/foo/bar.rs", [Place("src/foo/bar.rs", None)]),
        ("bar.py:120 is wrong", [Place("bar.py", 120)]),
        ("./a/b.go#L7", [Place("a/b.go", 7)]),
        ("../../a/b.go", [Place("a/b.go", None)]),
        ("at f (/app/src/a.ts:10:5)", [Place("app/src/a.ts", 10)]),
        (r"C:\src\a.py:3", [Place("src/a.py", 3)]),
        ("https://x.org/o/r/blob/v1/src/a.py#L9", [Place("x.org/o/r/blob/v1/src/a.py", 9)]),
        ('File "x/y.py", line 12, in f', [Place("x/y.py", 12)]),
        ("look in src/foo", [Place("src/foo", None)]),
        ("no path here, and/or none", [Place("and/or", None)]),
        ("retry after 1.5 s", []),
    ],
)
def test_paths_are_read(text: str, expected: list[Place]) -> None:
    assert list(places(text)) == expected


@pytest.mark.parametrize(
    ("place", "files"),
    [
        ("api/client.py", ["src/api/client.py", "api/client.py"]),
        ("client.py", ["src/api/client.py", "api/client.py", "src/client.py"]),
        ("home/me/site-packages/api/client.py", ["src/api/client.py", "api/client.py"]),
        ("work/setup.py", ["setup.py"]),
        ("docs/client.py", []),
        ("pi/client.py", []),
        ("README.md", []),
    ],
)
def test_a_place_names_the_files_whose_paths_end_as_it_does(place: str, files: list[str]) -> None:
    every = ["src/api/client.py", "api/client.py", "src/client.py", "setup.py", "docs/README"]

    assert Place(place, None).among(every) == files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("QdrantClient.upsert", [("QdrantClient", "upsert")]),
        ("how does Foo::bar work", [("Foo", "bar")]),
        ("call fn_name(x) twice", [("fn_name",)]),
        ("upsert", [("upsert",)]),
        ("how does it work", []),
        ("The HTTPServer class", [("HTTPServer",)]),
    ],
)
def test_words_that_look_like_code_are_read(text: str, expected: list[tuple[str, ...]]) -> None:
    assert list(names(text)) == expected


KNOWN = ("QdrantClient.upsert", "Client.recreate_collection, helper", "Guide > Instalation > Wehre")


def corrected(text: str, *, held: Sequence[str] = ()) -> str:
    words = {"qdrantclient", "upsert", "recreate_collection", *held}
    stage = ReadNames(holds=lambda word: word in words, symbols=lambda: KNOWN)
    query = stage(make_query(text, collection="", settings=Settings()))
    assert query.text == text
    assert query.sought == (query.read_as or text)
    return query.read_as


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("QdrantCleint", "QdrantClient"),
        ("QdrantCleint.upser", "QdrantClient.upsert"),
        ("how does QdrantCliemt connect", "how does QdrantClient connect"),
        ("recraete_colection", "recreate_collection"),
    ],
)
def test_a_misspelled_name_is_read_as_the_nearest_defined_one(text: str, read_as: str) -> None:
    assert corrected(text) == read_as


@pytest.mark.parametrize(
    "text",
    [
        "QdrantClient",
        "qdrantclient",
        "where are cleints made",  # Prose.
        "foo_bar",  # Nothing is near.
        "hlpre",  # Two mistakes in five letters.
        "Instalaton",  # A heading is no name.
    ],
)
def test_other_words_are_read_as_they_stand(text: str) -> None:
    assert corrected(text) == ""


def test_a_word_that_stands_in_the_collection_is_not_corrected() -> None:
    assert corrected("QdrantCleint", held=["qdrantcleint"]) == ""


def retrieved(text: str, files: Sequence[str], **filters: object) -> list[Located]:
    """What the store is asked for a query over a collection with these files."""
    asked: list[Located] = []

    def search(located: Located) -> list[ScoredChunk]:
        asked.append(located)
        return hits("somewhere.py") if len(asked) == 1 else hits("named.py")

    located = Located(
        dense=None, sparse=SparseVector([], []), filters=Filters(**filters), limit=5, text=text
    )
    at = {("src/api/client.py", 3): [hits("at.py")[0].chunk]}
    stage = Retrieve(
        search=search, paths=lambda: tuple(files), at=lambda path, line: at.get((path, line), [])
    )
    found = stage(located)
    assert len({hit.chunk.id for hit in found}) == len(found)
    return asked


def test_the_files_that_a_query_names_are_searched_as_well() -> None:
    _, named, line = retrieved("what is in api/client.py:3", ["src/api/client.py", "src/client.py"])

    assert named.filters.paths == ["/src/api/client.py"]
    assert line.filters.ids == [hits("at.py")[0].chunk.id]


def test_a_named_file_still_has_to_pass_the_filters() -> None:
    files = ["a/client.py", "b/client.py", "b/[x]/client.py"]
    _, named = retrieved("client.py", files, paths=["!a/"], languages=["python"], path_prefix="b/")

    assert named.filters.paths == ["/b/client.py", r"/b/\[x\]/client.py"]
    assert named.filters.languages == ["python"]


def test_a_file_name_that_is_everywhere_names_none() -> None:
    files = [f"{i}/__init__.py" for i in range(MAX_NAMED_FILES + 1)]

    assert len(retrieved("__init__.py", files)) == 1
    assert len(retrieved("nothing of that name.py", files)) == 1


def assessed(
    cosine: float, text: str, *, calibrated: bool = True, dense: bool = True
) -> Confidence:
    """The confidence in one hit of that cosine, whose text is `send failed batches again`."""
    hit = ScoredChunk(
        chunk=chunk(0, path="a.py", symbol="", text="send failed batches again"), score=1.0
    )
    other = float(np.sqrt(1 - cosine**2))
    assess = Assess(
        stems=bm25.stems,
        vectors=lambda ids: dict.fromkeys(ids, np.array([cosine, other], np.float32)),
        calibrated=calibrated,
    )
    return assess(asked_for(text, dense=dense), [hit])


def asked_for(text: str, *, dense: bool = True) -> Located:
    return Located(
        dense=np.array([1, 0], np.float32) if dense else None,
        sparse=SparseVector([], []),
        filters=Filters(),
        limit=5,
        text=text,
    )


@pytest.mark.parametrize(
    ("cosine", "text", "label"),
    [
        (0.6, "where are failed batches sent", "high"),
        (0.45, "where are failed batches sent", "medium"),
        (0.3, "where are failed batches sent", "low"),
        (0.1, "where are failed batches sent", "none"),
        (0.3, "weather in Paris", "none"),
        (0.7, "weather in Paris", "medium"),
    ],
)
def test_confidence_grows_with_the_cosine_and_the_words_that_are_there(
    cosine: float, text: str, label: str
) -> None:
    assert assessed(cosine, text).label == label


def test_what_confidence_rests_on_is_told() -> None:
    found = assessed(0.4, "failed batches fly")

    assert found.cosine == pytest.approx(0.4)
    assert found.coverage == pytest.approx(2 / 3)


def test_markup_is_no_evidence() -> None:
    """A web page is searched by what it says; `div` and `class` stand in every one of them."""
    markup = {"text": '<div class="span">send</div>', "plain": "send"}
    page = ScoredChunk(chunk=chunk(0, path="a.html", symbol="", **markup), score=1.0)
    assess = Assess(stems=bm25.stems, vectors=lambda ids: {}, calibrated=True)

    assert assess(asked_for("send div class span"), [page]).coverage == pytest.approx(1 / 4)


def test_without_a_measure_confidence_is_unknown() -> None:
    assert assessed(0.9, "failed batches", calibrated=False).label == "unknown"
    assert assessed(0.9, "failed batches", dense=False).label == "unknown"


def test_confidence_in_nothing_is_none() -> None:
    assess = Assess(stems=bm25.stems, vectors=lambda ids: {}, calibrated=True)
    located = Located(dense=None, sparse=SparseVector([], []), filters=Filters(), limit=5, text="x")

    assert assess(located, []).label == "none"
