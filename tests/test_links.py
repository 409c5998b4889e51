"""A hit leads to its lines at their origin, at the revision that was indexed, or nowhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from samples import chunk, write_files

from backend.links import Links
from backend.preparation import Preparation
from backend.types import SearchResponse, SourceSummary
from backend.workspace import Workspace
from mcp_tools.tools import Tools
from ui.answer import show

GITHUB = "https://github.com/me/shop/blob/abc/{path}#L{start}-L{end}"


def links(link: str, unlinked: tuple[str, ...] = ()) -> Links:
    source = chunk().source
    return Links([SourceSummary(source=source, files=1, chunks=1, link=link, unlinked=unlinked)])


def test_a_link_names_path_and_lines() -> None:
    url = links(GITHUB).url(chunk(path="src/a b?#{start}.py", start_line=3, end_line=9))

    assert url == ("https://github.com/me/shop/blob/abc/src/a%20b%3F%23%7Bstart%7D.py#L3-L9")


@pytest.mark.parametrize(
    "link", ["", "javascript:alert(1)//{path}", "data:text/html,{path}", "//x"]
)
def test_nothing_but_the_web_is_linked_to(link: str) -> None:
    assert links(link).url(chunk()) == ""


def test_files_that_differ_and_other_sources_are_not_linked_to() -> None:
    made = links(GITHUB, unlinked=(chunk().path,))

    assert made.url(chunk()) == ""
    assert made.url(chunk(path="other.py")) != ""
    assert made.url(chunk(path="other.py", source="dir:/elsewhere")) == ""


@pytest.fixture(scope="module")
def indexed(
    open_workspace: Callable[..., Workspace], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, Path, str]:
    """A work tree with a published commit and a change on top, indexed."""
    folder = tmp_path_factory.mktemp("linked") / "shop"
    text = "def {0}(cart):\n    '''{0} the cart of a customer.'''\n"
    write_files(folder, {f"{name}.py": text.format(name) for name in ("empty", "total")})
    commit = _commit(folder)
    write_files(folder, {"total.py": text.format("total_of")})
    workspace = open_workspace()
    workspace.index(folder, collection="shop")
    return workspace, folder, commit


def _commit(folder: Path) -> str:
    """Commit everything as if it had been pushed to GitHub."""
    for arguments in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "x"],
        ["config", "remote.origin.url", "git@github.com:me/shop.git"],
        ["update-ref", "refs/remotes/origin/main", "HEAD"],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    )
    return head.stdout.strip()


def urls(response: SearchResponse) -> dict[str, str]:
    return {hit.chunk.path: hit.url for hit in response.hits}


def test_hits_of_a_work_tree_link_to_its_commit_unless_they_were_changed(
    indexed: tuple[Workspace, Path, str],
) -> None:
    workspace, _, commit = indexed
    response = workspace.search("the cart of a customer", collection="shop")

    link = f"https://github.com/me/shop/blob/{commit}/empty.py#L1-L2"
    assert urls(response) == {"empty.py": link, "total.py": ""}
    assert urls(replace(response, hits=response.candidates)) == urls(response)
    assert workspace.collections()[0].sources[0].revision == commit


def test_an_agent_gets_the_link_with_the_hit(indexed: tuple[Workspace, Path, str]) -> None:
    workspace, _, commit = indexed
    preparation = Preparation(workspace, build=lambda on_progress: None)
    preparation.start()
    preparation.wait(timeout_s=60)
    hits = Tools(workspace, preparation).search("the cart of a customer", collection="shop")["hits"]

    assert {hit["path"]: hit.get("url", "") for hit in hits} == urls(
        workspace.search("the cart of a customer", collection="shop")
    )
    assert commit in json.dumps(hits)


def test_the_page_links_to_the_origin_in_a_tab_that_cannot_reach_back(
    indexed: tuple[Workspace, Path, str],
) -> None:
    workspace, _, commit = indexed
    html = show(workspace.search("the cart of a customer", collection="shop")).hits

    assert html.count('class="origin"') == 1
    assert f'href="https://github.com/me/shop/blob/{commit}/empty.py#L1-L2"' in html
    assert 'rel="noopener noreferrer"' in html


def test_a_commit_moves_the_links_although_no_file_has_changed(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    """What was new becomes part of the commit; nothing is embedded again."""
    folder = write_files(tmp_path / "shop", {"a.py": "def first(): ...\n"})
    _commit(folder)
    write_files(folder, {"b.py": "def second(): ...\n"})
    workspace = open_workspace()
    workspace.index(folder, collection="shop")
    assert urls(workspace.search("second", collection="shop"))["b.py"] == ""
    commit = _commit(folder)
    report = workspace.index(folder, collection="shop")
    found = urls(workspace.search("second", collection="shop"))

    assert report.embedded == 0
    assert found["b.py"] == f"https://github.com/me/shop/blob/{commit}/b.py#L1-L1"
    assert commit in found["a.py"]


def test_links_are_there_after_a_restart(
    open_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    folder = write_files(tmp_path / "shop", {"a.py": "def first(): ...\n"})
    commit = _commit(folder)
    workspace = open_workspace()
    workspace.index(folder, collection="shop")
    workspace.close()
    with Workspace(settings=workspace.settings) as again:
        assert commit in urls(again.search("first", collection="shop"))["a.py"]
        unchanged = again.index(folder, collection="shop")

    assert not unchanged.changed
