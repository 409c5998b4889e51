"""The default collection, built and searched as a newcomer does it: from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from backend.build import DEFAULT_MANIFEST, LABELS
from backend.evaluation.labels import read_labels
from backend.ingestion.collection import Manifest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data_dir(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default")
    for part in ("models", "downloads"):
        (folder / part).symlink_to(cache / part)
    return folder


@pytest.fixture(scope="module")
def report(data_dir: Path) -> dict[str, Any]:
    """Builds the collection; a minute on two cores."""
    return backend(data_dir, "index")


def backend(data_dir: Path, *arguments: str) -> Any:
    """Run a command with `--json` and read its answer."""
    result = subprocess.run(
        [sys.executable, "-m", "backend", *arguments, "--json"],
        cwd=ROOT,
        env=os.environ | {"RANKSCOPE_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_every_pinned_wheel_is_indexed(report: dict[str, Any]) -> None:
    sources = {entry["source"]: entry for entry in report["info"]["sources"]}

    assert set(sources) == set(Manifest.load(DEFAULT_MANIFEST).sources)
    assert all(entry["chunks"] > 0 for entry in sources.values())
    assert not any(entry["note"] for entry in sources.values())


def test_identical_files_are_indexed_once(report: dict[str, Any], data_dir: Path) -> None:
    """Qdrant Edge ships one stub twice; the copy inside the package is the one that stays."""
    assert report["info"]["skipped"]["identical to another file"] >= 1

    answer = backend(
        data_dir, "search", "EdgeShard", "--package", "qdrant-edge-py", "--top-k", "100"
    )

    paths = Counter(hit["chunk"]["path"] for hit in answer["hits"])
    assert paths["qdrant_edge/__init__.pyi"] > 10
    assert "qdrant_edge.pyi" not in paths


def test_the_first_question_of_the_readme_is_answered_in_the_top_three(
    report: dict[str, Any], data_dir: Path
) -> None:
    """Rescoring is a parameter of a search, binary quantization one of a collection."""
    answer = backend(data_dir, "search", "how do I turn on binary quantization with rescoring")

    best = [hit["chunk"] for hit in answer["hits"][:3]]
    assert any(
        chunk["symbol"].split(".")[0] in {"QuantizationSearchParams", "BinaryQuantizationConfig"}
        for chunk in best
    ), [(chunk["path"], chunk["symbol"]) for chunk in best]
    assert {"read", "embed", "retrieve", "rank", "assess", "rerank", "total"} == set(
        answer["timings"]
    )
    assert len(answer["before"]) == len(answer["hits"]) == 10


def test_hits_quote_the_wheel_to_the_letter(report: dict[str, Any], data_dir: Path) -> None:
    import zipfile

    (wheel,) = (data_dir / "downloads").glob("qdrant_client-*.whl")
    answer = backend(
        data_dir, "search", "delete vectors by name", "--package", "qdrant-client", "--no-rerank"
    )

    with zipfile.ZipFile(wheel) as archive:
        for hit in answer["hits"]:
            chunk = hit["chunk"]
            lines = archive.read(chunk["path"]).decode().split("\n")
            quoted = "\n".join(lines[chunk["start_line"] - 1 : chunk["end_line"]])
            assert chunk["text"] == quoted
            assert chunk["source"] == "pypi:qdrant-client==1.20.0"


def test_the_readme_of_a_wheel_is_documentation(report: dict[str, Any], data_dir: Path) -> None:
    answer = backend(
        data_dir, "search", "run the server with docker", "--language", "markdown", "--no-rerank"
    )

    best = answer["hits"][0]["chunk"]
    assert best["path"].endswith(".dist-info/METADATA")
    assert (best["kind"], best["symbol"] != "") == ("section", True)


def test_the_shipped_labels_are_whole_and_every_target_lies_in_the_wheels(
    report: dict[str, Any], data_dir: Path
) -> None:
    import zipfile

    labels = read_labels(LABELS / "qdrant_ecosystem.jsonl")
    wheels = {
        path.name.split("-")[0].replace("_", "-"): zipfile.ZipFile(path)
        for path in (data_dir / "downloads").glob("*.whl")
    }

    assert len(labels.queries) >= 60
    assert len({query.text.lower() for query in labels.queries}) == len(labels.queries)
    categories = {"howto", "behaviour", "architecture", "symbol", "error", "docs", "api"}
    assert {query.category for query in labels.queries} == categories
    for query in labels.queries:
        assert max(target.grade for target in query.targets) == 2, query.id
        for target in query.targets:
            text = wheels[target.package].read(target.path).decode()
            lines = text.split("\n")[target.start_line - 1 : target.end_line]
            assert len(lines) == target.end_line - target.start_line + 1, (query.id, target)
            assert any(line.strip() for line in lines), (query.id, target)


def test_evaluate_without_arguments_measures_the_default_collection(
    report: dict[str, Any], data_dir: Path, tmp_path: Path
) -> None:
    """The gain of the hybrid over dense search is large; less would be a fault, not noise."""
    found = backend(data_dir, "evaluate", "--no-quantization", "--out", str(tmp_path / "out"))
    measured = {system["name"]: system["means"]["nDCG@10"] for system in found["systems"]}

    assert (found["collection"], found["labels"]) == ("qdrant_ecosystem", "qdrant_ecosystem")
    assert found["queries"] == len(read_labels(LABELS / "qdrant_ecosystem.jsonl").queries)
    assert found["notes"] == [], "no target is stale"
    assert measured["hybrid"] > measured["dense"] + 0.1
    assert found["modes"] == []
    saved = {path.name for path in (tmp_path / "out").iterdir()}
    assert saved == {"evaluation.json", "evaluation.md", "evaluation.svg"}
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == found


def test_indexing_again_finds_nothing_to_do(report: dict[str, Any], data_dir: Path) -> None:
    again = backend(data_dir, "index")

    assert again["changed"] is False
    assert again["info"]["built_at"] == report["info"]["built_at"]
