"""How indexing and search hold up as a collection grows.

    python -m benchmarks.scale [--files N] [--chunks N] [--work FOLDER] [--only PART]

Three tables. `update`: a folder of many files, and what an update of it costs when nothing, or one
file, has changed. `memory`: the resident memory of real indexing at several sizes, each in a
process of its own. `search`: stage one over many chunks with clustered synthetic vectors, fresh,
after small updates, and with filters. The corpus is the Python code installed here, repeated with
other names until it is large enough.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from backend.build import load_embedder
from backend.config import Settings, load_settings
from backend.embedding.bm25 import document_vector, query_vector
from backend.ingestion.chunking import chunk_file
from backend.ranking.fusion import LIST_DEPTH
from backend.store.edge import EdgeStore
from backend.types import Chunk, Filters, FloatArray, Fusion, Located, Quantization
from backend.workspace import Workspace

SIZES = (25_000, 100_000, 400_000)
"""Lines of code of the `memory` table; --lines adds a larger one."""
QUERIES = (
    "where are failed batches retried",
    "parse the command line arguments",
    "which class raises ConnectionError",
    "read a json file with its encoding",
    "test that two arrays are equal",
    "send_request",
    "reshape an array without copying it",
    "timeout of the http client",
)
_NAMES = re.compile(r"\b(?:def|class) (\w{4,})")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=5_000, help="of the update table")
    parser.add_argument("--chunks", type=int, default=100_000, help="of the search table")
    parser.add_argument("--lines", type=int, default=0, help="one more size of the memory table")
    parser.add_argument("--work", type=Path, help="scratch folder; a temporary one if left out")
    parser.add_argument("--only", choices=["update", "memory", "search"])
    parser.add_argument("--index", nargs=2, metavar=("DATA", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.index:
        index_and_tell(*map(Path, arguments.index))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        if arguments.only in (None, "update"):
            print_updates(Path(work), arguments.files)
        if arguments.only in (None, "memory"):
            sizes = (*SIZES, arguments.lines) if arguments.lines else SIZES
            print_memory(Path(work), sizes)
        if arguments.only in (None, "search"):
            print_search(Path(work), arguments.chunks)


def print_updates(work: Path, files: int) -> None:
    """Many small files: nothing changed, one changed, one deleted, all touched."""
    folder = write_corpus(work / "update", files=files, most_lines=12)
    print(f"\n| update of {files:,} files | seconds | embedded |")
    print("|---|---|---|")
    with Workspace(settings=settings(work / "update-data")) as workspace:

        def update(what: str, rounds: int = 1) -> None:
            reports = [workspace.index(folder, collection="c") for _ in range(rounds)]
            seconds = statistics.median(report.seconds for report in reports)
            print(f"| {what} | {seconds:.2f} | {reports[-1].embedded:,} |", flush=True)

        update("first")
        time.sleep(2.1)  # Files younger than two seconds are read again.
        update("stamps settle")
        update("nothing changed", rounds=5)
        paths = sorted(path for path in folder.rglob("*.py"))
        paths[0].write_text("def changed():\n    return 1\n")
        update("one file changed")
        paths[1].unlink()
        update("one file deleted")
        for path in paths[2:]:
            path.touch()
        update("all touched")
    command = [sys.executable, "-m", "backend", "index", str(folder), "--collection", "c"]
    environment = os.environ | {"RANKSCOPE_DATA_DIR": str(work / "update-data")}
    time.sleep(2.1)
    spent = []
    for _ in range(4):
        started = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        spent.append(time.perf_counter() - started)
    row = f"| nothing changed, a new process with its imports and model | {min(spent):.2f} | 0 |"
    print(row, flush=True)


def print_memory(work: Path, sizes: Sequence[int]) -> None:
    """Peak resident memory and pace of real indexing, each size in a process of its own."""
    print("\n| lines | chunks | seconds | chunks/s | peak RSS, MB | of it anonymous |")
    print("|---|---|---|---|---|---|")
    for lines in sizes:
        folder = write_corpus(work / f"memory{lines}", lines=lines)
        command = [sys.executable, "-m", "benchmarks.scale", "--index"]
        command += [str(work / f"data{lines}"), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            peak = {"VmRSS": 0, "RssAnon": 0}
            while process.poll() is None:
                for name, kilobytes in memory(process.pid).items():
                    peak[name] = max(peak[name], kilobytes)
                time.sleep(0.2)
            assert process.stdout is not None
            told = json.loads(process.stdout.read())
        print(
            f"| {lines:,} | {told['chunks']:,} | {told['seconds']:.0f}"
            f" | {told['embedded'] / told['seconds']:.0f}"
            f" | {peak['VmRSS'] / 1024:.0f} | {peak['RssAnon'] / 1024:.0f} |",
            flush=True,
        )


def index_and_tell(data_dir: Path, folder: Path) -> None:
    """Index a folder and print what it took."""
    with Workspace(settings=settings(data_dir)) as workspace:
        report = workspace.index(folder, collection="c")
    told = {"chunks": report.info.chunks, "embedded": report.embedded, "seconds": report.seconds}
    print(json.dumps(told))


def print_search(work: Path, count: int) -> None:
    """Milliseconds of stage one over many chunks, and of embedding the query before it."""
    chunks = corpus_chunks(count)
    vectors = clustered(count, seed=1)
    store = EdgeStore.create(
        work / "search",
        dimension=vectors.shape[1],
        quantization=Quantization(mode="turbo4", rescore=True, oversampling=2.0),
        fusion=Fusion(bm25_weight=0.03, depth=LIST_DEPTH),
    )

    def write(chunks: Sequence[Chunk], vectors: FloatArray) -> None:
        sparse = [document_vector(chunk) for chunk in chunks]
        store.upsert(chunks, vectors, sparse, [os.urandom(500)] * len(chunks))

    for start in range(0, count, 512):
        write(chunks[start : start + 512], vectors[start : start + 512])
    started = time.perf_counter()
    store.optimize()
    took = time.perf_counter() - started
    embedder = load_embedder(load_settings())
    print(f"\n{count:,} chunks, optimized in {took:.0f} s")
    print("| search | p50 ms | p95 ms |")
    print("|---|---|---|")
    packages = [
        value for value, _ in sorted(store.facets()["package"].items(), key=lambda i: -i[1])
    ]

    def measure(what: str, filters: Filters = Filters()) -> None:  # noqa: B008
        asked = [
            Located(dense=vector, sparse=query_vector(text), filters=filters, limit=30)
            for vector, text in zip(clustered(160, seed=2), QUERIES * 20, strict=True)
        ]
        row(what, [milliseconds(lambda one=one: store.search(one)) for one in asked])

    row(
        "embedding the query",
        [milliseconds(lambda t=t: embedder.embed_query(t)) for t in QUERIES * 4],
    )
    measure("30 hits")
    measure("30 hits, in the largest package", Filters(packages=packages[:1]))
    measure("30 hits, in a small package", Filters(packages=packages[-1:]))
    measure(
        "30 hits, in a folder", Filters(path_prefix=chunks[count // 2].path.split("/")[0] + "/")
    )
    spent = []
    for turn in range(8):
        part = slice(turn * 50, turn * 50 + 50)
        write(chunks[part], vectors[part])
        spent.append(milliseconds(store.optimize))
    row("update of 50 chunks, with optimizing", spent)
    measure("30 hits, after eight such updates")
    store.close()


def settings(data_dir: Path) -> Settings:
    """A data folder that shares the models of the configured one."""
    configured = load_settings().data_dir
    data_dir.mkdir(parents=True)
    for part in ("models", "downloads"):
        (configured / part).mkdir(parents=True, exist_ok=True)
        (data_dir / part).symlink_to(configured / part)
    return load_settings(data_dir=data_dir)


def write_corpus(
    folder: Path, *, files: int = 0, lines: int = 0, most_lines: int | None = None
) -> Path:
    """Write so many files, or files of so many lines in all."""
    written = total = 0
    for path, text in corpus():
        kept = text.split("\n")[:most_lines]
        if not "".join(kept).strip():
            continue
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join([f"# {path}", *kept]))
        written, total = written + 1, total + len(kept)
        if (files and written >= files) or (lines and total >= lines):
            break
    return folder


def corpus_chunks(count: int) -> list[Chunk]:
    """So many chunks of the corpus."""
    chunks: list[Chunk] = []
    for path, text in corpus():
        chunks += chunk_file(text, source="dir:/c", path=path, package=path.split("/")[1])
        if len(chunks) >= count:
            break
    return chunks[:count]


def corpus() -> Iterator[tuple[str, str]]:
    """Paths and texts without end: the code installed here, then again with other names."""
    roots = [Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib")]
    copy = 0
    while True:
        for root in roots:
            for path in sorted(root.rglob("*.py")):
                text = path.read_text("utf-8", "replace")
                if path.is_symlink() or len(text) > 500_000:
                    continue
                if copy:
                    text = _NAMES.sub(lambda match: f"{match[0]}_v{copy}", text)  # noqa: B023
                inner = path.relative_to(root).as_posix().replace("site-packages/", "")
                yield f"v{copy}/{inner}", text
        copy += 1


def clustered(rows: int, *, seed: int) -> FloatArray:
    """Unit vectors of 384 dimensions that vary like those of texts: in clusters, in few directions.

    Returns:
        Shape (rows, 384).
    """
    fixed = np.random.default_rng(0)
    directions, centres = fixed.normal(size=(48, 384)), fixed.normal(size=(2_000, 48))
    drawn = np.random.default_rng(seed)
    mixed = centres[drawn.integers(0, len(centres), rows)] + 0.7 * drawn.normal(size=(rows, 48))
    mixed = mixed @ directions + 0.5 * drawn.normal(size=(rows, 384))
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)


def memory(pid: int) -> dict[str, int]:
    """Resident kilobytes of a process, all and anonymous ones; nothing once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    found = re.findall(r"^(VmRSS|RssAnon):\s+(\d+)", status, re.M)
    return {name: int(kilobytes) for name, kilobytes in found}


def milliseconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def row(what: str, spent: Sequence[float]) -> None:
    """Print a median and a 95th percentile."""
    print(f"| {what} | {np.median(spent):.1f} | {np.percentile(spent, 95):.1f} |", flush=True)


if __name__ == "__main__":
    main()
