"""Turn trained weights into what ships: an int8 ONNX model, its tokenizer, and their checksums.

python -m training.export CHECKPOINT OUT
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import onnx
from safetensors.numpy import load_file

from backend.inference.bert_graph import BertShape, bert_model, quantize


def export(checkpoint: Path, target: Path) -> None:
    """Write `model.onnx`, `tokenizer.json` and `SHA256SUMS`.

    Args:
        checkpoint: Folder with `config.json`, `model.safetensors` and `tokenizer.json`.
        target: Folder to write; made if missing.
    """
    target.mkdir(parents=True, exist_ok=True)
    shape = BertShape.from_config(json.loads((checkpoint / "config.json").read_text()))
    weights = load_file(checkpoint / "model.safetensors")
    with tempfile.TemporaryDirectory() as scratch:
        full = Path(scratch) / "float32.onnx"
        onnx.save(bert_model(weights, shape, head="logit"), full)
        quantize(full, target / "model.onnx")
    shutil.copyfile(checkpoint / "tokenizer.json", target / "tokenizer.json")
    sums = [
        f"{hashlib.sha256((target / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("model.onnx", "tokenizer.json")
    ]
    (target / "SHA256SUMS").write_text("".join(sums))


def main() -> None:
    """Read the arguments and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.target)


if __name__ == "__main__":
    main()
