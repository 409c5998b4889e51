"""A model in the hub's layout, `config.json` and safetensors, becomes ONNX files. Needs no torch.

    python -m backend.models.convert SOURCE TARGET --head hidden --positions 512 --precision float32

Run as a process of its own, whose memory, some times the model's, then goes back to the system.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from backend.inference.bert_graph import BertShape, Head, bert_model, quantize
from backend.inference.graph import GraphWriter, Storage
from backend.inference.nomic_graph import NomicShape, write_nomic
from backend.inference.qwen_graph import QwenShape, write_qwen
from backend.inference.weights import Weights
from backend.models.catalogue import Precision


def convert(
    source: Path, target: Path, *, head: Head, positions: int, precisions: Sequence[Precision]
) -> None:
    """Write a file `PRECISION.onnx` for each precision that does not lie there yet.

    Args:
        source: Folder with `config.json` and safetensors; not looked at if `target` holds a
            `float32.onnx` that gives all that is wanted.
        target: A folder that exists.
        head: What the graph ends in.
        positions: Longest input, in tokens.
        precisions: What is wanted.

    Raises:
        ValueError: The architecture, one of its options or its storage is not known here, or an
            ONNX file reads files elsewhere.
        KeyError: A tensor is missing.
    """
    for path in target.glob("*.onnx"):
        check_external_data(path)
    for storage in sorted({"q8", "q4"} & set(precisions)):
        _build(source, target / f"{storage}.onnx", head, positions, storage)  # type: ignore[arg-type]
    full, small = target / "float32.onnx", target / "int8.onnx"
    wanted = {"float32": full, "int8": small}
    if any(name in precisions and not path.exists() for name, path in wanted.items()):
        if not full.exists():
            _build(source, full, head, positions, "float32")
        if "int8" in precisions and not small.exists():
            quantize(full, small)
    if "float32" not in precisions:
        for path in target.glob("float32.onnx*"):
            path.unlink()


def check_external_data(path: Path) -> None:
    """Refuse a graph whose tensors lie anywhere but in a file beside it.

    Raises:
        ValueError: One does, or the file is no ONNX graph.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as exc:  # protobuf's errors.
        raise ValueError(f"{path.name} is not an ONNX file") from exc
    for tensor in _tensors(model.graph):
        for entry in tensor.external_data:
            if entry.key == "location" and Path(entry.value).name != entry.value:
                raise ValueError(f"{path.name} reads {entry.value!r}, outside of its folder")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)


def _build(source: Path, path: Path, head: Head, positions: int, storage: Storage) -> None:
    config = json.loads((source / "config.json").read_bytes())
    weights, kind = Weights(source), config.get("model_type")
    if kind == "bert" and storage == "float32":
        onnx.save(bert_model(weights, BertShape.from_config(config), head=head), path)
    elif kind == "nomic_bert" and head == "hidden":
        writer = GraphWriter(path, weights, storage=storage)
        write_nomic(writer, NomicShape.from_config(config), positions=positions)
    elif kind == "qwen2" and head == "hidden":
        writer = GraphWriter(path, weights, storage=storage)
        write_qwen(writer, QwenShape.from_config(config), positions=positions)
    else:
        raise ValueError(f"no graph is known of {kind!r} with the head {head!r} in {storage}")


def main(argv: Sequence[str] | None = None) -> int:
    """Convert as the arguments say; returns the exit status."""
    logging.disable(logging.WARNING)  # The quantizer advises steps that the graph has behind it.
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--head", required=True)
    parser.add_argument("--positions", type=int, required=True)
    parser.add_argument("--precision", nargs="+", required=True)
    arguments = parser.parse_args(argv)
    try:
        convert(
            arguments.source,
            arguments.target,
            head=arguments.head,
            positions=arguments.positions,
            precisions=arguments.precision,
        )
    except KeyError as exc:
        print(f"{exc.args[0]} is missing", file=sys.stderr)
        return 1
    except (ValueError, OSError, MemoryError) as exc:
        print(str(exc) or type(exc).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
