"""Run by `wheels` in a process of its own: fetches a release's source archive, runs nothing of it.

`pip download` would run the archive's `setup.py` or build backend to learn what it depends on. The
parts of pip that find and fetch archives do not; they follow the same configuration. They are not
public, so a pip that lacks them is answered for, and a test holds them against the installed one.

Usage: `python -c <this file> NAME VERSION`, in the folder to which the archive is to be written.
"""

from __future__ import annotations

import hashlib
import sys

from pip._internal.commands import create_command
from pip._internal.commands.download import DownloadCommand
from pip._vendor.packaging.version import Version

KINDS = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz")
MAX_BYTES = 1_000_000_000


def fetch(name: str, version: str) -> str:
    """Download the archive to the current folder; returns its name, or nothing if there is none."""
    command = create_command("download")
    assert isinstance(command, DownloadCommand)
    options, _ = command.parse_args(
        ["--no-binary", ":all:", "--no-input", "--retries", "1", "--no-deps", name]
    )
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session, ignore_requires_python=True)
        links = [
            candidate.link
            for candidate in finder.find_all_candidates(name)
            if Version(str(candidate.version)) == Version(version)
        ]
        for link in sorted(links, key=lambda link: not link.filename.endswith(".tar.gz")):
            kind = next((kind for kind in KINDS if link.filename.endswith(kind)), "")
            if not kind:
                continue
            response = session.get(
                link.url_without_fragment, headers={"Accept-Encoding": "identity"}, stream=True
            )
            response.raise_for_status()
            digest = hashlib.new(link.hash_name) if link.hash_name else None
            written = 0
            with open(f"sdist{kind}", "xb") as file:
                for block in response.iter_content(1 << 20):
                    written += file.write(block)
                    if written > MAX_BYTES:
                        raise ValueError(f"{link.filename} is larger than {MAX_BYTES:,} bytes")
                    if digest is not None:
                        digest.update(block)
            if digest is not None and digest.hexdigest() != link.hash:
                raise ValueError(f"{link.filename} is not the file that the index describes")
            return f"sdist{kind}"
    return ""


if __name__ == "__main__":
    try:
        print(fetch(*sys.argv[1:]))
    except Exception as exc:
        sys.exit(f"ERROR: {exc}")
