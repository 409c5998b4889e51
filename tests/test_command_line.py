"""`python -m backend` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from provider import Answer, Provider, running
from samples import write_files

from backend.workspace import Workspace

ROOT = Path(__file__).parent.parent
KEY = "sk-operator-0123456789abcdef"
LEAN = """
import sys
from backend.__main__ import main
status = main(["search", "how are batches retried", "--collection", "shop"])
heavy = {"torch", "transformers", "sentence_transformers", "gradio", "optimum", "onnx", "pandas"}
print("heavy:", sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
sys.exit(status)
"""
INTERRUPTED = """
import sys
import backend.__main__ as command

def stop():
    raise KeyboardInterrupt

command.load_settings = stop
sys.exit(command.main(sys.argv[1:]))
"""


def run(
    data_dir: Path, *arguments: str | bytes, code: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "backend"]), *arguments]
    env = {name: value for name, value in os.environ.items() if "RANKSCOPE" not in name}
    env |= {"RANKSCOPE_DATA_DIR": str(data_dir), "COLUMNS": "200", **environment}
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def data_dir(
    open_workspace: Callable[..., Workspace], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A data folder with the collection `shop`, held by nobody."""
    files = {
        "shop/retry.py": "def send(batch):\n    '''Retry a failed batch.'''\n",
        "shop/cart.py": "def total(cart):\n    '''Sum the prices.'''\n",
        "logo.png": "x",
    }
    workspace = open_workspace()
    folder = write_files(tmp_path_factory.mktemp("shop"), files)
    workspace.index(folder, collection="shop", description="A shop.")
    workspace.close()
    return workspace.settings.data_dir


def test_search_prints_hits_with_their_lines_and_every_stages_time(data_dir: Path) -> None:
    done = run(data_dir, "search", "retry a batch", "--collection", "shop", "--top-k", "1")

    assert done.returncode == 0, done.stderr
    assert "shop/retry.py:1-2" in done.stdout
    assert "cart" not in done.stdout
    assert all(
        stage in done.stdout
        for stage in ("read", "embed", "retrieve", "rank", "assess", "rerank", "total")
    )
    assert done.stderr == ""


def test_search_prints_json_that_holds_the_whole_answer(data_dir: Path) -> None:
    done = run(
        data_dir,
        *("search", "retry a batch", "--collection", "shop", "--json", "--language", "python"),
        *("--kind", "function", "--path-prefix", "shop/r", "--no-rerank"),
    )
    answer = json.loads(done.stdout)

    assert [hit["chunk"]["path"] for hit in answer["hits"]] == ["shop/retry.py"]
    assert answer["hits"][0]["chunk"]["start_line"] == 1
    assert answer["before"] == answer["hits"]
    assert list(answer["timings"]) == ["read", "embed", "retrieve", "rank", "assess", "total"]
    assert answer["index"]["model"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_an_answer_without_the_embedding_model_says_so_and_why(data_dir: Path) -> None:
    """Also where the output is read by a program, whose stdout stays what it was."""
    asked = ("search", "retry a batch", "--collection", "shop")
    with running(lambda asked: Answer(hang_up=True)) as provider:
        served = environment("EMBEDDER", provider)
        plain, as_json = run(data_dir, *asked, **served), run(data_dir, *asked, "--json", **served)
    answer = json.loads(as_json.stdout)
    why = "Found by words alone, without the embedding model: The provider at 127.0.0.1 cannot be"

    assert (plain.returncode, as_json.returncode) == (0, 0)
    assert any(line.startswith(f"warning: {why}") for line in plain.stderr.splitlines())
    assert "shop/retry.py:1-2" in plain.stdout
    assert "words alone" not in plain.stdout
    assert answer["degraded"].startswith(why)
    assert [hit["chunk"]["path"] for hit in answer["hits"]] == ["shop/retry.py"]
    assert KEY not in plain.stderr + plain.stdout + as_json.stderr + as_json.stdout


def test_an_answer_without_the_reranker_says_so_and_why(data_dir: Path) -> None:
    asked = ("search", "retry a batch", "--collection", "shop")
    with running(lambda asked: Answer(status=401)) as provider:
        served = environment("RERANKER", provider) | {"RANKSCOPE_RERANKER": "acme/rank"}
        plain, as_json = run(data_dir, *asked, **served), run(data_dir, *asked, "--json", **served)
    answer = json.loads(as_json.stdout)

    assert (plain.returncode, as_json.returncode) == (0, 0)
    assert "(not reranked: The provider at 127.0.0.1 refused the key" in plain.stdout
    assert "refused the key" in answer["rerank_note"]
    assert (answer["reranked"], answer["degraded"]) == (0, "")
    assert answer["hits"] == answer["before"], "the order is the first stage's"
    assert KEY not in plain.stderr + plain.stdout + as_json.stderr + as_json.stdout


def environment(part: str, provider: Provider) -> dict[str, str]:
    """Settings that let a provider serve a model, under a key."""
    served = {"PROVIDER": "custom", "URL": provider.url, "KEY": KEY}
    return {f"RANKSCOPE_{part}_{name}": value for name, value in served.items()}


def test_search_keeps_to_path_patterns_and_to_a_floor(data_dir: Path) -> None:
    asked = ("search", "retry a batch", "--collection", "shop")
    kept = run(data_dir, *asked, "--path", "shop/*.py", "--path", "!**/retry.py", "--json")
    floored = run(data_dir, *asked[:1], "how to bake bread", *asked[2:], "--min-confidence", "high")

    assert [hit["chunk"]["path"] for hit in json.loads(kept.stdout)["hits"]] == ["shop/cart.py"]
    assert floored.returncode == 0
    assert "shop/" not in floored.stdout
    assert "No good match" in floored.stdout


def test_related_shows_chunks_like_the_one_at_a_place(data_dir: Path) -> None:
    plain = run(data_dir, "related", "retry.py:1", "--collection", "shop")
    answer = json.loads(
        run(data_dir, "related", "retry.py:1", "--collection", "shop", "--json").stdout
    )

    assert "shop/cart.py:1-2" in plain.stdout
    assert [hit["chunk"]["path"] for hit in answer["hits"]] == ["shop/cart.py"]


def test_a_search_imports_nothing_heavy(data_dir: Path) -> None:
    """Torch and its friends are installed here, as the oracle: a search must not load them."""
    done = run(data_dir, code=LEAN)

    assert done.returncode == 0, done.stderr
    assert "shop/retry.py" in done.stdout
    assert done.stdout.rstrip().endswith("heavy: []")


def test_index_reports_what_it_did_and_says_when_nothing_changed(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    workspace = open_workspace()
    workspace.close()
    data = workspace.settings.data_dir
    folder = write_files(tmp_path / "notes", {"a.md": "# Notes\n\nBuy milk.\n", "b.bin": "x"})
    first = run(data, "index", str(folder))
    second = run(data, "index", str(folder), "--json")
    report = json.loads(second.stdout)

    assert (first.returncode, second.returncode) == (0, 0)
    assert "notes: 1 chunks of 1 files" in first.stdout
    assert "1 skipped: not a known text format" in first.stdout
    assert (report["changed"], report["info"]["name"]) == (False, "notes")


def test_status_works_while_an_app_holds_the_folder(data_dir: Path) -> None:
    with Workspace(data_dir) as app:
        app.announce("http://127.0.0.1:7860")
        plain, as_json = run(data_dir, "status"), run(data_dir, "status", "--json")
    status = json.loads(as_json.stdout)

    assert plain.returncode == 0
    assert "shop: 2 chunks of 2 files" in plain.stdout
    assert f"http://127.0.0.1:7860 (process {os.getpid()})" in plain.stdout
    assert status["app"]["url"] == "http://127.0.0.1:7860"
    assert status["collections"][0]["description"] == "A shop."


def test_status_of_nothing_says_how_to_begin_and_makes_no_folder(tmp_path: Path) -> None:
    done = run(tmp_path / "none", "status")

    assert done.returncode == 0
    assert "python -m backend index" in done.stdout
    assert not (tmp_path / "none").exists()


def test_a_folder_in_use_is_refused_with_the_apps_address(data_dir: Path) -> None:
    with Workspace(data_dir) as app:
        app.announce("http://127.0.0.1:7860")
        done = run(data_dir, "search", "x", "--collection", "shop")

    assert (done.returncode, done.stdout) == (1, "")
    assert "error:" in done.stderr
    assert "http://127.0.0.1:7860" in done.stderr


REFUSED: dict[str, tuple[list[str | bytes], str]] = {
    "blank": (["search", " ", "--collection", "shop"], "query is empty"),
    "not UTF-8": (["search", b"caf\xe9", "--collection", "shop"], "query is not valid UTF-8"),
    "filter not UTF-8": (
        ["search", "x", "--collection", "shop", b"--path-prefix=\xff"],
        "filter is not valid UTF-8",
    ),
    "unknown collection": (["search", "x", "--collection", "no"], "Known collections: shop"),
    "collection not UTF-8": (["search", "x", b"--collection=\xff"], "Known collections: shop"),
    "top_k": (["search", "x", "--collection", "shop", "--top-k", "0"], "between 1 and 100"),
    "no folder": (["index", "/no/such/folder"], "There is no folder"),
    "folder not UTF-8": (["index", b"/no/\xff"], "There is no folder"),
    "empty folder name": (["index", ""], "No folder was named"),
    "no labels ship": (["evaluate", "--collection", "shop"], "No labelled set ships with 'shop'"),
    "labels of nothing": (
        ["evaluate", "--collection", "shop", "--queries", "/no/such"],
        "There are no labels at '/no/such'",
    ),
    "no place for the report, which is told first": (
        ["evaluate", "--collection", "shop", "--queries", "/no/such", "--out", "/dev/null/report"],
        "The report cannot be written to '/dev/null/report'",
    ),
    "bad pattern": (["search", "x", "--collection", "shop", "--path", "a["], "a["),
    "unknown confidence": (
        ["search", "x", "--collection", "shop", "--min-confidence", "sure"],
        "low, medium, high",
    ),
    "place without a line": (["related", "retry.py", "--collection", "shop"], "path:line"),
    "place of nothing": (["related", "no.py:1", "--collection", "shop"], "no.py"),
    "malformed package": (["index", "pypi:shop"], "Name a pinned release"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_ends_in_one_line_that_tells_the_fix(data_dir: Path, case: str) -> None:
    arguments, expected = REFUSED[case]
    done = run(data_dir, *arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1, "no traceback"


def test_a_refusal_is_json_where_json_was_asked_for(data_dir: Path) -> None:
    done = run(data_dir, "search", "x", "--collection", "no", "--json")

    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "error": "There is no collection 'no'.",
        "fix": "Known collections: shop. Make one with python -m backend index.",
    }


@pytest.mark.parametrize(
    ("command", "expected"),
    [("index", "Stopped. Indexing again goes on from here.\n"), ("evaluate", "Stopped.\n")],
)
def test_an_interruption_promises_only_what_is_so(
    data_dir: Path, command: str, expected: str
) -> None:
    done = run(data_dir, command, code=INTERRUPTED)

    assert (done.returncode, done.stdout, done.stderr) == (130, "", expected)


def test_an_invalid_setting_is_named(data_dir: Path) -> None:
    done = run(data_dir, "status", RANKSCOPE_PORT="ten")

    assert done.returncode == 1
    assert "RANKSCOPE_PORT is not valid" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["search"], ["search", "x", "--top-k", "ten"], ["evaluate", "--seed", "-1"]],
)
def test_wrong_usage_ends_with_status_2(data_dir: Path, arguments: list[str]) -> None:
    done = run(data_dir, *arguments)

    assert done.returncode == 2
    assert "usage: python -m backend" in done.stderr
