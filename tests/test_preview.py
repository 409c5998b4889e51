"""What indexing would do is shown before it is done, and is what it then does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import write_files

from backend.errors import InvalidSource
from backend.types import IndexProgress
from backend.workspace import Workspace

ROOT = Path(__file__).parent.parent
FILES: dict[str, str | bytes] = {
    **{f"shop/part_{i}.py": f"def part_{i}():\n    return {i}\n" * 40 for i in range(12)},
    "shop/copy.py": "def part_1():\n    return 1\n" * 40,
    "README.md": "# Shop\n\nA shop.\n\n## Cart\n\nIts cart.\n",
    **{f"logo_{i}.png": b"\x89PNG" for i in range(9)},
    "node_modules/x.js": "f()",
}


@pytest.fixture(scope="module")
def workspace(open_workspace: Callable[..., Workspace]) -> Workspace:
    return open_workspace()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "my shop", FILES)


def test_a_preview_says_what_indexing_then_does(workspace: Workspace, folder: Path) -> None:
    seen: list[IndexProgress] = []
    found = workspace.preview(folder, on_progress=seen.append)
    before = [info.name for info in workspace.collections()]
    report = workspace.index(folder)

    assert before == []
    assert (found.files, found.chunks) == (report.info.files, report.info.chunks)
    assert found.skipped == report.info.skipped
    assert found.collection == report.info.name == "my-shop"
    assert [(one.source, one.files, one.chunks) for one in found.sources] == [
        (one.source, one.files, one.chunks) for one in report.info.sources
    ]
    assert found.languages == {"python": 12, "markdown": 1}
    assert (seen[-1].files, seen[-1].chunks_total) == (found.files, found.chunks)


def test_what_is_left_out_is_shown_by_reason_with_some_paths(
    workspace: Workspace, folder: Path
) -> None:
    found = workspace.preview(folder)

    assert found.skipped["not a known text format"] == 9
    assert found.examples["not a known text format"] == tuple(f"logo_{i}.png" for i in range(5))
    assert found.examples["tool or dependency folder"] == ("node_modules/",)
    assert len(found.examples["identical to another file"]) == 1


def test_the_time_is_what_the_measured_pace_makes_of_all_chunks(
    workspace: Workspace, folder: Path
) -> None:
    found = workspace.preview(folder)

    assert found.chunks_per_second > 0
    assert found.seconds == pytest.approx(found.chunks / found.chunks_per_second)


def test_nothing_to_index_takes_no_time_and_says_why(workspace: Workspace, tmp_path: Path) -> None:
    found = workspace.preview(write_files(tmp_path / "pictures", {"a.png": b"\x89PNG"}))

    assert (found.files, found.chunks, found.seconds) == (0, 0, 0)
    assert found.examples == {"not a known text format": ("a.png",)}


def test_several_sources_make_one_collection(workspace: Workspace, tmp_path: Path) -> None:
    one = write_files(tmp_path / "one", {"a.py": "def first(): ...\n", "same.py": "x = 1\n"})
    two = write_files(tmp_path / "two", {"b.py": "def second(): ...\n", "same.py": "x = 1\n"})
    found = workspace.preview([one, two])
    report = workspace.index([one, two])

    assert found.collection == report.info.name == "one"
    assert [summary.files for summary in report.info.sources] == [2, 1]
    assert found.sources == report.info.sources
    packages = {
        hit.chunk.package for hit in workspace.search("first second", collection="one").hits
    }
    assert packages == {"one", "two"}


def test_a_manifest_names_its_collection_and_several_sources(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_files(
        tmp_path,
        {
            "src/a.py": "def first(): ...\n",
            "docs.jsonl": json.dumps({"body": "How to pay.", "id": "pay"}),
            "shop.toml": """
                name = "whole_shop"
                description = "All of the shop."
                sources = [
                    "dir:src",
                    { source = "jsonl:docs.jsonl", text = "body", path = "id" },
                ]
            """,
        },
    )
    report = workspace.index(tmp_path / "shop.toml")
    renamed = workspace.preview(tmp_path / "shop.toml", collection="other")
    response = workspace.search("how to pay", collection="whole_shop")

    assert (report.info.name, report.info.description) == ("whole_shop", "All of the shop.")
    assert [hit.chunk.text for hit in response.hits if hit.chunk.path == "pay"] == ["How to pay."]
    assert renamed.collection == "other"
    assert not workspace.index(tmp_path / "shop.toml").changed


@pytest.mark.parametrize("sources", [[], [""], ["shop.toml"]])
def test_no_source_is_not_the_default_collection(workspace: Workspace, sources: list[str]) -> None:
    with pytest.raises(InvalidSource):
        workspace.preview(sources)


def run(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if "RANKSCOPE" not in name}
    env |= {"RANKSCOPE_DATA_DIR": str(data_dir)}
    return subprocess.run(
        [sys.executable, "-m", "backend", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_line_previews_and_takes_several_sources(
    open_workspace: Callable[..., Workspace], folder: Path, tmp_path: Path
) -> None:
    closed = open_workspace()
    closed.close()
    data_dir = closed.settings.data_dir
    other = write_files(tmp_path / "other", {"b.go": "package b\n\nfunc B() {}\n"})
    shown = run(data_dir, "index", str(folder), str(other), "--preview")
    as_json = run(data_dir, "index", str(folder), str(other), "--preview", "--json")
    done = run(data_dir, "index", str(folder), str(other), "--collection", "both")
    found = json.loads(as_json.stdout)

    assert (shown.returncode, done.returncode) == (0, 0), shown.stderr + done.stderr
    size = f"{found['chunks']:,} chunks of {found['files']:,} files"
    assert shown.stdout.startswith(f"my-shop: {size}, not indexed yet\n")
    assert "chunks/s)" in shown.stdout
    assert "languages by files: python 12, " in shown.stdout
    assert "9 skipped: not a known text format (logo_0.png, " in shown.stdout
    assert "logo_4.png, …)" in shown.stdout
    assert done.stdout.startswith(f"both: {size} in ")
