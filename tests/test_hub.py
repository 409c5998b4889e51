"""Fetching models when the hub, the network or the disk does not do its part."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub import COMMIT, StandIn, hub
from sentence_transformers import SentenceTransformer
from tiny import DIMENSION, TEXTS, embedding_repository
from transformers import RobertaConfig, RobertaModel

from backend.embedding.local import LocalEmbedder
from backend.errors import ModelUnavailable
from backend.models.catalogue import BUNDLED_EMBEDDER, ModelCard, load_catalogue
from backend.models.export import Optimum
from backend.models.hub import Hub
from backend.models.prepare import ModelFolders, prepare

CARD = replace(
    load_catalogue().card(BUNDLED_EMBEDDER),
    id="acme/tiny",
    dimension=DIMENSION,
    revision="",
    wheel=None,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "repository"
    embedding_repository(folder, "bert", pooling="mean", prompts={})
    return folder


@pytest.fixture
def served(whole: Path, tmp_path: Path) -> Iterator[StandIn]:
    with hub() as stand_in:
        stand_in.repositories[CARD.id] = shutil.copytree(whole, tmp_path / "repository")
        yield stand_in


@pytest.fixture
def folders(tmp_path: Path) -> ModelFolders:
    return ModelFolders(models=tmp_path / "models", downloads=tmp_path / "downloads")


def refuse(folders: ModelFolders, endpoint: str, match: str, card: ModelCard = CARD) -> None:
    with pytest.raises(ModelUnavailable, match=match) as caught:
        prepare(card, folders, hub=Hub(endpoint))
    assert caught.value.fix, "it tells what to do"
    left = [path.name for path in folders.models.iterdir()]
    assert left == ["prepare.lock"], "nothing half made remains"


@pytest.mark.parametrize(
    ("status", "match"),
    [
        (401, r"answered 401.*HF_TOKEN|hides it.*HF_TOKEN"),
        (403, r"answered 403.*HF_TOKEN"),
        (404, r"answered 404|no such repository"),
        (429, r"answered 429.*wait some minutes"),
        (500, r"answered 500"),
    ],
)
def test_a_refusal_of_the_hub_is_told(
    status: int, match: str, served: StandIn, folders: ModelFolders
) -> None:
    served.api_status = status
    refuse(folders, served.url, match)


def test_a_repository_that_is_not_there_is_told(served: StandIn, folders: ModelFolders) -> None:
    card = replace(CARD, id="acme/missing")
    refuse(folders, served.url, r"acme/missing.*no such repository", card)


def test_a_commit_that_is_not_there_is_told(served: StandIn, folders: ModelFolders) -> None:
    card = replace(CARD, revision="f" * 40)
    refuse(folders, served.url, r"no commit ffff.*revision in the catalogue", card)


def test_html_in_the_place_of_json_is_told(served: StandIn, folders: ModelFolders) -> None:
    served.api_body = b"<html>Log in to the network</html>"
    refuse(folders, served.url, "makes no sense")


def test_no_network_is_told(folders: ModelFolders) -> None:
    with hub() as gone:
        address = gone.url
    refuse(folders, address, r"cannot be reached.*Check the network")


def test_a_file_that_is_listed_and_not_there_is_told(
    served: StandIn, folders: ModelFolders
) -> None:
    served.gone = {"tokenizer.json"}
    refuse(folders, served.url, "a file is missing")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_file_with_other_content_than_its_checksum_is_deleted_and_told(
    file: str, served: StandIn, folders: ModelFolders
) -> None:
    """Large files have a sha256, small ones git's sha1; the hub's client compares neither."""
    served.changed = {file}
    refuse(folders, served.url, f"{file} differs from its checksum")

    served.changed = set()
    assert prepare(CARD, folders, hub=Hub(served.url)).revision == COMMIT


def test_a_download_that_breaks_off_is_told_and_goes_on_the_next_time(
    served: StandIn, folders: ModelFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # The hub's client pauses and tries.
    served.cut = {"model.safetensors"}
    refuse(folders, served.url, "acme/tiny could not be fetched")

    served.cut = set()
    served.asked.clear()
    assert prepare(CARD, folders, hub=Hub(served.url)).revision == COMMIT
    asked = [line for line in served.asked if line.startswith("GET") and "tokenizer.json" in line]
    assert not asked, "what was there whole is not fetched again"


@pytest.mark.parametrize("place", ["download", "conversion"])
def test_a_full_disk_is_told(
    place: str, served: StandIn, folders: ModelFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download" if place == "download" else "shutil.copyfile", full
    )
    refuse(folders, served.url, "disk is full|No space left on device")


def test_too_little_room_is_told_before_anything_is_fetched(
    served: StandIn, folders: ModelFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = shutil._ntuple_diskusage(10**9, 10**9, 100_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: little)
    refuse(folders, served.url, r"GB of disk while it is prepared.*RANKSCOPE_DATA_DIR")
    assert not [line for line in served.asked if "safetensors" in line]


def unsafe_only(repository: Path) -> None:
    (repository / "model.safetensors").rename(repository / "pytorch_model.bin")


def broken_weights(repository: Path) -> None:
    (repository / "model.safetensors").write_bytes(b"\xff" * 1000)


def upwards_index(repository: Path) -> None:
    (repository / "model.safetensors").unlink()
    index = '{"weight_map": {"a": "../../../etc/passwd"}}'
    (repository / "model.safetensors.index.json").write_text(index)


def foreign_config(repository: Path) -> None:
    (repository / "config.json").write_text('{"model_type": "mystery", "auto_map": {}}')


def no_tokenizer(repository: Path) -> None:
    (repository / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (unsafe_only, "neither safetensors nor"),
        (broken_weights, "missing or damaged"),
        (upwards_index, "names files in other folders"),
        (foreign_config, r"architecture 'mystery'.*--optimum"),
        (no_tokenizer, "a file is missing"),
    ],
)
def test_a_repository_that_cannot_be_used_is_told(
    spoil: Callable[[Path], None], match: str, served: StandIn, folders: ModelFolders
) -> None:
    spoil(served.repositories[CARD.id])
    refuse(folders, served.url, match)


# Architectures of which no graph is known


@pytest.fixture
def foreign(served: StandIn) -> ModelCard:
    """A RoBERTa, which optimum knows and we do not."""
    repository = served.repositories[CARD.id]
    config = json.loads((repository / "config.json").read_text())
    torch.manual_seed(3)
    made = RobertaModel(
        RobertaConfig(
            **{"vocab_size": config["vocab_size"], "hidden_size": DIMENSION, "pad_token_id": 0},
            **{"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96},
        )
    )
    made.save_pretrained(repository)
    return replace(CARD, architecture="roberta")


def test_code_of_a_repository_never_runs_unless_allowed(
    foreign: ModelCard, served: StandIn, folders: ModelFolders, tmp_path: Path
) -> None:
    path = served.repositories[CARD.id] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "m.M"}}))
    export = Optimum(tmp_path / "environments", remote_code=False)
    with pytest.raises(ModelUnavailable, match=r"needs code.*RANKSCOPE_REMOTE_CODE"):
        prepare(foreign, folders, hub=Hub(served.url), export=export)
    assert not (tmp_path / "environments").exists()
    assert not [line for line in served.asked if line.endswith(".py")]


@pytest.mark.skipif(
    "RANKSCOPE_TEST_OPTIMUM" not in os.environ,
    reason="set RANKSCOPE_TEST_OPTIMUM to a folder for the environment, of 2 GB, to run it",
)
def test_optimum_converts_what_no_graph_is_known_of(
    foreign: ModelCard, served: StandIn, folders: ModelFolders
) -> None:
    environments = Path(os.environ["RANKSCOPE_TEST_OPTIMUM"])
    export = Optimum(environments, remote_code=False)
    prepared = prepare(foreign, folders, precision="float32", hub=Hub(served.url), export=export)
    oracle = SentenceTransformer(str(served.repositories[CARD.id]), device="cpu")
    vectors = LocalEmbedder(prepared, threads=1).embed_documents(TEXTS)

    assert prepared.origin == "exported by optimum"
    assert (vectors * oracle.encode(TEXTS)).sum(axis=1).min() >= 0.9999


def test_a_renamed_repository_is_followed(served: StandIn, folders: ModelFolders) -> None:
    served.renamed = {"acme/tiny": "acme/new-name"}
    served.repositories["acme/new-name"] = served.repositories.pop("acme/tiny")

    assert prepare(CARD, folders, hub=Hub(served.url)).revision == COMMIT


def test_a_prepared_model_needs_no_hub(served: StandIn, folders: ModelFolders) -> None:
    first = prepare(CARD, folders, hub=Hub(served.url))
    served.asked.clear()

    assert prepare(CARD, folders) == first
    assert not served.asked
    assert not list(folders.downloads.glob("hub/*")), "what it was made from is not kept"
