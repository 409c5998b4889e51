"""Fixtures over the real models. They are made once and kept between runs."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from project import FILES

from backend.config import DEFAULT_COLLECTION, load_settings
from backend.preparation import Build, Preparation
from backend.workspace import Workspace


@dataclass(frozen=True)
class App:
    """A served app."""

    url: str
    workspace: Workspace
    preparation: Preparation


@pytest.fixture(scope="session")
def cache(pytestconfig: pytest.Config) -> Path:
    """Folder of models and downloads that outlives a run; RANKSCOPE_TEST_CACHE names another."""
    named = os.environ.get("RANKSCOPE_TEST_CACHE")
    if named:
        folder = Path(named)
    else:
        assert pytestconfig.cache is not None
        folder = pytestconfig.cache.mkdir("rankscope")
    for part in ("models", "downloads"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def open_workspace(
    cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Workspace]]:
    """Open workspaces in empty data folders that share the models."""
    opened = []

    def open_one(**settings: object) -> Workspace:
        data_dir = tmp_path_factory.mktemp("data")
        for part in ("models", "downloads"):
            (data_dir / part).symlink_to(cache / part)
        workspace = Workspace(settings=load_settings(data_dir=data_dir, **settings))
        opened.append(workspace)
        return workspace

    yield open_one
    for workspace in opened:
        workspace.close()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of `project.py`."""
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="session")
def serve(open_workspace: Callable[..., Workspace]) -> Iterator[Callable[..., App]]:
    """Serve apps whose default collection is made by the given function."""
    import app

    served = []

    def serve_one(make: Callable[[Workspace], Build], **settings: object) -> App:
        workspace = open_workspace(port=0, rerank_budget_ms=10_000, **settings)
        preparation = Preparation(workspace, build=make(workspace))
        page, url = app.serve(workspace, preparation)
        served.append((page, preparation))
        preparation.start()
        return App(url=url, workspace=workspace, preparation=preparation)

    yield serve_one
    for page, preparation in served:
        preparation.stop()
        page.close(verbose=False)
    served.clear()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Gradio's server leaves sockets and a loop to the collector.
        gc.collect()


@pytest.fixture(scope="session")
def app(serve: Callable[..., App], corpus: Path) -> App:
    """The app with the small project as its default collection, ready to answer."""
    served = serve(
        lambda workspace: (
            lambda on_progress: workspace.index(
                corpus, collection=DEFAULT_COLLECTION, on_progress=on_progress
            )
        )
    )
    readiness = served.preparation.wait(timeout_s=300)
    assert readiness.step == "ready", readiness
    return served
