"""The Agents tab: how a coding agent is connected, ready to be copied."""

from __future__ import annotations

import json

import gradio as gr

from ui.panel import panel, render


class AgentsTab:
    """Shows client configurations for the address that the page was opened at."""

    def __init__(self, mcp_path: str) -> None:
        self._mcp_path = mcp_path
        self._guide = panel(elem_id="agents")

    def connect(self, page: gr.Blocks) -> None:
        """Fill in the address when the page opens."""
        page.load(
            self._show,
            None,
            self._guide,
            queue=False,
            api_visibility="private",
            show_progress="hidden",
        )

    def _show(self, request: gr.Request) -> str:
        return guide(str(request.base_url), self._mcp_path)


def guide(base_url: str, mcp_path: str) -> str:
    """The configurations for an app at this address."""
    url = base_url.split("/gradio_api")[0].rstrip("/") + mcp_path
    server = {"mcpServers": {"rankscope": {"type": "http", "url": url}}}
    bridge = {"command": "npx", "args": ["-y", "mcp-remote", url]}
    return render(
        "agents.html",
        url=url,
        configs=[
            ("Claude Code", f"claude mcp add --transport http rankscope {url}"),
            ("Codex", f'# ~/.codex/config.toml\n[mcp_servers.rankscope]\nurl = "{url}"'),
            ("Cursor, VS Code and others that take JSON", json.dumps(server, indent=2)),
            (
                "Clients that only speak stdio",
                json.dumps({"mcpServers": {"rankscope": bridge}}, indent=2),
            ),
        ],
    )
