"""Making collections from the page, and who may."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import App, call
from playwright.sync_api import Page, expect
from samples import wheel_bytes, write_files

from backend.background import Background
from backend.config import Settings
from backend.errors import IndexingBusy, InvalidSource
from backend.workspace import Workspace
from ui.collections_tab import may_index, page_sources

pytestmark = pytest.mark.filterwarnings("ignore")  # Those of Gradio and uvicorn, in this process.
FILES: dict[str, str | bytes] = {
    **{f"pay/part_{i}.py": f"def pay_{i}(bill):\n    return bill * {i}\n" for i in range(6)},
    "guide<b>.md": "# Paying\n\nHow a bill is paid.\n",
    "logo<img src=x onerror=pwned()>.png": b"\x89PNG",
}


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Indexing takes its time where others work too."""
    expect.set_options(timeout=60_000)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "billing", FILES)


@pytest.fixture
def tab(app: App, visit: Callable[..., Page]) -> Page:
    page = visit(app.url)
    page.get_by_role("tab", name="Collections").click()
    expect(page.locator("#sources textarea")).to_be_visible()
    return page


def ask(page: Page, sources: str, button: str, *, name: str = "") -> None:
    page.locator("#sources textarea").fill(sources)
    page.locator("#name input, #name textarea").first.fill(name)
    page.locator(f"#{button}").click()


def test_a_preview_shows_what_would_be_read_and_indexes_nothing(
    app: App, tab: Page, folder: Path
) -> None:
    ask(tab, str(folder), "preview")
    preview = tab.locator(".rs-preview")

    expect(preview).to_contain_text("billing would hold 7 chunks of 7 files.")
    expect(preview).to_contain_text("chunks/s")
    expect(preview.locator(".tag")).to_have_text(["python 6", "markdown 1"])
    expect(preview).to_contain_text("logo<img src=x onerror=pwned()>.png")
    assert "billing" not in [info.name for info in app.workspace.collections()]


def test_indexing_shows_its_progress_and_then_the_collection_can_be_searched(
    app: App, tab: Page, folder: Path, held_embedding: threading.Event
) -> None:
    ask(tab, str(folder), "index", name="bills")
    working = tab.locator("#activity .rs-build")

    expect(working).to_contain_text("7 files")
    expect(working).to_contain_text("7 chunks")
    expect(tab.locator("#stop")).to_be_visible()
    held_embedding.set()
    expect(tab.locator("#activity")).to_contain_text("bills: 7 chunks of 7 files.")
    expect(tab.locator("#collections")).to_contain_text("bills")
    expect(tab.locator("#stop")).to_be_hidden()
    tab.get_by_role("link", name="Search it").click()
    tab.locator("#q input").fill("how is a bill paid")
    tab.locator("#q input").press("Enter")
    expect(tab.locator(".rs-hits .path").filter(has_text="guide<b>.md")).to_have_count(1)


def test_a_new_collection_is_offered_without_a_reload(app: App, tab: Page, folder: Path) -> None:
    ask(tab, str(folder), "index", name="offered")
    expect(tab.locator("#activity")).to_contain_text("offered: 7 chunks")
    tab.get_by_role("tab", name="Search").click()
    tab.get_by_role("button", name="Options").click()
    tab.get_by_label("Collection", exact=True).click()

    expect(tab.get_by_role("option", name="offered")).to_be_visible()


def test_stopping_leaves_what_was_there(
    app: App, tab: Page, folder: Path, held_embedding: threading.Event
) -> None:
    ask(tab, str(folder), "index", name="stopped")
    expect(tab.locator("#activity .rs-build")).to_contain_text("7 chunks")
    tab.locator("#stop").click()
    held_embedding.set()

    expect(tab.get_by_role("alert")).to_contain_text("Stopped.")
    assert "stopped" not in [info.name for info in app.workspace.collections()]


def test_an_error_is_shown_with_its_fix(tab: Page) -> None:
    ask(tab, "/no/such/<b>folder", "preview")
    expect(tab.get_by_role("alert")).to_have_text(
        "There is no folder '/no/such/<b>folder'. Check the path."
    )
    ask(tab, "", "index")
    expect(tab.get_by_role("alert")).to_contain_text("No source was named. Type a folder")
    ask(tab, "git:file:///srv/repo", "preview")
    expect(tab.get_by_role("alert")).to_contain_text("over https only")
    expect(tab.get_by_text("Error", exact=True)).to_have_count(0)


def test_an_uploaded_archive_becomes_a_source(app: App, tab: Page, tmp_path: Path) -> None:
    (tmp_path / "my shop.zip").write_bytes(wheel_bytes({"shop/a.py": "def a(): ...\n"}))
    with tab.expect_file_chooser() as chooser:
        tab.locator("#upload").click()
    chooser.value.set_files(tmp_path / "my shop.zip")
    kept = app.workspace.settings.data_dir / "uploads" / "my-shop.zip"
    expect(tab.locator("#sources textarea")).to_have_value(f"zip:{kept}")
    tab.locator("#preview").click()

    expect(tab.locator(".rs-preview")).to_contain_text("my-shop would hold 1 chunks of 1 files")


def test_only_one_thing_is_done_at_a_time(
    app: App, folder: Path, held_embedding: threading.Event
) -> None:
    background = Background(app.workspace)
    background.preview([str(folder)], "")
    with pytest.raises(IndexingBusy, match="Wait, or stop it"):
        background.index([str(folder)], "")
    background.stop()
    held_embedding.set()
    background.stop(timeout_s=30)

    assert background.activity.doing == "nothing"


# Who may


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rankscope.example.org"},
        {"Host": "evil.example:7860"},
        {"X-Forwarded-For": "203.0.113.5"},
        {"Forwarded": "for=203.0.113.5"},
    ],
)
def test_a_request_that_is_not_from_this_machine_is_refused_by_the_handler_itself(
    app: App, folder: Path, headers: dict[str, str]
) -> None:
    here = call(app.url, "begin_preview", [str(folder), "refused"])
    deadline = time.monotonic() + 30
    while "would hold" not in here and time.monotonic() < deadline:
        here = call(app.url, "look", [])
    elsewhere = call(app.url, "begin_index", [str(folder), "refused"], **headers)
    seen = call(app.url, "look", [], **headers)

    assert "would hold" in here, "the same call from here is answered"
    assert "Nothing can be indexed from this page." in elsewhere
    assert "would hold" not in seen, "what its owner previews is nobody else's business"
    assert "refused" not in [info.name for info in app.workspace.collections()]


def test_folders_are_suggested_only_to_those_who_may_name_one(
    serve: Callable[..., App], visit: Callable[..., Page], tab: Page
) -> None:
    shared = serve(lambda workspace: lambda on_progress: None, indexing="on")
    elsewhere = visit(shared.url, extra_http_headers={"X-Forwarded-For": "203.0.113.5"})
    elsewhere.get_by_role("tab", name="Collections").click()
    form = elsewhere.locator("#sources")

    expect(form).to_contain_text("pypi:name==1.0")
    expect(form).not_to_contain_text("folder")
    expect(form.locator("textarea")).to_have_attribute("placeholder", re.compile("^git:"))
    expect(tab.locator("#sources")).to_contain_text("A folder, archive")
    expect(tab.locator("#sources textarea")).to_have_attribute("placeholder", re.compile("^/home"))


def test_a_deployment_that_may_not_index_shows_no_form(
    serve: Callable[..., App], visit: Callable[..., Page], folder: Path
) -> None:
    closed = serve(lambda workspace: lambda on_progress: None, indexing="off")
    page = visit(closed.url)
    page.get_by_role("tab", name="Collections").click()
    expect(page.locator("#collections")).to_contain_text("Nothing has been indexed yet")

    expect(page.locator("#sources")).to_have_count(0)
    assert "Nothing can be indexed" in call(closed.url, "begin_index", [str(folder), "x"])
    assert closed.workspace.collections() == []


@pytest.mark.parametrize(
    ("listening", "host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:7860", True),
        ("127.0.0.1", "localhost:7860", True),
        ("localhost", "localhost", True),
        ("::1", "[::1]:7860", True),
        ("0.0.0.0", "127.0.0.1:7860", False),
        ("0.0.0.0", "rankscope.hf.space", False),
        ("::", "[::1]:7860", False),
        ("192.168.0.2", "192.168.0.2:7860", False),
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.1", "127.0.0.1.evil.example:7860", False),
        ("127.0.0.1", "", False),
    ],
)
def test_by_default_only_this_machine_may_index(listening: str, host: str, allowed: bool) -> None:
    request: Any = SimpleNamespace(headers={"host": host})

    assert may_index(Settings(host=listening), request) is allowed
    assert may_index(Settings(host=listening, indexing="on"), request)
    assert not may_index(Settings(host=listening, indexing="off"), request)


@pytest.mark.parametrize(
    "source",
    [
        *("git:http://host/x", "git:ssh://git@host/x", "git:file:///srv/x", "git:git@host:x"),
        *("http://host/x", "git:ext::sh", "/fine\ngit:file:///srv/x"),
    ],
)
def test_from_the_page_repositories_come_over_https_only(source: str) -> None:
    with pytest.raises(InvalidSource, match="over https only"):
        page_sources(source)


def test_sources_are_typed_one_a_line() -> None:
    assert page_sources(" /a b \n\n git:https://host/x@main\n") == [
        "/a b",
        "git:https://host/x@main",
    ]


@pytest.mark.parametrize("name", ["a.exe", "zip", "..", "a.zip.sh", ""])
def test_what_is_no_archive_by_its_name_is_not_kept(
    open_workspace: Callable[..., Workspace], tmp_path: Path, name: str
) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(InvalidSource, match="not an archive by its name"):
        open_workspace().keep_archive(tmp_path / "x", name)


def test_an_upload_stays_in_its_folder(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(b"x")
    workspace = open_workspace()
    source = workspace.keep_archive(tmp_path / "x", "../../etc/\x1b[31m evil.tar.gz")

    assert source == f"tar:{workspace.settings.data_dir}/uploads/31m-evil.tar.gz"
    assert Path(source.removeprefix("tar:")).read_bytes() == b"x"
