"""The tools on Gradio's MCP endpoint.

Gradio sends a dict as Python `repr`, so the tools return JSON text. They are not queued: a queued
tool goes through a client that loops back over HTTP, 60 ms instead of 5.
"""

from __future__ import annotations

import json

from gradio.events import api

from backend.build import DEFAULT_MANIFEST
from backend.ingestion.collection import Manifest
from backend.preparation import Preparation
from backend.workspace import Workspace
from mcp_tools.tools import Tools

MCP_PATH = "/gradio_api/mcp/"


def register(workspace: Workspace, preparation: Preparation) -> None:
    """Add the tools to the Blocks that are open; argument texts come from the docstrings."""
    tools = Tools(workspace, preparation)

    def search(
        query: str,
        collection: str = "",
        top_k: int = 8,
        packages: list[str] | None = None,
        languages: list[str] | None = None,
        kinds: list[str] | None = None,
        path_prefix: str = "",
        paths: list[str] | None = None,
        min_confidence: str = "",
        rerank: bool = True,
        max_lines: int = 40,
    ) -> str:
        """
        Args:
            query: What to find, as a question, a description or an identifier. One thing at a time.
            collection: Name from list_collections. Leave empty for the default collection.
            top_k: Hits to return, 1 to 100.
            packages: Only these packages, such as ["qdrant-client"].
            languages: Only these languages, such as ["python", "markdown"].
            kinds: Only these kinds: function, method, class, module, section, text.
            path_prefix: Only paths that begin with this, such as "qdrant_client/http/".
            paths: Only files matching these globs, such as ["src/**/*.py", "!tests/"].
            min_confidence: low, medium or high. Below it there are no hits. Empty gives all.
            rerank: Whether a cross-encoder orders the candidates. Off is faster.
            max_lines: Lines of text per hit, 1 to 200. Longer hits are cut and marked text_cut.

        Returns:
            JSON with confidence (high to none) and hits, best first: source, path, start_line,
                end_line, symbol, score, text; also: further hits of the same file; url where the
                lines can be looked at on GitHub or GitLab.
        """
        return _json(
            tools.search(
                query,
                collection=collection,
                top_k=top_k,
                packages=packages,
                languages=languages,
                kinds=kinds,
                path_prefix=path_prefix,
                paths=paths,
                min_confidence=min_confidence,
                rerank=rerank,
                max_lines=max_lines,
            )
        )

    def find_related(
        path: str, line: int, collection: str = "", top_k: int = 5, max_lines: int = 20
    ) -> str:
        """Find code and documentation similar to a place: other implementations, copies, usages.

        Args:
            path: File, as search gives it.
            line: A line in it.
            collection: Name from list_collections. Leave empty for the default collection.
            top_k: Hits to return, 1 to 100.
            max_lines: Lines of text per hit, 1 to 200.

        Returns:
            JSON with hits, most similar first: similarity, source, path, lines, symbol, text.
        """
        return _json(
            tools.find_related(path, line, collection=collection, top_k=top_k, max_lines=max_lines)
        )

    def list_collections() -> str:
        """List what can be searched: names, descriptions, sources and sizes of all collections.

        Returns:
            JSON with the collections, and the progress of one that is being prepared.
        """
        return _json(tools.list_collections())

    api(search, queue=False, api_description=_search_description(workspace))
    api(find_related, queue=False)
    api(list_collections, queue=False)


def _search_description(workspace: Workspace) -> str:
    """What the tool is for, with the collections that it had when the app started."""
    manifest = Manifest.load(DEFAULT_MANIFEST)
    known = {info.name: info.description for info in workspace.collections()}
    known = {manifest.name: manifest.description, **known}
    listed = "; ".join(f"{name}: {text}" if text else name for name, text in known.items())
    return (
        "Search indexed source code and documentation by meaning and by identifier. Use it to find"
        " where something is implemented, how an API is called, or what the documentation says,"
        " before guessing or reading whole files. Answers with exact source lines and their place."
        f" Collections: {listed}"
    )


def _json(answer: object) -> str:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
