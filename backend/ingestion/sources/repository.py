"""One revision of a git repository: fetched into a bare store, and read without a checkout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

from filelock import FileLock

from backend.errors import SourceUnavailable
from backend.ingestion.files import Skipped, SourceFile, decode
from backend.ingestion.skipping import MAX_FILE_BYTES
from backend.ingestion.sources import git
from backend.ingestion.sources.ignoring import OWN_IGNORE, select
from backend.ingestion.sources.origin import Origin, permalinks
from backend.ingestion.sources.source import readable

_ADDRESS = re.compile(
    r"(?P<url>(?P<scheme>https|http|ssh|file)://(?:(?P<user>[^@/\s]*)@)?"
    r"(?P<host>(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::\d+)?|)"
    r"(?P<path>/[^@?#\s\x00-\x1f]+))(?:@(?P<revision>.*))?",
    re.DOTALL,
)
_REVISION = re.compile(
    r"(?![-/.])(?!.*(?:\.\.|@\{|//|\.lock(?:/|$)))[^\x00-\x20\x7f~^:?*\[\\]{1,250}"
)
"""What git allows as a branch's name, and less."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Repository:
    """A revision that has been fetched."""

    url: str
    revision: str
    """As it was asked for; empty is what the server's HEAD names."""
    store: Path
    commit: str

    @property
    def id(self) -> str:
        return f"git:{self.url}" + (f"@{self.revision}" if self.revision else "")

    @property
    def package(self) -> str:
        return readable(self.url.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git"))

    def origin(self, digests: Mapping[str, str]) -> Origin:
        return Origin(revision=self.commit, link=permalinks(self.url, self.commit))

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        """Read from the object store; each file while the iterator stands at it.

        Raises:
            SourceUnavailable: The store is damaged.
        """
        blobs = self._blobs(skipped)
        sizes = self._sizes(set(blobs.values()))
        with _Objects(self.store) as objects:

            def text(path: str) -> str:
                small = sizes.get(blobs[path], MAX_FILE_BYTES) < MAX_FILE_BYTES
                return (decode(objects.read(blobs[path])) or "") if small else ""

            # What is tracked is not ignored, whatever .gitignore says.
            for path in select(blobs, ignore_files=(OWN_IGNORE,), read=text, skipped=skipped):
                sha = blobs[path]
                size = sizes.get(sha)
                if size is None:  # The server was asked to keep it.
                    skipped.add(f"larger than {MAX_FILE_BYTES // 1_000_000} MB", path)
                elif size < 1024 and objects.read(sha).startswith(_LFS):
                    skipped.add("kept in Git LFS", path)
                else:
                    yield SourceFile(path, size, partial(objects.read, sha), stamp=sha)

    def _blobs(self, skipped: Skipped) -> dict[str, str]:
        """Path to object name of every regular file."""
        blobs = {}
        listed = git.read(self.store, "ls-tree", "-r", "-z", "--full-tree", self.commit)
        for entry in listed.split(b"\0")[:-1]:
            facts, _, name = entry.partition(b"\t")
            mode, _, sha = facts.split(b" ")
            path = readable(name.decode("utf-8", "surrogateescape"))
            if mode == b"160000":
                skipped.add("submodule", path)
            elif mode == b"120000":
                skipped.add("symbolic link", path)
            else:
                blobs[path] = sha.decode()
        return blobs

    def _sizes(self, blobs: set[str]) -> dict[str, int]:
        """Bytes of the objects that are in the store."""
        listed = ("rev-list", "--objects", "--no-walk", "--missing=print", self.commit)
        lines = git.read(self.store, *listed).split(b"\n")
        here = blobs - {line[1:].decode() for line in lines if line.startswith(b"?")}
        asked = "".join(f"{sha}\n" for sha in sorted(here)).encode()
        form = "--batch-check=%(objectname) %(objectsize)"
        found = git.read(self.store, "cat-file", form, given=asked).decode().split("\n")[:-1]
        return {sha: int(size) for sha, _, size in (line.partition(" ") for line in found)}


class _Objects:
    """Reads objects of a store, one after the other, from one process."""

    def __init__(self, store: Path) -> None:
        self._process = git.start(store, "cat-file", "--batch")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> _Objects:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def read(self, sha: str) -> bytes:
        """The content of an object.

        Raises:
            OSError: It is missing or damaged.
        """
        self._asked.write(f"{sha}\n".encode())
        self._asked.flush()
        head = self._answers.readline().split()
        if len(head) != 3:
            raise OSError(f"{sha} cannot be read")
        size = int(head[2])
        data = self._answers.read(size + 1)
        if len(data) <= size:
            raise OSError(f"{sha} cannot be read")
        return data[:size]


def parse_address(address: str) -> tuple[str, str]:
    """Split `https://host/repo@revision` into URL and revision, which may be left out.

    Raises:
        ValueError: It is anything else, or holds a secret; nothing else is ever handed to git.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or (match["scheme"] != "file" and not match["host"]):
        raise ValueError("a repository is https://host/repository, with @revision if one is wanted")
    user, revision = match["user"], match["revision"]
    if user is not None and (match["scheme"] != "ssh" or not re.fullmatch(r"\w[\w.-]*", user)):
        raise ValueError("a URL must not hold a password or token; git's credential helper may")
    if revision is not None and not _REVISION.fullmatch(revision):
        raise ValueError(f"{readable(revision)[:100]!r} is not a branch, tag or commit")
    return match["url"], revision or ""


def fetch(address: str, downloads: Path) -> Repository:
    """Bring a revision into a bare store below `downloads`, or up to date there.

    Of that revision alone, and of its files what may be indexed and is not there yet.

    Raises:
        ValueError: The address is malformed.
        SourceUnavailable: git is missing, or the server does not give the revision.
    """
    url, revision, store, ref = _kept(address, downloads)
    store.mkdir(parents=True, exist_ok=True)
    with FileLock(store.with_name(f"{store.name}.lock")):
        git.read(store, "init", "--bare", "--quiet", "--template=")
        for left in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*"):
            for path in store.glob(left):  # Of a run that was killed: nobody else is here.
                path.unlink()
        if not (_COMMIT.fullmatch(revision) and _commit(store, ref) == revision):
            refspec = f"+{revision or 'HEAD'}:{ref}"
            limit = f"--filter=blob:limit={MAX_FILE_BYTES + 1}"
            try:
                git.fetch(store, url, refspec, ["--depth=1", limit])
            except SourceUnavailable as exc:
                if "dumb http" not in exc.message:
                    raise
                git.fetch(store, url, refspec, [])  # A plain file server has only the whole.
        commit = _commit(store, ref)
    if not commit:
        raise SourceUnavailable(
            f"{readable(revision)} of {url} is not a commit.", fix="Name a branch, tag or commit."
        )
    return Repository(url, revision, store, commit)


def fetched_before(address: str, downloads: Path) -> Repository | None:
    """What an earlier fetch of the same revision brought, if there was one."""
    url, revision, store, ref = _kept(address, downloads)
    commit = _commit(store, ref) if store.exists() else ""
    return Repository(url, revision, store, commit) if commit else None


def _kept(address: str, downloads: Path) -> tuple[str, str, Path, str]:
    """URL and revision of an address, and the store and ref that they are kept under."""
    url, revision = parse_address(address)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", url.rstrip("/").rsplit("/", 1)[-1])[:60]
    store = downloads / "git" / f"{name}-{blake2b(url.encode(), digest_size=6).hexdigest()}"
    ref = f"refs/rankscope/{blake2b(revision.encode(), digest_size=8).hexdigest()}"
    return url, revision, store, ref


def _commit(store: Path, ref: str) -> str:
    """The full name of the commit that a ref leads to; empty if there is none."""
    try:
        found = git.read(store, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    except SourceUnavailable:
        return ""
    return found.decode().strip()
