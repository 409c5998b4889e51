"""The Collections tab: what can be searched and what it was made of, and making more."""

from __future__ import annotations

import ipaddress
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr
from loguru import logger

from backend.background import Activity, Background
from backend.config import Settings
from backend.errors import InvalidSource, SearchError
from backend.workspace import Workspace
from ui.panel import panel, render
from ui.progress import bar, duration

TICK_S = 0.7
"""Seconds between two looks at what is being done."""
ARCHIVES = [".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".whl"]
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_PLACEHOLDER = "/home/me/project or git:https://github.com/qdrant/qdrant-client@master"
_HINT = (
    "A folder, archive or manifest.toml; git:https://host/repository@revision,"
    " pypi:name==1.0, npm:name@1.0.0. One a line."
)


class CollectionsTab:
    """Lists the collections of the data folder, and previews and indexes sources for some."""

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
        self._list = panel(elem_id="collections")
        self._timer = gr.Timer(TICK_S, active=False)

    def connect(self, tab: gr.Tab) -> None:
        """Wire the events; every listener is private, or it would become an MCP tool."""
        private: dict[str, Any] = {
            "api_visibility": "private",
            "show_progress": "hidden",
            "queue": False,
        }
        shown = [self._activity, self._timer, self._stop, self._list]
        tab.select(self._open, None, [self._form, *shown], **private)
        asked = [self._sources, self._name]
        self._preview.click(self._begin_preview, asked, shown, **private)
        gr.on([self._index.click, self._sources.submit], self._begin_index, asked, shown, **private)
        self._upload.upload(self._keep, self._upload, [self._sources, self._activity], **private)
        self._stop.click(self._end, None, shown, **private)
        self._timer.tick(self._look, None, shown, **private)

    def _open(self, request: gr.Request) -> list[Any]:
        """The state of the moment in which the tab is opened."""
        allowed = may_index(self._workspace.settings, request)
        return [gr.Group(visible=allowed), *self._look(request)]

    def _look(self, request: gr.Request) -> list[Any]:
        if not may_index(self._workspace.settings, request):
            return ["", gr.Timer(active=False), gr.Button(visible=False), self._collections()]
        activity = self._background.activity
        busy = activity.doing != "nothing"
        return [
            activity_panel(activity),
            gr.Timer(active=busy),
            gr.Button(visible=busy),
            self._collections(),
        ]

    def _begin_preview(self, sources: str, name: str, request: gr.Request) -> list[Any]:
        try:
            self._check(request)
            self._background.preview(page_sources(sources), (name or "").strip())
        except SearchError as exc:
            return self._refused(exc, request)
        return self._look(request)

    def _begin_index(self, sources: str, name: str, request: gr.Request) -> list[Any]:
        try:
            self._check(request)
            self._background.index(page_sources(sources), (name or "").strip())
        except SearchError as exc:
            return self._refused(exc, request)
        return self._look(request)

    def _keep(self, uploaded: str, request: gr.Request) -> tuple[Any, str]:
        """Let an uploaded archive be the source."""
        try:
            self._check(request)
            return self._workspace.keep_archive(Path(uploaded), Path(uploaded).name), ""
        except SearchError as exc:
            return gr.skip(), _problem(exc.message, exc.fix)

    def _end(self, request: gr.Request) -> list[Any]:
        if may_index(self._workspace.settings, request):
            self._background.stop()
        return self._look(request)

    def _check(self, request: gr.Request) -> None:
        """A hidden form is no protection: whoever can reach the app can call its handlers."""
        if not may_index(self._workspace.settings, request):
            raise InvalidSource(
                "Nothing can be indexed from this page.",
                fix="Index with python -m backend index, or set RANKSCOPE_INDEXING.",
            )

    def _refused(self, error: SearchError, request: gr.Request) -> list[Any]:
        logger.debug("Refused: {error}", error=error)
        return [_problem(error.message, error.fix), *self._look(request)[1:]]

    def _collections(self) -> str:
        return render(
            "collections.html",
            collections=self._workspace.collections(),
            when=lambda stamp: datetime.fromisoformat(stamp).strftime("%d %B %Y, %H:%M UTC"),
        )


def may_index(settings: Settings, request: gr.Request) -> bool:
    """Whether who asks may index.

    With `local` the app must listen on this machine's own address, and the request must name that
    address and not have come through a proxy: a page elsewhere whose name was made to lead here,
    and the visitors of a site in front, are not on this machine.
    """
    if settings.indexing != "local":
        return settings.indexing == "on"
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
