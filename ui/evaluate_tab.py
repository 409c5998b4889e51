"""The Evaluate tab: how good the rankings are, and which queries reranking helped and hurt."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
from loguru import logger
from markupsafe import Markup

from backend.errors import SearchError
from backend.evaluation.experiment import EvaluationProgress
from backend.evaluation.measures import MEASURES
from backend.evaluation.plot import to_svg
from backend.evaluation.report import Evaluation, to_markdown
from backend.workspace import Workspace
from ui.collection_field import collection_field, refresh_on
from ui.panel import panel, render

REDRAW_S = 0.2
"""Seconds between two drawings of the progress bar."""
News = EvaluationProgress | Evaluation | Exception


class _Cancelled(Exception):
    """The visitor has seen enough."""


class EvaluateTab:
    """Runs an evaluation beside the searches, one at a time, and shows what it found."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._running: dict[str | None, threading.Event] = {}
        self._build()

    def _build(self) -> None:
        panel(render("evaluate_intro.html"), elem_id="evaluate-intro")
        with gr.Row(elem_id="evaluate", equal_height=True):
            with gr.Column(min_width=240):
                self._collection = collection_field()
                self._modes = gr.Checkbox(False, label="Compare quantization modes too")
            self._labels = gr.File(
                label="Own labels, JSONL (optional)",
                file_types=[".jsonl"],
                height=138,
                min_width=240,
            )
            with gr.Column(min_width=120, scale=0):
                self._go = gr.Button("Evaluate", variant="primary", elem_id="evaluate-go")
                self._cancel = gr.Button("Cancel", elem_id="evaluate-cancel", interactive=False)
        self._progress = panel(elem_id="evaluate-progress")
        self._result = panel(elem_id="evaluate-result")

    def connect(self, tab: gr.Tab) -> None:
        """Wire the events; every listener is private, or it would become an MCP tool."""
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        refresh_on(tab, self._collection, self._workspace)
        shown = [self._go, self._cancel, self._progress]
        run = self._go.click(self._start, None, shown, queue=False, **private).then(
            self._run,
            [self._collection, self._labels, self._modes],
            [self._progress, self._result],
            concurrency_limit=1,
            concurrency_id="evaluate",
            **private,
        )
        # Gradio's `then` does not follow a failure of its own.
        for over in (run.then, run.failure):
            over(self._end, None, shown, queue=False, **private)
        self._cancel.click(self._stop, None, self._cancel, queue=False, **private)

    def _start(self, request: gr.Request) -> list[Any]:
        self._running[request.session_hash] = threading.Event()
        waiting = progress_bar(EvaluationProgress(done=0, total=0, message="Waiting for its turn"))
        return [gr.Button(interactive=False), gr.Button(interactive=True), waiting]

    def _stop(self, request: gr.Request) -> Any:
        if (stop := self._running.get(request.session_hash)) is not None:
            stop.set()
        return gr.Button(interactive=False)

    def _end(self, request: gr.Request) -> list[Any]:
        self._running.pop(request.session_hash, None)
        return [gr.Button(interactive=True), gr.Button(interactive=False), ""]

    def _run(
        self, collection: str | None, labels: str | None, modes: bool, request: gr.Request
    ) -> Iterator[tuple[Any, Any]]:
        """Yield the progress bar until there is a result, a refusal or a cancellation."""
        stop = self._running.get(request.session_hash) or threading.Event()
        said: queue.SimpleQueue[News] = queue.SimpleQueue()

        def on_progress(progress: EvaluationProgress) -> None:
            if stop.is_set():
                raise _Cancelled
            said.put(progress)

        def work() -> None:
            try:
                found = self._workspace.evaluate(
                    collection, labels=labels, quantization=modes, on_progress=on_progress
                )
                said.put(found)
            except Exception as exc:
                said.put(exc)

        threading.Thread(target=work, name="evaluation", daemon=True).start()
        try:
            while isinstance(news := _latest(said), EvaluationProgress):
                yield progress_bar(news), gr.skip()
        finally:
            stop.set()  # Also when the visitor has gone.
        yield "", outcome(news)


def _latest(said: queue.SimpleQueue[News]) -> News:
    """Wait for news, and then a little for newer ones; an end is never overtaken."""
    news = said.get()
    until = time.monotonic() + REDRAW_S
    while isinstance(news, EvaluationProgress):
        try:
            news = said.get(timeout=max(until - time.monotonic(), 0))
        except queue.Empty:
            break
    return news


def progress_bar(progress: EvaluationProgress) -> str:
    """How many searches are done."""
    return render("evaluate_progress.html", progress=progress)


def outcome(news: Evaluation | Exception) -> str:
    """The report, or why there is none."""
    if isinstance(news, Evaluation):
        return report(news)
    if isinstance(news, _Cancelled):
        return render("evaluate_cancelled.html")
    if isinstance(news, SearchError):
        return render("problem.html", message=news.message, fix=news.fix)
    logger.opt(exception=news).error("An evaluation failed")
    fix = "The app's log says why."
    return render("problem.html", message="The evaluation failed unexpectedly.", fix=fix)


def report(found: Evaluation) -> str:
    """Tables, plot, and the queries that reranking helped and hurt."""
    stages = dict.fromkeys(stage for system in found.systems for stage in system.median_ms)
    return render(
        "evaluation.html",
        e=found,
        measures=MEASURES,
        stages=[*(stage for stage in stages if stage != "total"), "total"],
        plot=Markup(to_svg(found, alone=False)),  # It escapes what it is given.
        markdown=to_markdown(found),
        rank=lambda place: "not in 50" if place is None else f"#{place}",
    )
