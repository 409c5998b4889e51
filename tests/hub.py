"""A stand-in for the model hub, on a real socket: its API and its files, right or wrong."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StandIn:
    """What the hub serves, and what goes wrong there."""

    url: str = ""
    repositories: dict[str, Path] = field(default_factory=dict)
    api_status: int = 200
    api_body: bytes | None = None
    cut: set[str] = field(default_factory=set)
    """Files whose connection breaks half way."""
    changed: set[str] = field(default_factory=set)
    """Files that arrive with the right size and other content."""
    gone: set[str] = field(default_factory=set)
    """Files that are listed and not there."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Old names, which are redirected to the new ones."""
    asked: list[str] = field(default_factory=list)


@contextmanager
def hub() -> Iterator[StandIn]:
    """Serve until the block ends."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, stand_in, body=True)

        def do_HEAD(self) -> None:
            _answer(self, stand_in, body=False)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(request: BaseHTTPRequestHandler, hub: StandIn, *, body: bool) -> None:
    path = urlsplit(request.path).path.lstrip("/")
    hub.asked.append(f"{request.command} {path}")
    for old, new in hub.renamed.items():
        if old in path:
            _send(request, 307, b"", {"Location": f"/{path.replace(old, new)}"})
            return
    if path.startswith("api/models/"):
        name, _, revision = path.removeprefix("api/models/").partition("/revision/")
        _api(request, hub, name, revision)
        return
    name, _, rest = path.partition("/resolve/")
    _, _, file = rest.partition("/")
    source = hub.repositories.get(name, Path("nowhere")) / file
    if file in hub.gone or not source.is_file():
        _send(request, 404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
        return
    content = source.read_bytes()
    headers = {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT}
    if file in hub.changed:
        content = bytes([content[0] ^ 1]) + content[1:]
    start = 0
    if given := request.headers.get("Range"):
        start = int(given.removeprefix("bytes=").split("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    request.send_response(206 if start else 200)
    for key, value in headers.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(content) - start))
    request.end_headers()
    if body and file in hub.cut:
        request.wfile.write(content[start : start + (len(content) - start) // 2])
        request.wfile.flush()
        request.close_connection = True
    elif body:
        request.wfile.write(content[start:])


def _api(request: BaseHTTPRequestHandler, hub: StandIn, name: str, revision: str) -> None:
    if hub.api_status != 200:
        _send(request, hub.api_status, b'{"error": "no"}', {})
    elif hub.api_body is not None:
        _send(request, 200, hub.api_body, {"Content-Type": "text/html"})
    elif name not in hub.repositories:
        _send(request, 401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
    elif revision not in ("", "main", COMMIT):
        _send(request, 404, b'{"error": "no such revision"}', {"X-Error-Code": "RevisionNotFound"})
    else:
        folder = hub.repositories[name]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        siblings = [_sibling(path, str(path.relative_to(folder))) for path in files]
        body = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": []}
        _send(request, 200, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _sibling(path: Path, name: str) -> dict[str, object]:
    content = path.read_bytes()
    described: dict[str, object] = {"rfilename": name, "size": len(content)}
    if path.suffix in {".safetensors", ".onnx", ".data"}:
        sha256 = hashlib.sha256(content).hexdigest()
        described["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
        described["blobId"] = "0" * 40
    else:
        described["blobId"] = _digest(content)
    return described


def _digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _send(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
) -> None:
    request.send_response(status)
    for key, value in {**headers, "Content-Length": str(len(body))}.items():
        request.send_header(key, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
