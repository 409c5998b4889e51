"""Start Rankscope: settings → logs → workspace → page and MCP endpoint. No search logic."""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # Gradio's clients ask the hub otherwise.

import contextlib
import io
import signal
import socket
import sys
import threading
from types import FrameType

import gradio as gr
from loguru import logger

from backend.background import Background
from backend.config import Settings, load_settings
from backend.errors import SearchError
from backend.preparation import Preparation
from backend.workspace import Workspace
from mcp_tools.gradio_endpoint import MCP_PATH, register
from ui.page import appearance, build_page

MAX_UPLOAD_BYTES = 500_000_000


class AddressUnusable(SearchError):
    """The page cannot be served at the configured address."""


def serve(
    workspace: Workspace, preparation: Preparation, background: Background
) -> tuple[gr.Blocks, str]:
    """Serve page and MCP endpoint from background threads.

    Raises:
        AddressUnusable: The port is taken, or the host is not this machine's.

    Returns:
        The page, to be closed in the end, and its address.
    """
    settings = workspace.settings
    page = build_page(workspace, preparation, background, mcp_path=MCP_PATH)
    with page:
        register(workspace, preparation)
    page.queue(max_size=64)
    port = settings.port or _free_port(settings.host)
    try:
        with contextlib.redirect_stdout(
            io.StringIO()
        ):  # It announces the MCP endpoint even if quiet.
            _, url, _ = page.launch(
                server_name=f"[{settings.host}]" if ":" in settings.host else settings.host,
                server_port=port,
                mcp_server=True,
                ssr_mode=False,
                share=False,
                run_history=False,
                enable_monitoring=False,
                inbrowser=False,
                max_file_size=MAX_UPLOAD_BYTES,
                prevent_thread_lock=True,
                quiet=True,
                **appearance(),
            )
    except OSError as exc:
        raise AddressUnusable(
            f"The page cannot be served at {settings.host}:{port}: the port is in use.",
            fix="Stop what uses it, or set RANKSCOPE_PORT to another port, or to 0 for a free one.",
        ) from exc
    return page, url


def run(settings: Settings) -> None:
    """Serve until interrupted.

    Raises:
        SearchError: The data folder or the address cannot be used.
    """
    with Workspace(settings=settings) as workspace:
        preparation = Preparation(workspace)
        background = Background(workspace)
        page, url = serve(workspace, preparation, background)
        try:
            workspace.announce(url)
            preparation.start()
            if settings.indexing != "off":
                background.resume()
            print(f"Page  {url}\nMCP   {url.rstrip('/')}{MCP_PATH}", flush=True)
            threading.Event().wait()
        finally:
            preparation.stop()
            background.close(timeout_s=10)
            page.close(verbose=False)


def main() -> int:
    """Run as a program.

    Returns:
        Exit code: 0 after an interruption, 1 when the app could not start.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    logger.remove()
    try:
        settings = load_settings()
        logger.add(sys.stderr, level=settings.log_level, backtrace=False, diagnose=False)
        run(settings)
    except SearchError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _free_port(host: str) -> int:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as probe:
            return int(probe.getsockname()[1])
    except OSError as exc:
        raise AddressUnusable(
            f"The page cannot be served at {host}: {exc.strerror}.",
            fix="Set RANKSCOPE_HOST to an address of this machine, such as 127.0.0.1 or 0.0.0.0.",
        ) from exc


if __name__ == "__main__":
    sys.exit(main())
