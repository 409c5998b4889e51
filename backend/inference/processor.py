"""What this machine is: the instructions of its processor, and the memory that is free."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

_X86_FORMS = (("avx512_vnni", "avx512_vnni"), ("avx512f", "avx512"), ("avx2", "avx2"))
"""Processor flag and the form of ONNX files that are quantized for it, the fastest first."""


@lru_cache
def int8_forms() -> tuple[str, ...]:
    """Forms of int8 files that suit this processor, the best first."""
    if platform.machine().lower() in {"arm64", "aarch64"}:
        return ("arm64",)
    try:
        flags = set(
            Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
        )
    except (OSError, IndexError):
        return ("avx2",)  # Other systems do not tell; every x86 of the last ten years has it.
    return tuple(form for flag, form in _X86_FORMS if flag in flags)


def suitable(files: Mapping[str, str], precision: str) -> str | None:
    """Of a repository's ONNX files by precision and processor, the one to use here."""
    keys = [precision]
    if precision == "int8":
        keys = [*(f"int8-{form}" for form in int8_forms()), "int8"]
    return next((files[key] for key in keys if key in files), None)


def free_memory() -> int | None:
    """Bytes that a new model may take, within the container's limit; None where nobody tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        free = values["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        return min(free, limit - used)
    except (OSError, ValueError):  # No container, or `max`: no limit.
        return free
