"""A model in the hub's layout, `config.json` and safetensors, becomes ONNX files. Needs no torch.

    python -m backend.models.convert SOURCE TARGET --head hidden --precision float32 int8

Run as a process of its own, whose memory, some times the model's, then goes back to the system.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import onnx
from safetensors.numpy import load_file

from backend.inference.bert_graph import BertShape, Head, bert_model, quantize
from backend.models.catalogue import Precision

ARCHITECTURES = ("bert",)
"""`model_type`s whose graph is built here."""


def convert(source: Path, target: Path, *, head: Head, precisions: Sequence[Precision]) -> None:
    """Write a file `PRECISION.onnx` for each precision to a folder that exists.

    Raises:
        ValueError: The architecture or one of its options is not known here.
        KeyError: A tensor is missing.
    """
    config = json.loads((source / "config.json").read_bytes())
    weights = load_file(source / "model.safetensors")
    onnx.save(
        bert_model(weights, BertShape.from_config(config), head=head), target / "float32.onnx"
    )
    if "int8" in precisions:
        quantize(target / "float32.onnx", target / "int8.onnx")
    if "float32" not in precisions:
        (target / "float32.onnx").unlink()


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # The quantizer advises steps that the graph has behind it.
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--head", required=True)
    parser.add_argument("--precision", nargs="+", required=True)
    arguments = parser.parse_args()
    convert(
        arguments.source,
        arguments.target,
        head=arguments.head,
        precisions=arguments.precision,
    )
