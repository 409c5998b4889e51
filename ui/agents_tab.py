"""The Agents tab: how a coding agent is connected, ready to be copied."""

from __future__ import annotations

import json
import shlex

import gradio as gr

from ui.panel import panel, render


class AgentsTab:
    """Shows client configurations for the address that the page was opened at."""

    def __init__(self, mcp_path: str) -> None:
        self._mcp_path = mcp_path
        self._address = gr.Textbox(visible=False)
        self._guide = panel(elem_id="agents")

    def connect(self, page: gr.Blocks) -> None:
        """Fill in the address when the page opens: the browser knows it, whatever lies between."""
        page.load(
            self._fill_in,
            self._address,
            self._guide,
            js="() => location.origin + location.pathname",
            queue=False,
            api_visibility="private",
            show_progress="hidden",
        )

    def _fill_in(self, address: str | None) -> str:
        return guide(address or "", self._mcp_path)


def guide(address: str, mcp_path: str) -> str:
    """The configurations for an app whose page lies at this address."""
    url = address.rstrip("/") + mcp_path
    server = {"mcpServers": {"rankscope": {"type": "http", "url": url}}}
    bridge = {"command": "npx", "args": ["-y", "mcp-remote", url]}
    return render(
        "agents.html",
        url=url,
        configs=[
            ("Claude Code", f"claude mcp add --transport http rankscope {shlex.quote(url)}"),
            ("Codex", f"# ~/.codex/config.toml\n[mcp_servers.rankscope]\nurl = {json.dumps(url)}"),
            ("Cursor, VS Code and others that take JSON", json.dumps(server, indent=2)),
            (
                "Clients that only speak stdio",
                json.dumps({"mcpServers": {"rankscope": bridge}}, indent=2),
            ),
        ],
    )
