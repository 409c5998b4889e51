"""Imports point one way, and settings have one home: read from the source, not from a run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BACKEND = sorted((ROOT / "backend").rglob("*.py"))
STAGES = ("embedding", "ingestion", "store", "ranking", "reranking")
LEVELS = [
    {"types", "errors"},
    {"timing", "globs", "links", "wheels", "sdist", "providers", "data_folder"},
    {"inference"},
    {"models"},
    {"config"},
    {*STAGES, "query"},
    {"catalog", "server_catalog", "ledger", "pipeline"},
    {"reading"},
    {"preview", "export", "indexer", "evaluation", "following"},
    {"build"},
    {"bench", "loading"},
    {"workspace", "shelf"},
    {"preparation", "background", ""},
    {"models_command"},
    {"__main__"},
]
"""From what everything may import to what nothing may; `""` is `backend/__init__.py`."""


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all modules that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    """The module or sub-package of `backend` that a file belongs to."""
    first = path.relative_to(ROOT / "backend").parts[0]
    return first.removesuffix(".py").replace("__init__", "")


def parts_imported(path: Path) -> set[str]:
    known = {part_of(other) for other in BACKEND}
    names = {name.split(".")[1] for name in imports(path) if name.startswith("backend.")}
    return names & known


def level(part: str) -> int:
    return next(i for i, parts in enumerate(LEVELS) if part in parts)


@pytest.mark.parametrize("path", BACKEND, ids=lambda path: str(path.relative_to(ROOT)))
def test_backend_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    for other in parts_imported(path) - {part}:
        assert level(other) <= level(part), f"{part} imports {other}"
        assert not (part in STAGES and other in STAGES), f"stage {part} imports stage {other}"


def test_types_and_errors_import_nothing_of_ours() -> None:
    for name in ("types", "errors"):
        ours = [used for used in imports(ROOT / f"backend/{name}.py") if used.startswith("backend")]
        assert ours == []


@pytest.mark.parametrize("path", BACKEND, ids=lambda path: str(path.relative_to(ROOT)))
def test_backend_imports_neither_the_page_nor_what_only_training_needs(path: Path) -> None:
    banned = {"gradio", "app", "ui", "mcp_tools", "training", "benchmarks", "tests"}
    banned |= {"torch", "transformers", "sentence_transformers", "optimum"}

    assert {name.partition(".")[0] for name in imports(path)} & banned == set()


@pytest.mark.parametrize("path", BACKEND, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_config_reads_the_environment(path: Path) -> None:
    reads = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
    }
    names = {"os.environ", "os.getenv", "os.environb", "dotenv"} & {*imports(path)}
    settings = any(name.startswith("pydantic_settings") for name in imports(path))

    assert path.name == "config.py" or not (reads or names or settings)


def test_only_build_names_concrete_classes() -> None:
    concrete = {"EdgeStore", "ServerStore", "ExactStore", "LocalEmbedder", "CrossEncoder"}
    concrete |= {"EmbeddingEndpoint", "RerankEndpoint", "ListwiseEndpoint"}
    naming = {
        part_of(path)
        for path in BACKEND
        if concrete & {name.rpartition(".")[2] for name in imports(path)}
    }

    assert naming == {"build"}
