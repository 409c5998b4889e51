"""Floors, filters and places in a workspace over the real engine and models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from samples import write_files

from backend.errors import InvalidQuery, UnknownCollection, UnknownPlace
from backend.workspace import Workspace

RETRY = '''def {name}(batch, attempts=3):
    """Send a failed batch again, with a longer pause each time."""
    for attempt in range(attempts):
        if send(batch):
            return True
        time.sleep(2 ** attempt)
    return False
'''
FILES = {
    "src/retry.py": RETRY.format(name="send_with_retries"),
    "src/again.py": RETRY.format(name="deliver_again"),
    "src/color.py": 'def parse_color(text):\n    """Read a color such as #ff8800."""\n' * 2,
    "src/net/retry.go": "package net\n\n// Dial connects.\nfunc Dial(host string) {}\n",
    "tests/test_retry.py": "def test_a_failed_batch():\n    assert send_with_retries([1])\n",
    "docs/guide.md": "# Retries\n\nA failed batch is sent again.\n\n# Colors\n\nWrite #ff8800.\n",
}


@pytest.fixture(scope="module")
def workspace(
    open_workspace: Callable[..., Workspace], tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    made = open_workspace()
    made.index(write_files(tmp_path_factory.mktemp("code"), FILES), collection="code")
    return made


def test_related_chunks_of_a_place_come_most_similar_first(workspace: Workspace) -> None:
    related = workspace.find_related("src/retry.py", 3, collection="code")

    assert related.place.path == "src/retry.py"
    assert related.hits[0].chunk.path == "src/again.py"
    assert related.place not in [hit.chunk for hit in related.hits]
    scores = [hit.score for hit in related.hits]
    assert scores == sorted(scores, reverse=True)
    assert 0.6 < scores[0] < 1.001


def test_the_end_of_a_path_is_enough(workspace: Workspace) -> None:
    place = workspace.find_related("./again.py", 1, collection="code", top_k=1).place

    assert place.path == "src/again.py"


@pytest.mark.parametrize(
    ("path", "line", "says"),
    [
        ("src/rety.py", 1, r"no file src/rety\.py\. Did you mean src/retry\.py"),
        ("src/retry.py", 900, r"No chunk of src/retry\.py holds line 900\."),
        ("try.py", 1, r"no file try\.py"),
    ],
)
def test_an_unknown_place_is_refused_with_what_is_there(
    workspace: Workspace, path: str, line: int, says: str
) -> None:
    with pytest.raises(UnknownPlace, match=says):
        workspace.find_related(path, line, collection="code")


def test_an_ambiguous_path_is_refused_with_the_files(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    made = open_workspace()
    made.index(write_files(tmp_path, {"a/x.py": "a = 1\n", "b/x.py": "b = 2\n"}), collection="two")

    with pytest.raises(UnknownPlace, match=r"2 files end with x\.py: a/x\.py, b/x\.py"):
        made.find_related("x.py", 1, collection="two")


@pytest.mark.parametrize(
    ("path", "line", "top_k"),
    [
        ("", 1, 5),
        ("x" * 5_000, 1, 5),
        ("a\udce9.py", 1, 5),
        ("a.py", 0, 5),
        ("a.py", True, 5),
        ("a.py", 1, 101),
    ],
)
def test_a_bad_place_is_refused(workspace: Workspace, path: str, line: int, top_k: int) -> None:
    with pytest.raises(InvalidQuery):
        workspace.find_related(path, line, collection="code", top_k=top_k)


def test_related_chunks_need_a_collection(workspace: Workspace) -> None:
    with pytest.raises(UnknownCollection):
        workspace.find_related("a.py", 1, collection="nowhere")


def test_patterns_and_sources_limit_a_search(workspace: Workspace) -> None:
    def paths(**filters: object) -> set[str]:
        response = workspace.search("retry a batch", collection="code", rerank=False, **filters)
        return {hit.chunk.path for hit in response.hits}

    assert paths(paths="retry.*") == {"src/retry.py", "src/net/retry.go"}
    assert paths(paths=["src/**/*.py", "!again.py"]) == {"src/retry.py", "src/color.py"}
    assert paths(sources="dir:elsewhere") == set()


def test_a_floor_withholds_what_does_not_answer(workspace: Workspace) -> None:
    def ask(text: str, floor: str | None) -> tuple[str, int, int]:
        response = workspace.search(text, collection="code", min_confidence=floor)
        return response.confidence.label, len(response.hits), response.withheld

    label, shown, withheld = ask("send a failed batch again", "medium")
    assert label in ("medium", "high")
    assert (shown > 0, withheld) == (True, 0)
    label, shown, withheld = ask("weather in Paris tomorrow", "low")
    assert (label, shown) == ("none", 0)
    assert withheld > 0
    label, shown, withheld = ask("weather in Paris tomorrow", None)
    assert (label, withheld) == ("none", 0)
    assert shown > 0


def test_an_unknown_floor_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InvalidQuery, match=r"min_confidence is 'sure'\. Pass one of low, medium"):
        workspace.search("x", collection="code", min_confidence="sure")


def test_a_misspelled_name_is_found_and_the_answer_says_how_it_was_read(
    workspace: Workspace,
) -> None:
    response = workspace.search("send_wiht_retries", collection="code")

    assert response.query.text == "send_wiht_retries"
    assert response.query.read_as == "send_with_retries"
    assert response.hits[0].chunk.path == "src/retry.py"


def test_a_path_and_line_answer_with_that_place(workspace: Workspace) -> None:
    response = workspace.search("color.py:2", collection="code")

    assert response.hits[0].chunk.path == "src/color.py"
    trace = 'File "/home/me/lib/python3.11/site-packages/src/color.py", line 2, in mix'
    assert workspace.search(trace, collection="code").hits[0].chunk.path == "src/color.py"
