"""Fixtures over the real models. They are made once and kept between runs."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright
from project import FILES

from backend.background import Background
from backend.config import DEFAULT_COLLECTION, load_settings
from backend.embedding.local import LocalEmbedder
from backend.preparation import Build, Preparation
from backend.types import FloatArray
from backend.workspace import Workspace

CHROMIUM = os.environ.get("CHROMIUM", shutil.which("chromium") or "/usr/bin/chromium")
TIMEOUT_MS = 15_000
PAGE_LEFT = ("AbortError: signal is aborted", "Unexpected error Connection errored out")
"""What Gradio's client logs of its event stream and its requests when a page is left."""


@dataclass(frozen=True)
class App:
    """A served app."""

    url: str
    workspace: Workspace
    preparation: Preparation
    page: Any


def call(
    url: str, handler: str, data: list[Any], event: dict[str, str] | None = None, **headers: str
) -> str:
    """Call a private handler of the page over plain HTTP, as anyone can; gives its answer."""
    config = httpx.get(f"{url}config").json()
    number = next(
        function["id"]
        for function in config["dependencies"]
        if handler in str(function["api_name"])
    )
    answer = httpx.post(
        f"{url}gradio_api/run/predict",
        json={"data": data, "event_data": event, "fn_index": number, "session_hash": "x"},
        headers=headers,
        timeout=60,
    )
    return answer.text


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
        background = Background(workspace)
        page, url = app.serve(workspace, preparation, background)
        _collect_gradios_loops()
        served.append((page, preparation, background))
        preparation.start()
        return App(url=url, workspace=workspace, preparation=preparation, page=page)

    yield serve_one
    for page, preparation, background in served:
        preparation.stop()
        background.close(timeout_s=10)
        page.close(verbose=False)
    served.clear()
    _collect_gradios_loops()


def _collect_gradios_loops() -> None:
    """Gradio makes event loops that it never closes; collected later, some test would be blamed."""
    asyncio.set_event_loop(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def indexing(corpus: Path) -> Callable[[Workspace], Build]:
    """What `serve` takes to make a folder the default collection."""
    return lambda workspace: (
        lambda on_progress: workspace.index(
            corpus, collection=DEFAULT_COLLECTION, on_progress=on_progress
        )
    )


@pytest.fixture(scope="session")
def app(serve: Callable[..., App], corpus: Path) -> App:
    """The app with the small project as its default collection, ready to answer."""
    served = serve(indexing(corpus))
    readiness = served.preparation.wait(timeout_s=300)
    assert readiness.step == "ready", readiness
    return served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        assert os.environ.get("CI") != "true", f"CI needs Chromium at {CHROMIUM}"
        pytest.skip(f"No Chromium at {CHROMIUM}: install it, or set CHROMIUM to its path.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages; in the end none of them has logged an error or asked another server."""
    contexts, complaints = [], []

    def local_only(route: Route) -> None:
        if route.request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            route.continue_()
        else:
            complaints.append(f"request to {route.request.url}")
            route.abort()

    def open_page(url: str, **options: Any) -> Page:
        context = browser.new_context(reduced_motion="reduce", **options)
        contexts.append(context)
        context.route("**/*", local_only)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: complaints.append(f"error {error}"))
        page.on(
            "console",
            lambda said: (
                complaints.append(f"console {said.text}")
                if said.type == "error" and not said.text.startswith(PAGE_LEFT)
                else None
            ),
        )
        page.goto(url)
        page.locator("#q input").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def held_embedding(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Hold the embedding of documents back until the event is set."""
    release, embed = threading.Event(), LocalEmbedder.embed_documents

    def hold(self: LocalEmbedder, texts: list[str]) -> FloatArray:
        release.wait(30)
        return embed(self, texts)

    monkeypatch.setattr(LocalEmbedder, "embed_documents", hold)
    yield release
    release.set()
