"""Every entry of the catalogue against what its own library makes of a model of that layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hub import COMMIT, StandIn, hub
from onnx import TensorProto, helper
from tiny import DIMENSION, TEXTS, cross_encoder_repository, embedding_repository

from backend.embedding.local import LocalEmbedder
from backend.errors import ModelUnavailable
from backend.inference.graph import quantize_blocks
from backend.inference.processor import int8_forms, suitable
from backend.inference.session import OnnxModel, TokenRow
from backend.models.catalogue import (
    BUNDLED_EMBEDDER,
    InvalidCatalogue,
    ModelCard,
    UnknownModel,
    load_catalogue,
)
from backend.models.hub import Hub
from backend.models.prepare import ModelFolders, prepare
from backend.reranking.cross_encoder import CrossEncoder

CARDS = {card.id: card for card in load_catalogue().cards}
PUBLISHED = {
    BUNDLED_EMBEDDER: ("bert", "mean", {}),
    "nomic-ai/nomic-embed-text-v1.5": (
        "nomic_bert",
        "mean",
        {"query": "search_query: ", "document": "search_document: "},
    ),
    "nomic-ai/CodeRankEmbed": (
        "nomic_bert",
        "cls",
        {"query": "Represent this query for searching relevant code: "},
    ),
    "nomic-ai/nomic-embed-code": (
        "qwen2",
        "lasttoken",
        {"query": "Represent this query for searching relevant code: "},
    ),
}
"""Architecture, pooling and prompts as each repository publishes them."""


@pytest.fixture
def served() -> Iterator[StandIn]:
    with hub() as stand_in:
        yield stand_in


@pytest.fixture
def folders(tmp_path: Path) -> ModelFolders:
    return ModelFolders(models=tmp_path / "models", downloads=tmp_path / "downloads")


def tiny(card: ModelCard, **fields: object) -> ModelCard:
    """The entry for a small model of its kind: all that decides the numbers stays."""
    small = {"dimension": DIMENSION, "max_tokens": 128, "revision": "", "wheel": None, "onnx": {}}
    return replace(card, **{**small, **fields})


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(axis=-1)


def test_every_embedding_model_is_compared_with_its_library() -> None:
    assert set(PUBLISHED) == {card.id for card in CARDS.values() if card.kind == "embedding"}


@pytest.mark.parametrize("id", PUBLISHED)
def test_an_embedding_model_gives_what_sentence_transformers_gives(
    id: str, served: StandIn, folders: ModelFolders, tmp_path: Path
) -> None:
    """From the repository's weights, in shards, over the hub, to vectors: nothing is skipped."""
    kind, pooling, prompts = PUBLISHED[id]
    served.repositories[id] = tmp_path / "repository"
    oracle = embedding_repository(
        tmp_path / "repository", kind, pooling=pooling, prompts=prompts, shard_size="100KB"
    )
    prepared = prepare(tiny(CARDS[id]), folders, precision="float32", hub=Hub(served.url))
    model = LocalEmbedder(prepared, threads=1)

    assert prepared.revision == COMMIT
    for name, ours in (
        ("query", np.stack([model.embed_query(text) for text in TEXTS])),
        ("document", model.embed_documents(TEXTS)),
    ):
        expected = oracle.encode(TEXTS, prompt=prompts.get(name, ""))
        assert cosines(ours, expected).min() >= 0.9999, name
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "precision", "least"),
    [
        ("bert", "int8", 0.98),
        ("nomic_bert", "int8", 0.98),
        ("nomic_bert", "q8", 0.98),
        ("nomic_bert", "q4", 0.5),
        ("qwen2", "q8", 0.98),
        ("qwen2", "q4", 0.8),
    ],
)
def test_a_quantized_model_stays_near_its_float32_form(
    kind: str,
    precision: str,
    least: float,
    served: StandIn,
    folders: ModelFolders,
    tmp_path: Path,
) -> None:
    """Random weights lose more than trained ones; `benchmarks/models.py` measures real ones.

    Four bits of so small a model leave 0.6 to 0.9, by how the trained tokenizer falls out.
    """
    card = tiny(CARDS[BUNDLED_EMBEDDER], id=f"acme/{kind}", architecture=kind)
    served.repositories[card.id] = tmp_path / "repository"
    oracle = embedding_repository(tmp_path / "repository", kind, pooling="mean", prompts={})
    prepared = prepare(card, folders, precision=precision, hub=Hub(served.url))
    vectors = LocalEmbedder(prepared, threads=1).embed_documents(TEXTS)

    found = cosines(vectors, oracle.encode(TEXTS))
    assert found.min() >= least
    assert found.max() < 0.999999, "nothing was quantized"
    assert not list(prepared.folder.glob("float32.onnx*"))


def test_a_cross_encoder_gives_the_logits_of_transformers(
    served: StandIn, folders: ModelFolders, tmp_path: Path
) -> None:
    card = tiny(CARDS["cross-encoder/ms-marco-MiniLM-L-6-v2"], dimension=0)
    served.repositories[card.id] = tmp_path / "repository"
    oracle, tokenizer = cross_encoder_repository(tmp_path / "repository")
    pairs = [(TEXTS[0], text) for text in TEXTS]
    encoded = [tokenizer(*pair, return_tensors="pt", return_token_type_ids=True) for pair in pairs]
    with torch.no_grad():
        expected = [float(oracle(**one).logits[0, 0]) for one in encoded]
    prepared = prepare(card, folders, precision="float32", hub=Hub(served.url))
    model = OnnxModel(prepared.folder / "model.onnx", threads=1)
    rows = [
        TokenRow(one["input_ids"][0].tolist(), one["token_type_ids"][0].tolist().index(1))
        for one in encoded
    ]

    np.testing.assert_allclose([model.run(row)[0] for row in rows], expected, atol=1e-3)
    reranker = CrossEncoder(prepared.folder, threads=1)  # Checksums and all.
    reranker.close()


# The repository's own ONNX files


def as_exporters_write(graph: Path, target: Path, *, output: str = "last_hidden_state") -> None:
    """Give a graph the inputs and output names of an exporter, with its weights inside."""
    model = onnx.load(graph)
    names = {node.name for node in model.graph.input}
    for name in {"attention_mask", "token_type_ids"} - names:
        shape = ["batch", "tokens"]
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, shape))
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == model.graph.output[0].name:
                node.output[i] = output
    model.graph.output[0].name = output
    target.parent.mkdir(exist_ok=True)
    onnx.save(model, target)


@pytest.mark.parametrize("output", ["last_hidden_state", "token_embeddings"])
def test_a_repositorys_onnx_file_is_used_as_it_is(
    output: str, served: StandIn, folders: ModelFolders, tmp_path: Path
) -> None:
    card = CARDS["nomic-ai/nomic-embed-text-v1.5"]
    kind, pooling, prompts = PUBLISHED[card.id]
    repository = tmp_path / "repository"
    served.repositories[card.id] = repository
    oracle = embedding_repository(repository, kind, pooling=pooling, prompts=prompts)
    built = prepare(tiny(card), folders, hub=Hub(served.url))
    as_exporters_write(built.model("float32"), repository / card.onnx["float32"], output=output)
    (repository / "model.safetensors").unlink()
    elsewhere = ModelFolders(models=tmp_path / "again", downloads=tmp_path / "downloads")
    prepared = prepare(tiny(card, onnx=card.onnx), elsewhere, hub=Hub(served.url))
    vectors = LocalEmbedder(prepared, threads=1).embed_documents(TEXTS)

    assert "own ONNX" in prepared.origin
    expected = oracle.encode(TEXTS, prompt=prompts["document"])
    assert cosines(vectors, expected).min() >= 0.9999


def test_int8_is_made_of_a_repositorys_float32_file_if_it_has_none(
    served: StandIn, folders: ModelFolders, tmp_path: Path
) -> None:
    card = tiny(CARDS["nomic-ai/nomic-embed-text-v1.5"])
    repository = tmp_path / "repository"
    served.repositories[card.id] = repository
    oracle = embedding_repository(repository, "nomic_bert", pooling="mean", prompts={})
    built = prepare(card, folders, hub=Hub(served.url))
    as_exporters_write(built.model("float32"), repository / "onnx/model.onnx")
    card = replace(card, onnx={"float32": "onnx/model.onnx"}, query_prefix="", document_prefix="")
    elsewhere = ModelFolders(models=tmp_path / "again", downloads=tmp_path / "downloads")
    prepared = prepare(card, elsewhere, precision="int8", hub=Hub(served.url))
    vectors = LocalEmbedder(prepared, threads=1).embed_documents(TEXTS)

    assert cosines(vectors, oracle.encode(TEXTS)).min() > 0.98
    assert not [name for name in served.asked if "safetensors" in name][2:]


def test_a_graph_that_reads_files_elsewhere_is_refused(
    served: StandIn, folders: ModelFolders, tmp_path: Path
) -> None:
    card = tiny(CARDS["nomic-ai/nomic-embed-text-v1.5"], onnx={"float32": "onnx/model.onnx"})
    repository = tmp_path / "repository"
    served.repositories[card.id] = repository
    embedding_repository(repository, "nomic_bert", pooling="mean", prompts={})
    tensor = TensorProto(name="w", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../secret")
    node = helper.make_node("Identity", ["w"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([node], "g", [], [output], [tensor])
    (repository / "onnx").mkdir()
    (repository / "onnx/model.onnx").write_bytes(helper.make_model(graph).SerializeToString())

    with pytest.raises(ModelUnavailable, match="outside of its folder"):
        prepare(card, folders, hub=Hub(served.url))


def test_the_onnx_file_that_suits_the_processor_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    files = CARDS["cross-encoder/ms-marco-MiniLM-L-6-v2"].onnx
    for machine, flags, expected in (
        ("x86_64", "sse avx2 avx512f avx512_vnni", "onnx/model_qint8_avx512_vnni.onnx"),
        ("x86_64", "sse avx2 avx512f", "onnx/model_qint8_avx512.onnx"),
        ("x86_64", "sse avx2", "onnx/model_quint8_avx2.onnx"),
        ("aarch64", "", "onnx/model_qint8_arm64.onnx"),
        ("x86_64", "sse", None),
    ):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        monkeypatch.setattr(Path, "read_text", lambda _, flags=flags: f"flags : {flags}\nbugs :\n")
        int8_forms.cache_clear()
        assert suitable(files, "int8") == expected
    monkeypatch.undo()
    int8_forms.cache_clear()


# What the graphs do not know


def change_config(**fields: object) -> Callable[[Path], None]:
    def change(repository: Path) -> None:
        path = repository / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("nomic_bert", change_config(qkv_proj_bias=True), "qkv_proj_bias is True"),
        ("nomic_bert", change_config(activation_function="gelu"), "activation_function is 'gelu'"),
        ("nomic_bert", change_config(num_experts=8), "num_experts is 8"),
        ("qwen2", change_config(use_sliding_window=True), "use_sliding_window is True"),
        ("qwen2", change_config(rope_parameters={"rope_type": "yarn"}), "rope_type is 'yarn'"),
        ("bert", change_config(hidden_act="relu"), "hidden_act is 'relu'"),
        ("bert", change_config(num_hidden_layers=4), r"layer\.3.*is missing"),
    ],
)
def test_an_option_that_the_graph_does_not_know_is_refused(
    kind: str,
    change: Callable[[Path], None],
    message: str,
    served: StandIn,
    folders: ModelFolders,
    tmp_path: Path,
) -> None:
    """Rather than computed wrongly."""
    card = tiny(CARDS[BUNDLED_EMBEDDER], id="acme/odd")
    served.repositories[card.id] = tmp_path / "repository"
    embedding_repository(tmp_path / "repository", kind, pooling="mean", prompts={})
    change(tmp_path / "repository")

    with pytest.raises(ModelUnavailable, match=message):
        prepare(card, folders, hub=Hub(served.url))
    assert not list(folders.models.glob("*.part"))


def test_blocks_of_four_bits_hold_what_was_put_in() -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 70)).astype(np.float32)
    codes, scales = quantize_blocks(matrix, bits=4, block=32)
    low, high = codes & 15, codes >> 4
    values = np.stack([low, high], axis=-1).reshape(3, 3, 32).astype(np.float32) - 8
    restored = (values * scales.reshape(3, 3, 1)).reshape(3, 96)[:, :70]

    assert np.abs(restored - matrix).max() <= np.abs(scales).max() * 1.01
    assert np.abs(restored - matrix).mean() < 0.1


# The data


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


ENTRY = """
[[model]]
id = "acme/own"
kind = "embedding"
architecture = "bert"
licence = "MIT"
parameters = 10
max_tokens = 128
dimension = 32
"""


def test_a_users_own_entry_is_known_beside_the_others(tmp_path: Path) -> None:
    catalogue = load_catalogue(write(tmp_path / "own.toml", ENTRY))

    assert catalogue.card("acme/own").dimension == 32
    assert catalogue.card(BUNDLED_EMBEDDER) == CARDS[BUNDLED_EMBEDDER]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id = ", "cannot be read"),
        ("name = 'x'", "something else than"),
        (ENTRY.replace("dimension = 32", ""), "needs its dimension"),
        (ENTRY.replace("dimension = 32", "dimension = 'many'"), "dimension"),
        (ENTRY + "poolng = 'cls'", "poolng"),
        (ENTRY + "pooling = 'max'", "pooling"),
        (ENTRY.replace("acme/own", "../own"), "id"),
        (ENTRY + "onnx = {float32 = '../x.onnx'}", "onnx"),
        (ENTRY + "onnx = {float32 = '/x.onnx'}", "onnx"),
    ],
)
def test_an_entry_that_is_wrong_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidCatalogue, match=message):
        load_catalogue(write(tmp_path / "own.toml", text))


def test_an_unknown_model_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match=r"nomic-embed-tex.*Known:.*CodeRankEmbed"):
        load_catalogue().card("nomic-embed-tex", kind="embedding")
    with pytest.raises(UnknownModel, match="is a listwise model"):
        load_catalogue().card("nomic-ai/CodeRankLLM", kind="embedding")
