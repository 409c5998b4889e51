"""A provider of models on a real socket: it serves all three protocols, or misbehaves as told."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

DIMENSION = 8


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, object]
    peer: tuple[str, int]
    """Address and port that it came from: a connection of its own has a port of its own."""


@dataclass(frozen=True)
class Answer:
    """What is sent back, and how."""

    body: object = b""
    """Bytes, or what is sent as JSON."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_s: float = 0.0
    """Seconds between one byte of the body and the next."""
    drip_headers_s: float = 0.0
    """Seconds between one byte of the head and the next."""
    silent_s: float = 0.0
    """Seconds before the first byte."""
    hang_up: bool = False


Behaviour = Callable[[Asked], Answer]


@dataclass
class Provider:
    """A running server; `behave` may be exchanged while it runs."""

    url: str
    port: int
    behave: Behaviour
    asked: list[Asked] = field(default_factory=list)


def embedding(text: str) -> list[float]:
    """A vector that depends on the text alone; its norm is not 1."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return (3 * np.random.default_rng(seed).normal(size=DIMENSION)).round(6).tolist()


def relevance(query: str, text: str) -> float:
    """Share of the query's words that the text holds, in (0, 1)."""
    words = set(re.findall(r"\w+", query.lower()))
    held = words & set(re.findall(r"\w+", text.lower()))
    return (len(held) + 0.5) / (len(words) + 1)


def serve_models(asked: Asked) -> Answer:
    """Answer as the protocols demand; lists come in reverse, which `index` puts right."""
    body = asked.body
    if asked.path.endswith("/embeddings"):
        items = [
            {"object": "embedding", "index": i, "embedding": embedding(text)}
            for i, text in enumerate(body["input"])
        ]
        return Answer({"object": "list", "model": body["model"], "data": items[::-1]})
    if asked.path.endswith("/rerank") and "texts" in body:
        scores = [relevance(body["query"], text) for text in body["texts"]]
        return Answer([{"index": i, "score": 20 * s - 10} for i, s in enumerate(scores)][::-1])
    if asked.path.endswith("/rerank"):
        scores = [relevance(body["query"], text) for text in body["documents"]]
        results = [{"index": i, "relevance_score": s} for i, s in enumerate(scores)]
        return Answer({"id": "1", "results": sorted(results, key=lambda r: -r["relevance_score"])})
    if asked.path.endswith("/chat/completions"):
        text = body["messages"][-1]["content"]
        query = re.search(r"Doc String: (.*)\.\nRank", text)[1]
        listed = re.findall(r"^\[(\d+)\] (.*(?:\n(?!\[\d+\]|\nDoc String).*)*)", text, re.MULTILINE)
        best = sorted(listed, key=lambda one: -relevance(query, one[1]))
        order = " > ".join(f"[{number}]" for number, _ in best)
        return Answer({"choices": [{"message": {"role": "assistant", "content": order}}]})
    return Answer({"error": {"message": "no such path"}}, status=404)


def serve_embeddings(embed: Callable[[str], np.ndarray], *, key: str = "") -> Behaviour:
    """Embed with a model of the test's own, and let in only who has the key, if there is one."""

    def behave(asked: Asked) -> Answer:
        if key and asked.headers.get("Authorization") != f"Bearer {key}":
            return Answer(status=401)
        if not asked.path.endswith("/embeddings"):
            return serve_models(asked)
        vectors = [embed(text).tolist() for text in asked.body["input"]]
        items = [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        return Answer({"data": items})

    return behave


@contextmanager
def running(
    behave: Behaviour = serve_models, *, tls: ssl.SSLContext | None = None, port: int = 0
) -> Iterator[Provider]:
    """Serve on a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            asked = Asked(self.path, dict(self.headers), json.loads(raw), self.client_address)
            provider.asked.append(asked)
            try:
                self._send(provider.behave(asked))
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                self.close_connection = True

        def _send(self, answer: Answer) -> None:
            time.sleep(answer.silent_s)
            if answer.hang_up:
                self.close_connection = True
                return
            body = (
                answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            )
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            if answer.drip_headers_s:
                self.flush_headers()
                self._drip(b"X-Slow: " + b"a" * 10_000, answer.drip_headers_s)
            self.end_headers()
            if answer.drip_s:
                self._drip(body, answer.drip_s)
            else:
                self.wfile.write(body)

        def _drip(self, data: bytes, pause_s: float) -> None:
            for i in range(len(data)):
                self.wfile.write(data[i : i + 1])
                time.sleep(pause_s)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # A client that does not trust the certificate, or hangs up.

    server = Server(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    scheme = "http" if tls is None else "https"
    port = server.server_address[1]
    provider = Provider(url=f"{scheme}://127.0.0.1:{port}/v1", port=port, behave=behave)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
