"""Where the models of this visit run: on this machine, or at a provider the visitor has a key for.

What a visitor types stays in the session's memory on the server: the key goes from its field into a
client there, and neither the page nor a log nor an address ever holds it.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from loguru import logger
from pydantic import SecretStr

from backend.build import Models
from backend.config import Settings
from backend.errors import SearchError
from backend.providers.address import base_url
from backend.providers.presets import PRESETS, Preset, ProviderName
from backend.providers.serving import Serving
from backend.workspace import Workspace
from ui.panel import panel, render

FORGET_S = 3_600
"""Seconds after which an idle visit's connections and keys are dropped."""
HERE = "here"


class ProvidersPanel:
    """Fields for both models, and the state that `SearchTab` searches with."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        settings = workspace.settings
        self.models = gr.State(None, time_to_live=FORGET_S, delete_callback=_disconnect)
        """What `Workspace.stream` takes as models: None for the configured ones."""
        with gr.Accordion("Where models run", open=False, elem_id="providers"):
            self._status = panel(render("providers.html"), elem_id="providers-status")
            self._embedding = _fields("embed", "Embedding", _offered(settings, _embeds), "")
            self._reranking = _fields(
                "rerank", "Reranking", _offered(settings, _reranks), "nomic-ai/CodeRankLLM"
            )
            self._use = gr.Button("Use these", elem_id="providers-use", size="sm", min_width=120)

    def connect(self, collection: gr.Dropdown) -> None:
        """Wire the button; the listener is private, or it would become an MCP tool."""
        keys = [self._embedding[-1], self._reranking[-1]]
        self._use.click(
            self._connect,
            [collection, self.models, *self._embedding, *self._reranking],
            [self._status, self.models, *keys],
            api_visibility="private",
            show_progress="hidden",
            concurrency_limit=4,
        )

    def _connect(
        self,
        collection: str,
        before: Models | None,
        embed_at: str,
        embed_url: str,
        embed_as: str,
        embed_key: str,
        rerank_at: str,
        rerank_url: str,
        rerank_as: str,
        rerank_key: str,
    ) -> tuple[Any, ...]:
        """Connect as chosen, and say how that went; both key fields are emptied."""
        kept = gr.Textbox(value="", placeholder="kept for this visit")
        _disconnect(before)
        try:
            embedder = _serving(embed_at, embed_url, embed_as, embed_key)
            reranking = _serving(rerank_at, rerank_url, rerank_as, rerank_key)
            models = None
            if embedder is not None or reranking is not None:
                models = self._workspace.connect(
                    collection, embedder=embedder, reranker=rerank_as.strip(), reranking=reranking
                )
            said = render(
                "providers.html",
                collection=collection,
                embedder=embedder and _shown(embedder),
                reranker=reranking and _shown(reranking),
                done=True,
            )
        except SearchError as exc:
            said = render("problem.html", message=exc.message, fix=exc.fix)
            return said, None, kept, kept
        except Exception:
            logger.exception("Connecting to a provider failed")
            message, fix = "Connecting failed unexpectedly.", "The app's log says why."
            return render("problem.html", message=message, fix=fix), None, kept, kept
        return said, models, kept, kept


def _fields(
    name: str, title: str, offered: list[tuple[str, str]], served_as: str
) -> list[gr.components.Component]:
    with gr.Row():
        return [
            gr.Dropdown(
                [("This machine", HERE), *offered],
                value=HERE,
                label=title,
                min_width=180,
                elem_id=f"{name}-at",
            ),
            gr.Textbox(
                label="Base URL",
                placeholder="the provider's usual one",
                max_lines=1,
                min_width=200,
                elem_id=f"{name}-url",
            ),
            gr.Textbox(
                value=served_as,
                label="Model",
                placeholder="as the collection's model is called",
                max_lines=1,
                min_width=200,
                elem_id=f"{name}-as",
            ),
            gr.Textbox(
                label="Key",
                type="password",
                max_lines=1,
                min_width=160,
                elem_id=f"{name}-key",
            ),
        ]


def _serving(provider: str, url: str, served_as: str, key: str) -> Serving | None:
    """What a visitor chose; None for this machine."""
    if provider not in PRESETS:
        return None
    return Serving(
        provider=provider,
        url=url.strip(),
        key=SecretStr(key) if key.strip() else None,
        served_as=served_as.strip(),
        restricted=True,
    )


def _shown(serving: Serving) -> str:
    return serving.preset.label if serving.preset.base_url else "The provider"


def _embeds(preset: Preset) -> bool:
    return bool(preset.embeddings_path)


def _reranks(preset: Preset) -> bool:
    return bool(preset.rerank_path or preset.chat_path)


def _offered(settings: Settings, fits: Any) -> list[tuple[str, ProviderName]]:
    """Providers that do the task and may be called: public ones, and hosts that are allowed."""
    allowed = {host.lower() for host in settings.allowed_hosts}

    def callable_from_here(preset: Preset) -> bool:
        if not preset.base_url:
            return True
        url = base_url(preset.base_url)
        return url.scheme == "https" or bool({url.host, f"{url.host}:{url.port}"} & allowed)

    return [
        (preset.label, name)
        for name, preset in PRESETS.items()
        if fits(preset) and callable_from_here(preset)
    ]


def _disconnect(models: Models | None) -> None:
    if models is not None:
        models.disconnect()
