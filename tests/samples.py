"""Small real values that several topics need."""

from __future__ import annotations

import io
import tarfile
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from backend.types import Chunk, ChunkId

_CHUNK = Chunk(
    id=ChunkId(""),
    source="dir:/home/me/project",
    path="src/client.py",
    start_line=3,
    end_line=9,
    language="python",
    symbol="Client.upsert",
    kind="method",
    text="def upsert(self, points): ...",
    package="project",
)


def chunk(number: int = 0, **fields: object) -> Chunk:
    """A chunk with the id of that number."""
    return replace(_CHUNK, id=ChunkId(str(uuid.UUID(int=number))), **fields)


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files by their path below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def wheel_bytes(files: Mapping[str, str | bytes]) -> bytes:
    """An archive with these members, whatever their names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tar_bytes(files: Mapping[str, str | bytes]) -> bytes:
    """A tar archive with these members, whatever their names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def installable_wheel(name: str, version: str, files: Mapping[str, str | bytes]) -> bytes:
    """A wheel that pip accepts."""
    info = f"{name}-{version}.dist-info"
    return wheel_bytes(
        {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n"
            f"# {name}\n\nA package about {name}.\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": "",
        }
    )
