"""The Search tab: query, options, and the two rankings of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from loguru import logger

from backend.build import Models
from backend.config import DEFAULT_COLLECTION
from backend.errors import InvalidQuery, SearchError
from backend.preparation import Preparation
from backend.query import CONFIDENCE_FLOORS, MAX_CANDIDATES, MAX_TOP_K, make_query, values
from backend.types import Filters, Query, Related
from backend.workspace import Workspace
from ui.answer import SIMILAR, Answer, introduction, problem, show, show_related, waiting
from ui.collection_field import collection_field, offered, refresh_on
from ui.panel import panel, render
from ui.providers_panel import ProvidersPanel
from ui.status import status

EXAMPLES = Path(__file__).parent.parent / "assets" / "examples" / "qdrant_ecosystem.txt"
TICK_S = 1.0
"""Seconds between two looks at the progress of indexing."""
SEARCHES = 4
"""Queries of all visitors that run side by side; more wait in line."""
TOP_K = 10
"""Hits that the page asks for."""
_FACETS = ("package", "language", "kind")


class SearchTab:
    """Builds the tab into the page that is open, and answers its events."""

    def __init__(self, workspace: Workspace, preparation: Preparation) -> None:
        self._workspace = workspace
        self._preparation = preparation
        self._build()

    @property
    def defaults(self) -> dict[str, str]:
        """Options as addresses have them that need not stand in one."""
        settings = self._workspace.settings
        return {
            "collection": DEFAULT_COLLECTION,
            "k": str(TOP_K),
            "rerank": "on" if settings.rerank else "off",
            "candidates": str(settings.rerank_candidates),
            "budget": f"{settings.rerank_budget_ms:g}",
        }

    def _build(self) -> None:
        settings = self._workspace.settings
        self._status = panel(elem_id="status")
        with gr.Row(elem_id="ask", equal_height=True):
            self._text = gr.Textbox(
                label="Search code and documentation",
                placeholder="Ask in words, or name a function: how are failed uploads retried?",
                show_label=False,
                autofocus=True,
                max_lines=1,
                elem_id="q",
                container=False,
                scale=1,
            )
            self._go = gr.Button("Search", variant="primary", elem_id="go", scale=0, min_width=104)
        examples = render("examples.html", queries=_examples(), defaults=json.dumps(self.defaults))
        panel(examples, elem_id="examples")
        with gr.Accordion("Options", open=False, elem_id="options"):
            with gr.Row():
                self._collection = collection_field(min_width=220)
                self._facets = [
                    gr.Dropdown(
                        [],
                        value=[],
                        label=label,
                        multiselect=True,
                        allow_custom_value=True,  # Another collection may not offer what is chosen.
                        min_width=180,
                    )
                    for label in ("Packages", "Languages", "Kinds")
                ]
                self._paths = gr.Textbox(
                    label="Paths", placeholder="src/**/*.py, !tests/", min_width=180
                )
            with gr.Row():
                self._top_k = gr.Slider(
                    1, MAX_TOP_K, value=TOP_K, step=1, label="Hits", min_width=180, elem_id="k"
                )
                self._rerank = gr.Checkbox(settings.rerank, label="Rerank", min_width=110, scale=0)
                self._candidates = gr.Slider(
                    1,
                    MAX_CANDIDATES,
                    value=settings.rerank_candidates,
                    step=1,
                    label="Candidates to rerank",
                    min_width=180,
                    elem_id="candidates",
                )
                self._budget = gr.Number(
                    settings.rerank_budget_ms,
                    label="Reranking budget (ms)",
                    min_width=160,
                )
                self._floor = gr.Dropdown(
                    [("any", ""), *((label, label) for label in CONFIDENCE_FLOORS)],
                    value="",
                    label="Least confidence",
                    min_width=140,
                )
        self._providers = ProvidersPanel(self._workspace)
        self._intro = panel(elem_id="intro")
        self._panels = [panel(elem_id=name) for name in ("verdict", "order", "hits")]
        self._timer = gr.Timer(TICK_S, active=False)

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events; every listener is private, or it would become an MCP tool."""
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        options = [self._collection, *self._facets, self._paths, self._top_k]
        options += [self._rerank, self._candidates, self._budget, self._floor]
        gr.on(
            [
                self._text.submit,
                self._go.click,
                self._collection.input,
                *(facet.input for facet in self._facets),
                self._paths.submit,
                self._top_k.release,
                self._rerank.input,
                self._candidates.release,
                self._budget.submit,
                self._floor.input,
            ],
            self._search,
            [self._text, *options, self._providers.models],
            self._panels,
            js="(...given) => window.rankscope.asked(given)",
            trigger_mode="always_last",
            concurrency_limit=SEARCHES,
            concurrency_id="search",
            **private,
        )
        self._providers.connect(self._collection)
        self._collection.change(
            self._choices, self._collection, self._facets, queue=False, **private
        )
        self._timer.tick(
            self._tick,
            self._collection,
            [self._status, self._timer, self._collection, *self._facets],
            queue=False,
            **private,
        ).then(None, js="() => window.rankscope.ticked()", **private)
        page.load(
            self._open,
            None,
            [self._status, self._timer, self._intro, self._text, *options],
            queue=False,
            **private,
        ).then(None, js="() => window.rankscope.opened()", **private)

    def offer_collections(self, tab: gr.Tab) -> None:
        """Keep the list of collections as new as the tab's last opening."""
        refresh_on(tab, self._collection, self._workspace)

    def _search(
        self,
        text: str,
        collection: str | None,
        packages: list[str],
        languages: list[str],
        kinds: list[str],
        paths: str,
        top_k: float,
        rerank: bool,
        candidates: float,
        budget_ms: float | None,
        floor: str | None,
        models: Models | None,
        event: gr.EventData,
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Yield the first stage's answer at once, then the final one."""
        if not (text or "").strip() and event.target not in (self._text, self._go):
            yield gr.skip(), gr.skip(), gr.skip()  # An option was set before anything was asked.
            return
        try:
            query = make_query(
                text or "",
                collection=collection or DEFAULT_COLLECTION,
                settings=self._workspace.settings,
                top_k=int(top_k),
                filters=Filters(
                    packages=values(packages),
                    languages=values(languages),
                    kinds=values(kinds),
                    paths=values((paths or "").split(",")),
                ),
                rerank=rerank,
                candidates=int(candidates),
                budget_ms=budget_ms,
                min_confidence=floor,
            )
            if self._preparation.awaited(query.collection):
                yield _html(waiting(query.collection))
                return
            if query.text.startswith(SIMILAR):
                yield _html(show_related(self._related(query)))
                return
            for response in self._workspace.stream(query, models):
                yield _html(show(response))
        except SearchError as exc:
            yield _html(problem(exc.message, exc.fix))
        except Exception:
            logger.exception("A search failed")
            yield _html(problem("The search failed unexpectedly.", "The app's log says why."))

    def _related(self, query: Query) -> Related:
        """Answer `similar:path:line`, what the button of a hit asks."""
        path, _, line = query.text.removeprefix(SIMILAR).rpartition(":")
        if not line.isdecimal():
            raise InvalidQuery("A place is missing.", fix=f"Write {SIMILAR}path:line.")
        return self._workspace.find_related(
            path, int(line), collection=query.collection, top_k=query.top_k
        )

    def _open(self, request: gr.Request) -> list[Any]:
        """Set what the address says, `?q=…` and options, and leave alone what it does not.

        Someone may have typed already.
        """
        asked = request.query_params
        collection = asked.get("collection", DEFAULT_COLLECTION)
        return [
            status(self._workspace, self._preparation),
            gr.Timer(active=not self._preparation.readiness.over),
            "" if "q" in asked else self._introduction(),
            asked.get("q", gr.skip()),
            gr.Dropdown(offered(self._workspace), value=collection),
            *self._choices(
                collection,
                [[v for v in asked.get(f, "").split(",") if v] for f in _FACETS],
            ),
            asked.get("path", gr.skip()),
            _number(asked.get("k"), 1, MAX_TOP_K),
            asked["rerank"] != "off" if "rerank" in asked else gr.skip(),
            _number(asked.get("candidates"), 1, MAX_CANDIDATES),
            _number(asked.get("budget"), 0, 60_000),
            asked["floor"] if asked.get("floor") in CONFIDENCE_FLOORS else gr.skip(),
        ]

    def _tick(self, collection: str) -> list[Any]:
        """Follow the preparation until it is over."""
        now = status(self._workspace, self._preparation)
        if not self._preparation.readiness.over:
            return [now, *[gr.skip()] * (2 + len(_FACETS))]
        return [
            now,
            gr.Timer(active=False),
            gr.Dropdown(choices=offered(self._workspace)),
            *self._choices(collection),
        ]

    def _introduction(self) -> str:
        named = {info.name: info for info in self._workspace.collections()}
        return introduction(self._workspace.settings, named.get(DEFAULT_COLLECTION))

    def _choices(self, collection: str, chosen: list[list[str]] | None = None) -> list[Any]:
        """What the filters offer in a collection, with counts; empty while it cannot be asked."""
        facets: Mapping[str, Mapping[str, int]] = {}
        if self._preparation.searchable(collection):
            try:
                facets = self._workspace.facets(collection)
            except SearchError as exc:
                logger.warning("No facets of {name}: {why}", name=collection, why=exc)
        updates = []
        for i, facet in enumerate(_FACETS):
            known = facets.get(facet, {})
            picked = chosen[i] if chosen else []
            shown = [(f"{value} ({count:,})", value) for value, count in known.items()]
            shown += [(value, value) for value in picked if value not in known]
            updates.append(
                gr.Dropdown(shown, value=picked) if picked else gr.Dropdown(choices=shown)
            )
        return updates


def _html(answer: Answer) -> tuple[str, str, str]:
    return answer.verdict, answer.order, answer.hits


def _number(given: str | None, low: int, high: int) -> Any:
    try:
        number = float(given or "")
    except ValueError:
        return gr.skip()
    return number if low <= number <= high else gr.skip()


def _examples() -> list[str]:
    return [line for line in EXAMPLES.read_text().splitlines() if line.strip()]
