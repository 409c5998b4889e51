"""Conversion by optimum, for architectures whose graph is not built here.

It needs torch and versions of libraries that Gradio does not work with, so it has an environment of
its own, made the first time it is asked for and thrown away with its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from backend.errors import ModelUnavailable
from backend.models.catalogue import ModelCard, Precision

REQUIREMENTS = Path(__file__).parents[2] / "requirements-models.txt"
INSTALL_SECONDS, EXPORT_SECONDS = 3600, 3600


class Optimum:
    """Exports models with optimum.

    Args:
        folder: Where its environment lies; made if missing.
        remote_code: Whether code of a model's repository may run; without it such a model is
            refused.
    """

    def __init__(self, folder: Path, *, remote_code: bool) -> None:
        digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
        self._folder = folder / f"optimum-{digest}"
        self.remote_code = remote_code

    def __call__(
        self, card: ModelCard, source: Path, target: Path, precisions: Sequence[Precision]
    ) -> str:
        """Write `float32.onnx` of the model in `source` to `target`; returns its origin.

        Raises:
            ModelUnavailable: The environment cannot be made, the model needs code that may not
                run, or optimum cannot convert it.
        """
        self._check_code(card, source)
        python = self._environment()
        out = target / "exported"
        task = "feature-extraction" if card.kind == "embedding" else "text-classification"
        command = [str(python), "-m", "optimum.exporters.onnx", "--model", str(source)]
        command += ["--task", task, "--library", "transformers", "--no-post-process"]
        command += ["--trust-remote-code"] if self.remote_code else []
        logger.info("Exporting {model} with optimum", model=card.id)
        _run([*command, str(out)], EXPORT_SECONDS, f"optimum could not convert {card.id}")
        for path in out.iterdir():
            if path.name == "model.onnx":
                os.replace(path, target / "float32.onnx")
            elif path.name.startswith("model.onnx"):  # Weights that do not fit into the graph.
                os.replace(path, target / path.name)
        shutil.rmtree(out)
        return "exported by optimum" + (", with code of its repository" if self.remote_code else "")

    def _check_code(self, card: ModelCard, source: Path) -> None:
        config = json.loads((source / "config.json").read_bytes())
        if "auto_map" in config and not self.remote_code:
            raise ModelUnavailable(
                f"{card.id} needs code of its repository to be run.",
                fix="Read that code; if you trust it, set RANKSCOPE_REMOTE_CODE=true.",
            )

    def _environment(self) -> Path:
        """The environment's interpreter; the environment appears whole or not at all."""
        python = self._folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        marker = self._folder / "complete"
        if marker.exists():
            return python
        shutil.rmtree(self._folder, ignore_errors=True)
        logger.warning("Making an environment with torch and optimum in {f}", f=self._folder)
        try:
            venv.create(self._folder, with_pip=True, symlinks=os.name != "nt")
        except (OSError, subprocess.CalledProcessError) as exc:
            raise ModelUnavailable(
                f"The environment {self._folder} cannot be made with {sys.executable}: {exc}.",
                fix="Install Python's venv module, and check the free disk space.",
            ) from exc
        install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        failed = "The environment for optimum could not be filled"
        _run([*install, "--quiet", "-r", str(REQUIREMENTS)], INSTALL_SECONDS, failed)
        marker.touch()
        return python


def _run(command: Sequence[str], seconds: float, failed: str) -> None:
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        reason = result.stderr.strip().rsplit("\n", 1)[-1][-300:]
        failure = result.returncode != 0
    except subprocess.TimeoutExpired:
        reason, failure = f"it took longer than {seconds:g} s", True
    if failure:
        raise ModelUnavailable(
            f"{failed}: {reason or 'it was killed'}.",
            fix="Check the network, the free memory and the disk; then try again.",
        )
