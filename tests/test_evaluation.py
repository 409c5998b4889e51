"""Evaluation: what is read as labels, how rankings are measured, what a whole run reports."""

from __future__ import annotations

import gzip
import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from samples import chunk, write_files

from backend.errors import InvalidLabels
from backend.evaluation.experiment import EvaluationProgress
from backend.evaluation.intervals import Bootstrap
from backend.evaluation.labels import LabelledQuery, Target, read_labels
from backend.evaluation.measures import first_answer, score
from backend.evaluation.plot import to_svg
from backend.evaluation.report import Evaluation, to_json, to_markdown
from backend.store.quantization import MODES
from backend.types import Chunk
from backend.workspace import Workspace

FOUND = {"package": "project", "path": "a.py", "start_line": 1, "end_line": 9, "grade": 2}


def spans(folder: Path, *rows: object) -> Path:
    path = folder / "labels.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), "utf-8")
    return path


def row(id: str = "q1", query: str = "where", **fields: object) -> dict[str, Any]:
    return {"id": id, "query": query, "targets": [FOUND], **fields}


def target(start: int, end: int, grade: int, path: str = "src/client.py") -> Target:
    return Target(package="project", path=path, start_line=start, end_line=end, grade=grade)


def lines(start: int, end: int, path: str = "src/client.py") -> Chunk:
    return chunk(start, path=path, start_line=start, end_line=end)


def measured(ranking: Sequence[Chunk], *targets: Target) -> Mapping[str, float]:
    query = LabelledQuery(id="q", text="q", category="", targets=targets)
    return {name: values["q"] for name, values in score({"q": ranking}, [query]).items()}


def test_spans_are_read_with_what_they_say(tmp_path: Path) -> None:
    path = spans(tmp_path, row(category="howto", note="why"), "", row("q2", targets=[]))
    labels = read_labels(path)

    assert labels.name == "labels"
    assert labels.queries == (
        LabelledQuery(
            id="q1", text="where", category="howto", targets=(target(1, 9, 2, path="a.py"),)
        ),
    )
    assert labels.notes == ("1 queries without a judgement were left out.",)


REFUSED: dict[str, tuple[list[object], str]] = {
    "not JSON": (["{"], "line 1 is not a JSON object"),
    "not an object": ([row(), "[1]"], "line 2 is not a JSON object"),
    "deep nesting": (["[" * 100_000], "line 1 is not a JSON object"),
    "no id": ([{"query": "x", "targets": []}], "line 1: id is missing"),
    "no query": ([{"id": "x", "targets": []}], "line 1: query is missing"),
    "blank query": ([row(query=" ")], "query is missing"),
    "no targets": ([{"id": "x", "query": "x"}], "targets is not a list"),
    "duplicate id": ([row(), row()], "line 2: a second query has the id 'q1'"),
    "missing column": ([row(targets=[{**FOUND, "grade": None}])], "the grade None"),
    "missing key": ([row(targets=[{"path": "a.py"}])], "a target lacks a key"),
    "lines swapped": ([row(targets=[{**FOUND, "start_line": 10}])], "the lines 10 to 9"),
    "line zero": ([row(targets=[{**FOUND, "start_line": 0}])], "the lines 0 to 9"),
    "line as text": ([row(targets=[{**FOUND, "end_line": "9"}])], "the lines 1 to '9'"),
    "grade zero": ([row(targets=[{**FOUND, "grade": 0}])], "the grade 0"),
    "grade beyond all": ([row(targets=[{**FOUND, "grade": 10**6}])], "the grade 1000000"),
    "half a character": ([row(query="\ud800")], "query is not valid Unicode"),
    "half a character in a category": ([row(category="\ud800")], "category is not valid Unicode"),
    "category that is no text": ([row(category={"a": 1})], "category is missing or not text"),
    "empty file": ([], "no query with a judgement"),
    "no judgement at all": ([row(targets=[])], "no query with a judgement"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_spans_that_cannot_be_used_are_refused_with_the_line(tmp_path: Path, case: str) -> None:
    rows, expected = REFUSED[case]

    with pytest.raises(InvalidLabels, match=expected) as refusal:
        read_labels(spans(tmp_path, *rows))
    assert refusal.value.fix


def test_a_file_that_is_not_utf8_and_a_path_to_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_bytes(b'{"id": "\xff"}')

    with pytest.raises(InvalidLabels, match="not UTF-8"):
        read_labels(tmp_path / "labels.jsonl")
    for nothing in (tmp_path / "none", Path("no\0thing")):
        with pytest.raises(InvalidLabels, match="no labels"):
            read_labels(nothing)


BEIR = {
    "corpus.jsonl": '{"_id": "d1", "title": "", "text": "one"}\n',
    "queries.jsonl": '{"_id": "q1", "text": "first"}\n{"_id": "q2", "text": "unjudged"}\n',
    "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq9\td1\t1\n",
    "qrels/train.tsv": "query-id\tcorpus-id\tscore\nq2\td1\t1\n",
}


def test_beir_is_read_from_its_test_split_and_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    labels = read_labels(write_files(tmp_path / "tiny", BEIR))

    assert (labels.name, labels.corpus) == ("tiny", tmp_path / "tiny" / "corpus.jsonl")
    (query,) = labels.queries
    assert (query.id, query.text) == ("q1", "first")
    assert [(one.path, one.grade) for one in query.targets] == [("d1", 2)]
    assert query.targets[0].matches(chunk(path="d1", package="any", start_line=7))
    assert labels.notes == (
        "1 documents judged irrelevant, which counts as not judged.",
        "1 judged queries have no text and were left out.",
        "1 queries without a judgement were left out.",
    )


def test_beir_may_be_gzipped_with_trecs_columns(tmp_path: Path) -> None:
    files = {
        "corpus.jsonl.gz": gzip.compress(BEIR["corpus.jsonl"].encode()),
        "queries.jsonl.gz": gzip.compress(BEIR["queries.jsonl"].encode()),
        "qrels.tsv.gz": gzip.compress(b"q2\t0\td1\t1\n"),
    }

    assert [q.id for q in read_labels(write_files(tmp_path, files)).queries] == ["q2"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"corpus.jsonl": None}, "has no corpus.jsonl"),
        ({"queries.jsonl": None}, "has no queries.jsonl"),
        ({"qrels/test.tsv": None, "qrels/train.tsv": None}, "has no qrels.tsv"),
        ({"qrels/test.tsv": "q1 d1 1\n"}, "test.tsv, line 1 has 1 columns"),
        ({"qrels/test.tsv": "q1\td1\tgood\n"}, "the score is 'good'"),
        ({"qrels/test.tsv": "q1\td1\tnan\n"}, "the score is 'nan'"),
        ({"qrels/test.tsv": "q1\td1\tinf\n"}, "the score is 'inf'"),
        ({"qrels/test.tsv": "q1\td1\t1\nq1\td1\t1\n"}, "judged twice"),
        ({"queries.jsonl": '{"_id": "q1", "text": "a"}\n' * 2}, "a second query has the id"),
        ({"queries.jsonl": ""}, "no query with a judgement"),
        ({"corpus.jsonl": None, "corpus.jsonl.gz": "x", "qrels.tsv.gz": "x"}, None),
    ],
)
def test_beir_that_cannot_be_used_is_refused(
    tmp_path: Path, changed: Mapping[str, str | None], expected: str | None
) -> None:
    files = {name: text for name, text in {**BEIR, **changed}.items() if text is not None}
    folder = write_files(tmp_path, files)
    if expected is None:  # The corpus is read when it is indexed, the other split not at all.
        assert read_labels(folder).queries
        return

    with pytest.raises(InvalidLabels, match=expected):
        read_labels(folder)


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    files = {**BEIR, "queries.jsonl.gz": gzip.compress(b"x" * 1000)[:-9]}
    del files["queries.jsonl"]

    with pytest.raises(InvalidLabels, match="cannot be read"):
        read_labels(write_files(tmp_path, files))


def test_a_target_counts_once_and_a_hit_uses_up_all_that_it_matches() -> None:
    """By hand: gains 3 at rank 2, nothing at 3, 1 at rank 4; ideal 3, 1, 1."""
    values = measured(
        [lines(90, 99), lines(5, 25), lines(10, 12), lines(40, 41)],
        target(10, 12, 2),
        target(20, 30, 1),
        target(41, 60, 1),
    )

    gained = 3 / 1.5849625 + 1 / 2.3219281
    assert values["nDCG@10"] == pytest.approx(gained / (3 + 1 / 1.5849625 + 1 / 2))
    assert values["MRR@10"] == pytest.approx(1 / 2)
    assert values["hit@1"] == 0
    assert values["recall@10"] == values["recall@50"] == 1


def test_only_the_first_ten_hits_gain_and_only_the_first_fifty_are_recalled() -> None:
    """By hand: rank 10 gains 1 of the ideal 1 + 1/log2(3) + 1/2; ranks 11 and 51 gain nothing."""
    filler = [lines(1000 + i, 1000 + i) for i in range(50)]
    ranking = [*filler[:9], lines(1, 1), lines(2, 2), *filler[9:48], lines(3, 3)]
    values = measured(ranking, target(1, 1, 1), target(2, 2, 1), target(3, 3, 1))

    assert len(ranking) == 51
    assert values["nDCG@10"] == pytest.approx((1 / 3.4594316) / (1 + 1 / 1.5849625 + 1 / 2))
    assert values["recall@10"] == pytest.approx(1 / 3)
    assert values["recall@50"] == pytest.approx(2 / 3)
    assert values["MRR@10"] == pytest.approx(1 / 10)


def test_a_perfect_ranking_scores_1_and_an_empty_one_0() -> None:
    perfect = measured([lines(1, 2), lines(5, 5)], target(2, 3, 2), target(5, 5, 1))
    nothing = measured([], target(2, 3, 2))

    assert set(perfect.values()) == {1.0}
    assert set(nothing.values()) == {0.0}


def test_an_id_is_any_text() -> None:
    """A NUL in the names that trec_eval is given cuts them off, and two such abort the process."""
    query = LabelledQuery(id="a\0b", text="q", category="", targets=(target(2, 3, 2),))

    values = score({query.id: [lines(1, 2)]}, [query])

    assert [dict(one) for one in values.values()] == [{query.id: 1.0}] * len(values)


@pytest.mark.parametrize(
    ("found", "matches"),
    [
        (lines(10, 20), True),
        (lines(1, 9), False),
        (lines(1, 10), True),
        (lines(20, 30), True),
        (lines(21, 30), False),
        (lines(10, 20, path="src/other.py"), False),
        (chunk(1, package="other", start_line=10, end_line=20), False),
    ],
)
def test_a_hit_matches_lines_of_the_same_file_that_overlap(found: Chunk, matches: bool) -> None:
    assert target(10, 20, 1).matches(found) is matches


def test_the_first_answer_is_the_first_hit_of_the_highest_grade() -> None:
    helps, answers = target(1, 1, 1), target(5, 5, 2)

    assert first_answer([lines(1, 1), lines(5, 5)], [helps, answers]) == 2
    assert first_answer([lines(1, 1)], [helps, answers]) is None
    assert first_answer([lines(9, 9), lines(1, 1)], [helps]) == 2


def test_intervals_hold_the_mean_narrow_with_more_queries_and_repeat_with_the_seed() -> None:
    few, many = [0.0, 1.0] * 10, [0.0, 1.0] * 500
    one, again = (Bootstrap(20, seed=0).interval(few) for _ in range(2))
    uneven = [i**0.5 for i in range(20)]
    narrow = Bootstrap(1000, seed=0).interval(many)

    assert one == again
    assert Bootstrap(20, seed=0).interval(uneven) != Bootstrap(20, seed=1).interval(uneven)
    assert one.low < one.mean == 0.5 < one.high
    assert narrow.high - narrow.low < (one.high - one.low) / 3
    # The deviation of a mean of 20 fair coins is 0.112; 95 % lie within 1.96 of them.
    assert one.high - one.low == pytest.approx(2 * 1.96 * 0.112, rel=0.15)


LABELS = [
    row(
        "retry",
        "send a failed batch again",
        category="howto",
        targets=[
            {**FOUND, "path": "shop/retry.py", "end_line": 12},
            {**FOUND, "path": "docs/guide.md", "start_line": 3, "end_line": 4, "grade": 1},
        ],
    ),
    row("count", "count_vectors", category="symbol", targets=[{**FOUND, "path": "shop/gone.py"}]),
    row(
        "snapshot",
        "what does a snapshot hold",
        category="docs",
        targets=[
            {**FOUND, "path": "docs/guide.md", "start_line": 9, "end_line": 10},
            {**FOUND, "path": "shop/gone.py", "grade": 1},
        ],
    ),
]


@pytest.fixture(scope="module")
def workspace(open_workspace: Callable[..., Workspace], corpus: Path) -> Workspace:
    workspace = open_workspace()
    workspace.index(corpus, collection="shop")
    return workspace


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    own = [
        {**one, "targets": [{**t, "package": corpus.name} for t in one["targets"]]}
        for one in LABELS
    ]
    return spans(tmp_path_factory.mktemp("labels"), *own)


@pytest.fixture(scope="module")
def evaluation(workspace: Workspace, labels: Path) -> Evaluation:
    return workspace.evaluate("shop", labels=labels)


def test_a_run_compares_the_systems_step_by_step(evaluation: Evaluation) -> None:
    names = [system.name for system in evaluation.systems]

    assert names == ["dense", "BM25", "hybrid", "+ signals", "+ reranker"]
    assert evaluation.systems[0].gain is None
    for before, after in zip(evaluation.systems, evaluation.systems[1:], strict=False):
        assert after.gain is not None
        gain = after.means["nDCG@10"] - before.means["nDCG@10"]
        assert after.gain.mean == pytest.approx(gain, abs=1e-6)
    assert evaluation.categories == {"docs": 1, "howto": 1}
    for system in evaluation.systems:
        assert system.interval.low <= system.means["nDCG@10"] <= system.interval.high
        assert set(system.categories) == {"docs", "howto"}
        reranks = ["rerank"] if system is evaluation.systems[-1] else []
        assert [t for t in system.median_ms if t == "rerank"] == reranks
        assert all(ms > 0 for ms in system.median_ms.values())


def test_the_figures_are_those_of_the_searches_that_users_make(
    workspace: Workspace, labels: Path, evaluation: Evaluation
) -> None:
    queries = [query for query in read_labels(labels).queries if query.id != "count"]
    rankings = {
        query.id: [
            hit.chunk
            for hit in workspace.search(query.text, collection="shop", budget_ms=60_000).hits
        ]
        for query in queries
    }
    values = score(rankings, queries)["nDCG@10"]

    expected = sum(values.values()) / len(values)
    assert evaluation.systems[-1].means["nDCG@10"] == pytest.approx(expected)


def test_stale_targets_are_counted_and_queries_without_any_left_out(evaluation: Evaluation) -> None:
    assert evaluation.queries == 2
    assert evaluation.notes == (
        "2 of 5 targets do not exist in this collection; they count as not found.",
        "1 queries have no target left in it and were left out.",
    )
    assert evaluation.systems[-1].means["recall@50"] == pytest.approx((1 + 1 / 2) / 2)


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_beir_folder_becomes_a_collection_of_its_own(
    workspace: Workspace, tmp_path: Path, gzipped: bool
) -> None:
    documents = {
        "a 1": "Snapshots hold all points of a collection.",
        "b/2": "A failed batch is sent again with a longer pause.",
        "c%3": "Bananas are yellow.",
    }
    corpus = "".join(
        json.dumps({"_id": id, "title": "Guide", "text": text}) + "\n"
        for id, text in documents.items()
    )
    files = {
        "queries.jsonl": '{"_id": "1", "text": "what does a snapshot hold"}\n'
        '{"_id": "2", "text": "resend failed batches"}\n',
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\n1\ta 1\t1\n2\tb/2\t1\n2\tgone\t1\n",
        "corpus.jsonl.gz" if gzipped else "corpus.jsonl": gzip.compress(corpus.encode())
        if gzipped
        else corpus,
    }
    folder = write_files(tmp_path / f"tiny set {gzipped}", files)
    found = workspace.evaluate(labels=folder, quantization=False)

    assert found.collection == f"beir-tiny-set-{gzipped}"
    assert (found.queries, found.chunks) == (2, 3)
    assert found.notes == (
        "1 of 3 targets do not exist in this collection; they count as not found.",
    )
    assert found.systems[-1].means["hit@1"] == 1
    assert found.systems[-1].means["recall@10"] == pytest.approx((1 + 1 / 2) / 2)
    again = workspace.evaluate(labels=folder, quantization=False)
    assert again.systems[-1].means == found.systems[-1].means


def test_a_corpus_that_is_damaged_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {**BEIR, "corpus.jsonl.gz": gzip.compress(b"x" * 1000)[:-9]}
    del files["corpus.jsonl"]

    with pytest.raises(InvalidLabels, match="cannot be unpacked"):
        workspace.evaluate(labels=write_files(tmp_path / "damaged", files))


def test_every_quantization_mode_is_compared_in_a_copy_that_is_gone_afterwards(
    workspace: Workspace, evaluation: Evaluation
) -> None:
    pairs = {(result.mode, result.rescored) for result in evaluation.modes}

    assert pairs == {(mode, rescored) for mode in MODES for rescored in (False, True)} - {
        ("none", True)
    }
    found = {(result.mode, result.rescored): result.found for result in evaluation.modes}
    assert found["none", False] == found["scalar", True] == 1.0
    assert all(0 < result.ndcg.mean <= 1 for result in evaluation.modes)
    assert list((workspace.settings.data_dir / "evaluations").iterdir()) == []


def test_coarser_codes_find_fewer_of_the_nearest_chunks(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Each mode is measured in its own index, and rescoring is a choice of the search."""
    things = ("batch", "vector", "snapshot", "shard", "filter", "payload", "alias", "cluster")
    documents = [
        {"_id": f"{verb}-{one}-{two}", "text": f"How to {verb} a {one} of a {two}."}
        for verb in ("upload", "delete", "count")
        for one in things
        for two in things
    ]
    asked = documents[::24]
    queries = [{"_id": str(i), "text": one["text"]} for i, one in enumerate(asked)]
    files = {
        "corpus.jsonl": "\n".join(map(json.dumps, documents)),
        "queries.jsonl": "\n".join(map(json.dumps, queries)),
        "qrels.tsv": "".join(f"{i}\t{one['_id']}\t1\n" for i, one in enumerate(asked)),
    }
    evaluated = workspace.evaluate(labels=write_files(tmp_path / "grid", files))
    found = {(result.mode, result.rescored): result.found for result in evaluated.modes}

    assert found["binary", False] < found["scalar", False] <= found["none", False] == 1
    assert found["binary", False] < found["binary", True]


def test_reranking_is_accounted_for_query_by_query(evaluation: Evaluation) -> None:
    effect = evaluation.reranking
    assert effect is not None
    assert effect.helped + effect.hurt + effect.unchanged == evaluation.queries
    assert len(effect.best) == effect.helped
    assert len(effect.worst) == effect.hurt
    assert all(case.gain > 0 for case in effect.best)
    assert all(case.gain < 0 for case in effect.worst)


def test_all_but_times_repeats(workspace: Workspace, labels: Path, evaluation: Evaluation) -> None:
    again = workspace.evaluate("shop", labels=labels)

    def timeless(one: Evaluation) -> Any:
        data = json.loads(to_json(one))
        for part in [data, *data["systems"], *data["modes"]]:
            for key in ("seconds", "median_ms", "retrieve_ms"):
                part.pop(key, None)
        return data

    assert timeless(again) == timeless(evaluation)


def test_progress_counts_every_search_and_what_it_raises_ends_the_run(
    workspace: Workspace, labels: Path
) -> None:
    seen: list[EvaluationProgress] = []
    workspace.evaluate("shop", labels=labels, on_progress=seen.append)

    class Enough(Exception):
        pass

    def stop(progress: EvaluationProgress) -> None:
        if progress.message.startswith("Making"):
            raise Enough

    done = [progress.done for progress in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, seen[-1].total)
    assert {progress.total for progress in seen} == {seen[-1].total}
    with pytest.raises(Enough):
        workspace.evaluate("shop", labels=labels, on_progress=stop)
    assert list((workspace.settings.data_dir / "evaluations").iterdir()) == []


def test_labels_of_another_collection_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InvalidLabels, match="None of the 1 targets"):
        workspace.evaluate("shop", labels=spans(tmp_path, row()))
    with pytest.raises(InvalidLabels, match="No labelled set ships with 'shop'"):
        workspace.evaluate("shop")


def test_a_query_that_no_search_takes_is_named_before_any_is_asked(
    workspace: Workspace, corpus: Path, tmp_path: Path
) -> None:
    found = [{**FOUND, "package": corpus.name, "path": "shop/retry.py"}]
    path = spans(tmp_path, row(targets=found), row("long", "word " * 9_000, targets=found))
    seen: list[EvaluationProgress] = []

    with pytest.raises(InvalidLabels, match=r"Query 'long': The query has 45,000 characters"):
        workspace.evaluate("shop", labels=path, on_progress=seen.append)
    assert seen == []


def test_a_file_whose_name_is_no_text_is_read_and_reported(
    workspace: Workspace, corpus: Path, tmp_path: Path
) -> None:
    found = [{**FOUND, "package": corpus.name, "path": "shop/retry.py"}]
    path = spans(tmp_path, row(targets=found)).rename(tmp_path / os.fsdecode(b"caf\xe9.jsonl"))

    evaluation = workspace.evaluate("shop", labels=path, quantization=False)

    assert evaluation.labels == "caf?"
    assert "# shop, caf?" in to_markdown(evaluation).encode().decode()


def test_the_report_is_markdown_that_labels_cannot_break_out_of(
    workspace: Workspace, corpus: Path, tmp_path: Path
) -> None:
    name = "x | <img src=x> `y`\n# z \0 \x1b[2J \x9b2J \uffff"
    found = {**FOUND, "package": corpus.name, "path": "shop/retry.py", "end_line": 12}
    path = spans(tmp_path, row(category=name, query=name, targets=[found]))
    report = to_markdown(evaluation := workspace.evaluate("shop", labels=path, quantization=False))
    line = next(line for line in report.split("\n") if line.startswith("| x "))

    assert line.replace("\\|", "").count("|") == 3 + len(evaluation.systems)
    assert "<img" not in line.replace("\\<", "")
    assert not set(report) & {"\0", "\x1b", "\x9b"}, "nothing that a terminal obeys"
    assert "| + reranker |" in report
    drawing = to_svg(evaluation)
    assert ET.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    assert "<img" not in drawing


def test_the_plot_shows_every_system_category_and_mode(evaluation: Evaluation) -> None:
    texts = [element.text for element in ET.fromstring(to_svg(evaluation)).iter() if element.text]

    for system in evaluation.systems:
        assert system.name in texts
        assert f"{system.interval.mean:.3f}" in texts
    assert "howto (1)" in texts
    assert "binary+scalar, rescored" in texts
