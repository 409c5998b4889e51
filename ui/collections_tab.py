"""The Collections tab: what can be searched, keeping it up to date, and making more."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr
from loguru import logger

from backend.background import Activity, Background
from backend.config import Settings
from backend.errors import InvalidSource, SearchError
from backend.types import CollectionInfo
from backend.workspace import Workspace
from ui.panel import panel, render
from ui.progress import Bar, bar, duration

TICK_S = 0.7
"""Seconds between two looks at what is being done."""
IDLE_TICK_S = 2.0
"""The same while collections are kept fresh and nothing has changed."""
ARCHIVES = [".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".whl"]
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_PLACEHOLDER = "git:https://github.com/qdrant/qdrant-client@master"
_HINT = "git:https://host/repository@revision, pypi:name==1.0, npm:name@1.0.0. One a line."
_PLACEHOLDER_HERE = f"/home/me/project or {_PLACEHOLDER}"
_HINT_HERE = f"A folder, archive or manifest.toml; {_HINT}"
_ACTIONS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) trigger("click", { act: button.dataset.act, collection: button.dataset.collection });
});
"""
"""Tells which button of the list was pressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A collection as one visitor sees it."""

    info: CollectionInfo
    may_update: bool
    may_keep: bool
    busy: bool
    """Whether an update cannot be begun now."""
    kept: Activity | None
    """How it is kept fresh; None if it is not, or is not for this visitor to know."""

    @property
    def bar(self) -> Bar | None:
        """Where its update stands."""
        return bar(self.kept.progress) if self.kept and self.kept.progress else None


class CollectionsTab:
    """Lists the collections of the data folder, updates them, and makes more."""

    def __init__(self, workspace: Workspace, background: Background) -> None:
        self._workspace = workspace
        self._background = background
        with gr.Group(visible=False, elem_id="add") as self._form:
            with gr.Row():
                self._sources = gr.Textbox(
                    label="Sources",
                    info=_HINT,
                    placeholder=_PLACEHOLDER,
                    lines=1,
                    max_lines=6,
                    elem_id="sources",
                    scale=4,
                    min_width=280,
                )
                self._name = gr.Textbox(
                    label="Collection",
                    info="Its name, if not the source's.",
                    elem_id="name",
                    scale=1,
                    min_width=180,
                )
            with gr.Row(elem_id="add-actions"):
                self._preview = gr.Button("Preview", elem_id="preview", scale=0)
                self._index = gr.Button("Index", variant="primary", elem_id="index", scale=0)
                self._stop = gr.Button("Stop", visible=False, elem_id="stop", scale=0)
                self._upload = gr.UploadButton(
                    "Upload archive", file_types=ARCHIVES, elem_id="upload", scale=0
                )
        self._activity = panel(elem_id="activity")
        self._list = panel(elem_id="collections", script=_ACTIONS)
        self._timer = gr.Timer(TICK_S, active=False)

    def connect(self, tab: gr.Tab) -> None:
        """Wire the events; every listener is private, or it would become an MCP tool."""
        private: dict[str, Any] = {
            "api_visibility": "private",
            "show_progress": "hidden",
            "queue": False,
        }
        shown = [self._activity, self._timer, self._stop, self._list]
        tab.select(self._open, None, [self._form, self._sources, *shown], **private)
        asked = [self._sources, self._name]
        self._preview.click(self._begin_preview, asked, shown, **private)
        gr.on([self._index.click, self._sources.submit], self._begin_index, asked, shown, **private)
        self._upload.upload(self._keep, self._upload, [self._sources, self._activity], **private)
        self._stop.click(self._end, None, shown, **private)
        # A press counts also while the answer to the one before is awaited.
        self._list.click(self._press, None, shown, trigger_mode="multiple", **private)
        self._timer.tick(self._look, None, shown, **private)

    def _open(self, request: gr.Request) -> list[Any]:
        """The state of the moment in which the tab is opened."""
        allowed = may_index(self._workspace.settings, request)
        sources = gr.skip()
        if is_here(self._workspace.settings, request):
            sources = gr.Textbox(info=_HINT_HERE, placeholder=_PLACEHOLDER_HERE)
        return [gr.Group(visible=allowed), sources, *self._look(request)]

    def _look(self, request: gr.Request) -> list[Any]:
        if not may_index(self._workspace.settings, request):
            shown = self._collections(request)
            return ["", gr.Timer(active=False), gr.Button(visible=False), shown]
        activity, kept = self._background.activity, self._background.kept
        busy = activity.doing != "nothing"
        moving = busy or any(one.progress for one in kept.values())
        return [
            activity_panel(activity),
            gr.Timer(TICK_S if moving else IDLE_TICK_S, active=bool(busy or kept)),
            gr.Button(visible=busy),
            self._collections(request),
        ]

    def _begin_preview(self, sources: str, name: str, request: gr.Request) -> list[Any]:
        try:
            asked = page_sources(sources)
            self._check(request, asked)
            self._background.preview(asked, (name or "").strip())
        except SearchError as exc:
            return self._refused(exc, request)
        return self._look(request)

    def _begin_index(self, sources: str, name: str, request: gr.Request) -> list[Any]:
        try:
            asked = page_sources(sources)
            self._check(request, asked)
            self._background.index(asked, (name or "").strip())
        except SearchError as exc:
            return self._refused(exc, request)
        return self._look(request)

    def _press(self, request: gr.Request, event: gr.EventData) -> list[Any]:
        """Update a collection, or keep it fresh from now on or no more."""
        asked = event._data if isinstance(event._data, dict) else {}
        act, name = asked.get("act"), str(asked.get("collection"))
        try:
            self._check(request, self._specs(name))
            if act == "update":
                self._background.index(None, name)
            elif act in ("keep", "release"):
                self._background.keep(name, on=act == "keep")
        except SearchError as exc:
            return self._refused(exc, request)
        return self._look(request)

    def _specs(self, name: str) -> tuple[str, ...]:
        return next((i.specs for i in self._workspace.collections() if i.name == name), ())

    def _keep(self, uploaded: str, request: gr.Request) -> tuple[Any, str]:
        """Let an uploaded archive be the source."""
        try:
            self._check(request, ())
            return self._workspace.keep_archive(Path(uploaded), Path(uploaded).name), ""
        except SearchError as exc:
            return gr.skip(), _problem(exc.message, exc.fix)

    def _end(self, request: gr.Request) -> list[Any]:
        if may_index(self._workspace.settings, request):
            self._background.stop()
        return self._look(request)

    def _check(self, request: gr.Request, sources: Sequence[str]) -> None:
        """A hidden form is no protection: whoever can reach the app can call its handlers."""
        if not may_index(self._workspace.settings, request):
            raise InvalidSource(
                "Nothing can be indexed from this page.",
                fix="Index with python -m backend index, or set RANKSCOPE_INDEXING.",
            )
        if not self._may_read(request, sources):
            raise InvalidSource(
                "Folders and files of this machine are indexed from a browser on it only.",
                fix="Name a repository or a package, or upload an archive.",
            )

    def _may_read(self, request: gr.Request, sources: Sequence[str]) -> bool:
        """Whoever indexes may search: nobody elsewhere is to read what lies on this machine."""
        if is_here(self._workspace.settings, request):
            return True
        return not any(self._workspace.reads_host(source) for source in sources)

    def _refused(self, error: SearchError, request: gr.Request) -> list[Any]:
        logger.debug("Refused: {error}", error=error)
        return [_problem(error.message, error.fix), *self._look(request)[1:]]

    def _cards(self, request: gr.Request) -> Iterator[Card]:
        allowed = may_index(self._workspace.settings, request)
        busy, kept = self._background.activity.doing != "nothing", self._background.kept
        for info in self._workspace.collections():
            may_update = allowed and self._may_read(request, info.specs)
            yield Card(
                info=info,
                may_update=may_update,
                may_keep=may_update and bool(info.folders),
                busy=busy,
                kept=kept.get(info.name) if may_update else None,
            )

    def _collections(self, request: gr.Request) -> str:
        return render(
            "collections.html",
            cards=list(self._cards(request)),
            when=lambda stamp: datetime.fromisoformat(stamp).strftime("%d %B %Y, %H:%M UTC"),
        )


def may_index(settings: Settings, request: gr.Request) -> bool:
    """Whether who asks may index."""
    if settings.indexing == "local":
        return is_here(settings, request)
    return settings.indexing == "on"


def is_here(settings: Settings, request: gr.Request) -> bool:
    """Whether who asks is on this machine.

    The app must listen on this machine's own address, and the request must name that address and
    not have come through a proxy: a page elsewhere whose name was made to lead here, and the
    visitors of a site in front, are not on this machine.
    """
    host = request.headers.get("host", "")
    forwarded = any(name in request.headers for name in _FORWARDED)
    return _is_loopback(settings.host) and _is_loopback(_without_port(host)) and not forwarded


def page_sources(text: str) -> list[str]:
    """The sources that were typed, one a line.

    Raises:
        InvalidSource: There is none, or it is a repository that is not fetched over https.
    """
    sources = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not sources:
        raise InvalidSource("No source was named.", fix="Type a folder or a package.")
    for source in sources:
        address = source.removeprefix("git:")
        if source.startswith(("git:", "http:")) and not address.startswith("https://"):
            raise InvalidSource(
                "From the page repositories are fetched over https only.",
                fix="Give its https:// URL, or index it with python -m backend index.",
            )
    return sources


def activity_panel(activity: Activity) -> str:
    """What is being done, or what came of it."""
    if activity.message:
        return _problem(activity.message, activity.fix)
    return render(
        "activity.html",
        activity=activity,
        bar=bar(activity.progress) if activity.progress else None,
        duration=duration,
    )


def _problem(message: str, fix: str) -> str:
    return render("problem.html", message=message, fix=fix)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
