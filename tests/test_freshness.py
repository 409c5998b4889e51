"""Updating collections and keeping them fresh: in Python, on the page, and across restarts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import App, call
from playwright.sync_api import Locator, Page, expect
from samples import wheel_bytes, write_files
from small_index import Listed, SmallIndex

from backend import following
from backend.background import Background
from backend.catalog import Catalog
from backend.config import Settings
from backend.errors import DataFolderUnusable, InvalidSource, UnknownCollection
from backend.ledger import Ledger
from backend.workspace import Workspace
from ui.collections_tab import is_here

pytestmark = pytest.mark.filterwarnings("ignore")  # Those of Gradio and uvicorn, in this process.
ROOT = Path(__file__).parent.parent
FILES = {f"pay/part_{i}.py": f"def pay_{i}(bill):\n    return bill * {i}\n" for i in range(3)}
WAIT_S = 60


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Indexing takes its time where others work too."""
    expect.set_options(timeout=WAIT_S * 1000)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again without the usual wait."""
    monkeypatch.setattr(following, "RETRY_S", 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "billing", FILES)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def paths(workspace: Workspace, collection: str) -> set[str]:
    response = workspace.search("pay a bill", collection=collection, top_k=50, rerank=False)
    return {hit.chunk.path for hit in response.hits}


# Updating


def test_a_collection_is_updated_from_its_own_sources_by_its_name(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    workspace = open_workspace()
    first = workspace.index(folder, collection="own", description="Bills.")
    write_files(folder, {"pay/new.py": "def pay_new(): ...\n", "pay/part_1.py": "paid = 1\n"})
    (folder / "pay/part_2.py").unlink()
    report = workspace.index(collection="own")

    assert (first.added, first.altered, first.removed) == (3, 0, 0)
    assert (report.added, report.altered, report.removed) == (1, 1, 1)
    assert report.summary == "files: 1 new, 1 changed, 1 removed; chunks: 2 embedded, 1 reused"
    assert report.info.description == "Bills."
    assert workspace.index(collection="own").summary == "no change"
    with pytest.raises(UnknownCollection, match="Known collections: own"):
        workspace.index(collection="other")


def test_files_that_lose_or_gain_their_text_count_as_removed_and_new(tmp_path: Path) -> None:
    index = SmallIndex(tmp_path)
    source = Listed({"a.py": ("1", "a = 1\n"), "b.py": ("1", "\0"), "c.py": ("1", "a = 1\n")})
    report = index.update(source)
    assert (report.added, report.altered, report.removed) == (1, 0, 0), "a copy is no file more"
    source.texts |= {"a.py": ("2", "\0"), "b.py": ("2", "b = 1\n")}
    report = index.update(source)
    index.close()

    assert (report.added, report.altered, report.removed) == (2, 0, 1), "the copy counts now"


def test_what_is_installed_is_updated_to_the_version_that_is_installed_then(
    open_workspace: Callable[..., Workspace],
) -> None:
    workspace = open_workspace()
    workspace.index("installed:iniconfig", collection="ini")
    (recorded,) = workspace.collections()[0].sources

    assert recorded.source.startswith("installed:iniconfig==")
    assert workspace.collections()[0].specs == ("installed:iniconfig",)
    assert workspace.index(collection="ini").summary == "no change"


# Watching


@contextmanager
def watching(workspace: Workspace, **options: Any) -> Iterator[list[str]]:
    """Watch in another thread; gives what it tells, both good and bad."""
    stop, told = threading.Event(), list[str]()

    def run() -> None:
        for report in workspace.watch(
            stop=stop, on_failure=lambda error: told.append(error.message), **options
        ):
            told.append(report.summary)

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(run)
        try:
            yield told
        finally:
            stop.set()
        watcher.result(timeout=WAIT_S)


def test_a_folder_that_goes_leaves_the_index_as_it_was_and_is_followed_when_it_is_back(
    open_workspace: Callable[..., Workspace], folder: Path, tmp_path: Path, soon: None
) -> None:
    """Also beside another folder, whose files would make an update look possible."""
    other = write_files(tmp_path / "other", {"pay/other.py": "def pay_other(bill): ...\n"})
    workspace = open_workspace()
    workspace.index([folder, other], collection="bills")
    before = paths(workspace, "bills")
    with watching(workspace, collection="bills") as told:
        until(lambda: told == ["no change"], "the first run")
        folder.rename(tmp_path / "away")
        until(lambda: "There is no folder" in told[-1], "no event tells of this")
        write_files(other, {"pay/more.py": "def pay_more(bill): ...\n"})
        time.sleep(2)
        assert paths(workspace, "bills") == before
        write_files(tmp_path / "away", {"pay/back.py": "def pay_back(bill): ...\n"})
        (tmp_path / "away").rename(folder)
        until(lambda: "2 new" in told[-1], "both folders are read again")
        write_files(folder, {"pay/then.py": "def pay_then(bill): ...\n"})
        until(lambda: "1 new" in told[-1], "and followed")

    assert paths(workspace, "bills") == before | {"pay/more.py", "pay/back.py", "pay/then.py"}


def test_a_folder_that_is_gone_while_it_is_read_is_no_empty_folder(
    open_workspace: Callable[..., Workspace], folder: Path, tmp_path: Path
) -> None:
    other = write_files(tmp_path / "other", {"pay/other.py": "def pay_other(bill): ...\n"})
    workspace = open_workspace()
    workspace.index([folder, other], collection="bills")
    before = paths(workspace, "bills")

    def unplug(progress: Any) -> None:
        if progress.phase == "read" and folder.exists():
            folder.rename(tmp_path / "away")

    with pytest.raises(InvalidSource, match="cannot be read: No such file"):
        workspace.index(collection="bills", on_progress=unplug)
    assert paths(workspace, "bills") == before


def test_a_run_that_failed_is_tried_again_although_no_file_changes(
    open_workspace: Callable[..., Workspace],
    folder: Path,
    soon: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the disk was full."""
    workspace = open_workspace()
    workspace.index(folder, collection="bills")
    before = paths(workspace, "bills")
    full, begin = threading.Event(), Ledger.begin

    def in_room(self: Ledger, changes: Any) -> list[int]:
        if full.is_set():
            raise DataFolderUnusable("No space left on device.", fix="Make room.")
        return begin(self, changes)

    monkeypatch.setattr(Ledger, "begin", in_room)
    full.set()
    with watching(workspace, collection="bills") as told:
        write_files(folder, {"pay/new.py": "def pay_new(bill): ...\n"})
        until(lambda: told and "No space left" in told[-1], "the failure is told")
        assert paths(workspace, "bills") == before
        full.clear()
        until(lambda: "1 new" in told[-1], "and mended by itself")
    assert paths(workspace, "bills") == {*before, "pay/new.py"}


def test_watching_waits_while_somebody_else_indexes_the_collection(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    workspace = open_workspace()
    workspace.index(folder, collection="bills")
    write_files(folder, {"pay/new.py": "def pay_new(bill): ...\n"})
    release = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        by_hand = pool.submit(
            workspace.index, collection="bills", on_progress=lambda p: release.wait(WAIT_S)
        )
        until(lambda: workspace._indexing, "it is being indexed")
        with watching(workspace, collection="bills") as told:
            time.sleep(1.5)
            assert told == []
            release.set()
            assert by_hand.result(timeout=WAIT_S).added == 1
            until(lambda: told == ["no change"], "its turn comes")


def test_watching_a_collection_follows_it_to_other_sources(
    open_workspace: Callable[..., Workspace], folder: Path, tmp_path: Path
) -> None:
    """It must not bring back those of the time when it began."""
    other = write_files(tmp_path / "other", {"pay/other.py": "def pay_other(bill): ...\n"})
    workspace = open_workspace()
    workspace.index(folder, collection="bills")
    with watching(workspace, collection="bills") as told:
        until(lambda: told == ["no change"], "the first run")
        workspace.index(other, collection="bills")
        time.sleep(1)
        write_files(folder, {"pay/late.py": "def pay_late(bill): ...\n"})
        write_files(other, {"pay/more.py": "def pay_more(bill): ...\n"})
        until(lambda: "1 new" in told[-1], "the other folder is followed")
    assert paths(workspace, "bills") == {"pay/other.py", "pay/more.py"}


# Keeping fresh


def test_a_collection_is_kept_fresh_until_it_is_not_and_one_without_folders_never(
    open_workspace: Callable[..., Workspace], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "shop.zip").write_bytes(wheel_bytes({"shop/a.py": "def a(): ...\n"}))
    workspace = open_workspace()
    workspace.index(folder, collection="bills")
    workspace.index(tmp_path / "shop.zip", collection="shop")
    background = Background(workspace)
    with pytest.raises(InvalidSource, match="no folder among the sources of shop"):
        background.keep("shop")
    with pytest.raises(UnknownCollection):
        background.keep("../bills")
    background.keep("bills")
    background.keep("bills")
    until(lambda: background.kept["bills"].report, "the first run")
    write_files(folder, {"pay/new.py": "def pay_new(bill): ...\n"})
    until(lambda: "pay/new.py" in paths(workspace, "bills"), "a change is taken in")

    assert workspace.kept_fresh() == ["bills"]
    background.keep("bills", on=False)
    assert (workspace.kept_fresh(), background.kept) == ([], {})
    until(lambda: threads("background") == 0, "the watcher has ended")


def threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_closing_ends_a_watcher_in_the_middle_of_an_update(
    open_workspace: Callable[..., Workspace], folder: Path, held_embedding: threading.Event
) -> None:
    workspace = open_workspace()
    held_embedding.set()
    workspace.index(folder, collection="bills")
    held_embedding.clear()
    background = Background(workspace)
    background.keep("bills")
    write_files(folder, {"pay/new.py": "def pay_new(bill): ...\n"})
    until(lambda: _phase(background) == "embed" or held_embedding.is_set(), "it is busy")
    threading.Timer(0.5, held_embedding.set).start()
    background.close(timeout_s=30)

    assert threads("background") == 0
    assert workspace.kept_fresh() == ["bills"], "the next start goes on"
    workspace.close()


def _phase(background: Background) -> str:
    progress = background.kept["bills"].progress
    return "embed" if progress and progress.chunks_total else ""


def test_the_app_goes_on_keeping_fresh_after_a_restart_and_stops_cleanly(
    open_workspace: Callable[..., Workspace], folder: Path
) -> None:
    workspace = open_workspace()
    workspace.index(folder, collection="bills")
    workspace.keep_fresh("bills")
    workspace.close()
    write_files(folder, {"pay/meanwhile.py": "def pay_meanwhile(bill): ...\n"})
    data = workspace.settings.data_dir
    catalog = Catalog(data / "collections")
    env = {name: value for name, value in os.environ.items() if "RANKSCOPE" not in name}
    env |= {"RANKSCOPE_DATA_DIR": str(data), "RANKSCOPE_PORT": "0"}
    with subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            until(lambda: catalog.record("bills").info.files == 4, "what changed meanwhile")
            write_files(folder, {"pay/now.py": "def pay_now(bill): ...\n"})
            until(lambda: catalog.record("bills").info.files == 5, "what changes now")
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()

    assert process.returncode == 0
    assert "Traceback" not in said
    with Workspace(settings=workspace.settings) as again:
        assert again.kept_fresh() == ["bills"]
        assert "pay/now.py" in paths(again, "bills")


# On the page


def collections_tab(page: Page) -> Page:
    page.get_by_role("tab", name="Collections").click()
    expect(page.locator(".rs-collections article").first).to_be_visible()
    return page


def card(page: Page, name: str) -> Locator:
    heading = page.get_by_role("heading", name=name, exact=True)
    return page.locator(".rs-collections article", has=heading)


def test_updating_shows_progress_and_then_what_changed(
    app: App, visit: Callable[..., Page], folder: Path, held_embedding: threading.Event
) -> None:
    held_embedding.set()
    app.workspace.index(folder, collection="updated")
    held_embedding.clear()
    page = collections_tab(visit(app.url))
    write_files(folder, {"pay/new.py": "def pay_new(): ...\n", "pay/part_1.py": "paid = 1\n"})
    (folder / "pay/part_2.py").unlink()
    page.get_by_role("button", name="Update updated", exact=True).click()
    expect(page.locator("#activity .rs-build")).to_contain_text("2 chunks")
    expect(page.locator("#stop")).to_be_visible()
    expect(card(page, "updated").get_by_text("Update", exact=True)).to_be_disabled()
    held_embedding.set()

    expect(page.locator("#activity")).to_contain_text("updated: 3 chunks of 3 files.")
    expect(page.locator("#activity")).to_contain_text(
        "Files: 1 new, 1 changed, 1 removed; chunks: 2 embedded, 1 reused, in "
    )
    expect(card(page, "updated")).to_contain_text("3 files")
    page.get_by_role("button", name="Update updated", exact=True).click()
    expect(page.locator("#activity")).to_contain_text("No change.")


def test_the_switch_keeps_a_collection_fresh_for_all_pages_until_it_is_switched_off(
    app: App, visit: Callable[..., Page], folder: Path
) -> None:
    app.workspace.index(folder, collection="kept")
    page = collections_tab(visit(app.url))
    switch = page.get_by_role("switch", name="Keep kept fresh")
    expect(switch).to_have_attribute("aria-checked", "false")
    switch.focus()
    switch.press("Space")
    expect(switch).to_have_attribute("aria-checked", "true")
    expect(switch).to_be_focused()
    write_files(folder, {"pay/new.py": "def pay_new(bill): ...\n"})
    expect(card(page, "kept")).to_contain_text(
        "Last update: files: 1 new; chunks: 1 embedded, 3 reused"
    )
    expect(card(page, "kept")).to_contain_text("4 files")
    assert "pay/new.py" in paths(app.workspace, "kept")
    page.reload()
    collections_tab(page)

    expect(switch).to_have_attribute("aria-checked", "true")
    expect(card(page, "kept")).to_contain_text("Last update")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    expect(card(page, "kept")).not_to_contain_text("Last update")
    until(lambda: threads("background") == 0, "the watcher has ended")


def test_a_press_counts_while_the_one_before_is_still_answered(
    app: App,
    visit: Callable[..., Page],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = write_files(tmp_path / "other", {"pay/other.py": "def pay_other(bill): ...\n"})
    app.workspace.index(folder, collection="slow")
    app.workspace.index(other, collection="swift")
    pressed, go_on, keep = threading.Event(), threading.Event(), Background.keep

    def slowly(self: Background, collection: str, *, on: bool = True) -> None:
        if collection == "slow":
            pressed.set()
            go_on.wait(30)
        keep(self, collection, on=on)

    monkeypatch.setattr(Background, "keep", slowly)
    page = collections_tab(visit(app.url))
    page.get_by_role("switch", name="Keep slow fresh").click()
    until(pressed.is_set, "the first press has arrived")
    page.get_by_role("switch", name="Keep swift fresh").click()
    try:
        until(lambda: app.workspace.kept_fresh() == ["swift"], "the second press has arrived")
    finally:
        go_on.set()
    until(lambda: app.workspace.kept_fresh() == ["slow", "swift"], "the first press counts too")
    for name in ("slow", "swift"):
        press(app.url, "release", name)
    assert app.workspace.kept_fresh() == []


def test_only_collections_with_folders_have_a_switch(
    app: App, visit: Callable[..., Page], tmp_path: Path
) -> None:
    (tmp_path / "shop.zip").write_bytes(wheel_bytes({"shop/a.py": "def a(): ...\n"}))
    app.workspace.index(tmp_path / "shop.zip", collection="archive")
    page = collections_tab(visit(app.url))

    expect(card(page, "archive").get_by_role("button")).to_have_text(["Update"])
    expect(card(page, "archive").get_by_role("switch")).to_have_count(0)


def test_a_folder_that_is_gone_is_told_once_and_searches_go_on(
    app: App, visit: Callable[..., Page], folder: Path, soon: None
) -> None:
    app.workspace.index(folder, collection="gone")
    before = paths(app.workspace, "gone")
    page = collections_tab(visit(app.url))
    switch = page.get_by_role("switch", name="Keep gone fresh")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    folder.rename(folder.with_name("away"))
    problem = card(page, "gone").get_by_role("alert")
    expect(problem).to_contain_text(f"There is no folder '{folder}'. Check the path.")
    time.sleep(3)
    expect(problem).to_have_count(1)
    assert paths(app.workspace, "gone") == before
    folder.with_name("away").rename(folder)
    expect(problem).to_have_count(0)
    page.get_by_role("button", name="Update gone", exact=True).click()
    expect(page.locator("#activity")).to_contain_text("No change.")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")


# Who may


def press(url: str, act: str, collection: str, **headers: str) -> str:
    """Press a button of the list without the page."""
    return call(url, "press", [], {"act": act, "collection": collection}, **headers)


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"X-Forwarded-For": "203.0.113.5"}])
def test_from_elsewhere_nothing_is_updated_or_watched(
    app: App, folder: Path, headers: dict[str, str]
) -> None:
    app.workspace.index(folder, collection="mine")
    for what in ("update", "keep"):
        assert "Nothing can be indexed from this page." in press(app.url, what, "mine", **headers)

    assert app.workspace.kept_fresh() == []
    assert 'aria-checked=\\"true' in press(app.url, "keep", "mine"), "the same call from here"
    assert "Nothing can be indexed" in press(app.url, "release", "mine", **headers)
    assert app.workspace.kept_fresh() == ["mine"]
    press(app.url, "release", "mine")
    assert app.workspace.kept_fresh() == []


def test_a_press_that_no_page_sends_is_refused_or_does_nothing(app: App, folder: Path) -> None:
    app.workspace.index(folder, collection="quiet")
    assert "There is no collection" in press(app.url, "keep", "../quiet")
    for event in (None, {}, {"act": "stop", "collection": "quiet"}):
        assert "quiet" in call(app.url, "press", [], event)

    assert app.workspace.kept_fresh() == []


def test_where_all_visitors_may_index_this_machines_files_are_not_for_them(
    serve: Callable[..., App], visit: Callable[..., Page], folder: Path
) -> None:
    """The app listens on every address, as on a Space: nobody counts as being here."""
    public = serve(lambda workspace: lambda on_progress: None, indexing="on", host="0.0.0.0")
    url = public.url.replace("localhost", "127.0.0.1")
    public.workspace.index(folder, collection="owners")
    kept = public.workspace.keep_archive(write_zip(folder / "a.zip"), "a.zip")
    public.workspace.index(kept, collection="visitors")
    page = collections_tab(visit(url))
    expect(page.locator("#sources textarea")).to_be_visible()
    expect(card(page, "owners").get_by_role("button")).to_have_count(0)
    expect(card(page, "owners").get_by_role("switch")).to_have_count(0)
    page.locator("#sources textarea").fill(str(folder))
    page.locator("#index").click()
    expect(page.get_by_role("alert")).to_contain_text("from a browser on it only")
    page.locator("#preview").click()
    expect(page.get_by_role("alert")).to_contain_text("from a browser on it only")

    for what in ("update", "keep"):
        assert "from a browser on it only" in press(url, what, "owners")
    assert public.workspace.kept_fresh() == []
    page.get_by_role("button", name="Update visitors", exact=True).click()
    expect(page.locator("#activity")).to_contain_text("No change.")


def write_zip(path: Path) -> Path:
    path.write_bytes(wheel_bytes({"shop/a.py": "def a(): ...\n"}))
    return path


def test_a_deployment_that_may_not_index_has_no_buttons(
    serve: Callable[..., App], visit: Callable[..., Page], folder: Path
) -> None:
    closed = serve(lambda workspace: lambda on_progress: None, indexing="off")
    closed.workspace.index(folder, collection="mine")
    page = collections_tab(visit(closed.url))

    expect(page.locator(".rs-collections :is(button, [role=switch])")).to_have_count(0)
    assert "Nothing can be indexed" in press(closed.url, "keep", "mine")
    assert closed.workspace.kept_fresh() == []


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        *[("/etc", True), ("~", True), ("dir:/etc", True), ("x.toml", True), ("", True)],
        *[("zip:/etc/a.zip", True), ("jsonl:/a.jsonl?text=b", True), ("vectors:/v", True)],
        *[("zip:{uploads}/../lock", True), ("dir:{uploads}", True), ("git:file:///srv/x", True)],
        *[("zip:{uploads}/a.zip", False), ("git:https://host/x@main", False)],
        *[("https://host/x", False), ("pypi:a==1", False), ("npm:a@1.0.0", False)],
    ],
)
def test_what_reads_this_machines_files_is_known_by_its_name(
    open_workspace: Callable[..., Workspace], source: str, reads: bool
) -> None:
    workspace = open_workspace()
    uploads = workspace.settings.data_dir / "uploads"

    assert workspace.reads_host(source.format(uploads=uploads)) is reads


def test_nobody_is_here_where_the_app_listens_to_everyone() -> None:
    request: Any = SimpleNamespace(headers={"host": "127.0.0.1:7860"})

    assert is_here(Settings(host="127.0.0.1", indexing="on"), request)
    assert not is_here(Settings(host="0.0.0.0", indexing="on"), request)
