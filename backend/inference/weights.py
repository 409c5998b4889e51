"""Safetensors in the hub's layout, one file or shards, read one tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401  Teaches numpy bfloat16.
import numpy as np
from safetensors import SafetensorError, safe_open

from backend.types import FloatArray

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_PREFIXES = ("", "model.", "bert.", "nomic_bert.")
"""What a checkpoint of a model with a head puts before the names."""


class Weights(Mapping[str, FloatArray]):
    """Tensors of a folder by name, as float32. Files are mapped, so nothing stays in memory.

    Raises:
        ValueError: The folder holds no safetensors, or a shard is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        for name in shards(folder):
            path = folder / name
            try:
                with safe_open(path, framework="np") as tensors:
                    for key in tensors.keys():  # noqa: SIM118  It is no dict.
                        self._files[_bare(key)] = path
            except (OSError, SafetensorError) as exc:
                raise ValueError(f"{name} is missing or damaged: {exc}") from exc

    def __getitem__(self, name: str) -> FloatArray:
        path = self._files[name]
        with safe_open(path, framework="np") as tensors:
            key = next(key for key in tensors.keys() if _bare(key) == name)  # noqa: SIM118
            tensor: FloatArray = tensors.get_tensor(key).astype(np.float32)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def shards(folder: Path) -> list[str]:
    """File names of the weights in a folder, by its index if there is one.

    Raises:
        ValueError: The index is damaged, or names files elsewhere.
    """
    index = folder / INDEX
    if not index.exists():
        return [SINGLE]
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"{INDEX} is damaged") from exc
    if any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise ValueError(f"{INDEX} names files in other folders")
    return names


def _bare(name: str) -> str:
    prefix = next(p for p in reversed(_PREFIXES) if name.startswith(p))
    return name.removeprefix(prefix)
