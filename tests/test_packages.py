"""Packages as sources: real pip and real npm, over indexes that the tests make."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from samples import installable_wheel, tar_bytes

from backend.errors import InvalidSource, SourceUnavailable, UnsafeArchive
from backend.ingestion.collection import open_sources
from backend.ingestion.files import Skipped, text_files
from backend.ingestion.sources import packages
from backend.ingestion.sources.packages import Installed
from backend.ingestion.sources.parse import parse_source
from backend.ingestion.sources.source import Source
from backend.wheels import fetch_release, fetch_wheel


def read(source: Source) -> tuple[list[str], dict[str, int]]:
    """Paths that are read, and the reasons of those that are not."""
    skipped = Skipped()
    paths = [file.path for file in text_files(source.files(skipped), skipped)]
    return paths, dict(skipped)


# Fetching with the real pip, from a folder or from nowhere


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip knows of."""
    folder = tmp_path / "index"
    folder.mkdir()
    _only(monkeypatch, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder))
    return folder


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package index that does not answer."""
    _only(monkeypatch, PIP_INDEX_URL="http://user:secret@127.0.0.1:9/simple", PIP_RETRIES="0")


def _only(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def test_a_wheel_is_fetched_once_and_then_found(index: Path, tmp_path: Path) -> None:
    found = index / "shop_kit-1.0-py3-none-any.whl"
    found.write_bytes(installable_wheel("shop_kit", "1.0", {"shop/cart.py": "x = 1"}))
    first = parse_source("pypi:Shop-Kit==1.0", downloads=tmp_path / "downloads")
    found.unlink()
    second = parse_source("pypi:Shop-Kit==1.0", downloads=tmp_path / "downloads")

    assert read(first) == read(second)
    assert "shop/cart.py" in read(first)[0]
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [found.name]


def test_a_version_that_is_spelled_otherwise_is_not_fetched_again(
    index: Path, tmp_path: Path
) -> None:
    found = index / "shop-1.0-py3-none-any.whl"
    found.write_bytes(installable_wheel("shop", "1.0", {"shop/cart.py": "x = 1"}))
    fetch_wheel("shop==1.0.0", tmp_path / "downloads")
    found.unlink()

    assert fetch_wheel("Shop==1", tmp_path / "downloads").name == found.name


def test_without_a_wheel_the_source_archive_is_read_and_nothing_of_it_is_run(
    index: Path, tmp_path: Path
) -> None:
    """`pip download` would run this setup.py to learn what the package depends on."""
    ran = tmp_path / "ran"
    hostile = f"open({str(ran)!r}, 'w')\nfrom setuptools import setup\nsetup(name='evil')\n"
    backend = "[build-system]\nrequires = []\nbuild-backend = 'own'\nbackend-path = ['.']\n"
    files = {"setup.py": hostile, "pyproject.toml": backend, "own.py": hostile, "evil/a.py": "x"}
    archive = tar_bytes({f"evil-1.0/{name}": text for name, text in files.items()})
    (index / "evil-1.0.tar.gz").write_bytes(gzip.compress(archive))
    downloads = tmp_path / "downloads"

    with pytest.raises(SourceUnavailable, match=r"could not fetch evil==1\.0"):
        fetch_wheel("evil==1.0", downloads)
    source = parse_source("pypi:evil==1.0", downloads=downloads)
    assert read(source)[0] == ["evil/a.py", "own.py", "pyproject.toml", "setup.py"]
    assert (source.id, source.package) == ("pypi:evil==1.0", "evil")
    assert not ran.exists()
    (index / "evil-1.0.tar.gz").unlink()
    assert fetch_release("evil==1.0.0", downloads).name == "evil-1.sdist.tar.gz"


def test_a_source_archive_that_the_index_describes_otherwise_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a simple index that states a digest, as PyPI does."""
    root = tmp_path / "simple"
    (root / "evil").mkdir(parents=True)
    (root / "evil" / "evil-1.0.tar.gz").write_bytes(gzip.compress(tar_bytes({"a.py": "x"})))
    link = '<!doctype html><a href="evil-1.0.tar.gz#sha256={}">evil-1.0.tar.gz</a>'
    (root / "evil" / "index.html").write_text(link.format("0" * 64))
    _only(monkeypatch, PIP_INDEX_URL=root.as_uri())

    with pytest.raises(SourceUnavailable, match="not the file that the index describes"):
        fetch_release("evil==1.0", tmp_path / "downloads")
    assert list((tmp_path / "downloads").iterdir()) == []
    digest = hashlib.sha256((root / "evil" / "evil-1.0.tar.gz").read_bytes()).hexdigest()
    (root / "evil" / "index.html").write_text(link.format(digest))
    assert fetch_release("evil==1.0", tmp_path / "downloads").exists()


def test_a_package_of_the_current_folder_is_not_taken_for_pip(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m pip` looks in the folder it runs in first; it may be anyone's checkout."""
    ran = tmp_path / "ran"
    (tmp_path / "pip").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / "pip" / f"{name}.py").write_text(f"open({str(ran)!r}, 'w')")
    (index / "shop-1.0-py3-none-any.whl").write_bytes(installable_wheel("shop", "1.0", {}))
    monkeypatch.chdir(tmp_path)
    fetch_wheel("shop==1.0", tmp_path / "downloads")

    assert not ran.exists()


def test_a_wheel_with_another_digest_is_not_kept(index: Path, tmp_path: Path) -> None:
    (index / "shop-1.0-py3-none-any.whl").write_bytes(installable_wheel("shop", "1.0", {}))

    with pytest.raises(SourceUnavailable, match="served a different file"):
        fetch_wheel("shop==1.0", tmp_path / "downloads", sha256="0" * 64)
    assert list((tmp_path / "downloads").iterdir()) == []


@pytest.mark.parametrize(
    "requirement",
    [
        *("shop", "shop>=1", "shop==1.*", "shop == 1.0", "", "==1.0", "shop==1.0; os_name=='nt'"),
        *("--index-url=http://evil==1", "-r==1", "git+https://evil==1", "../shop==1.0", "a==1\nb"),
        *("shop==1.0 --no-binary=:all:", "shop[extra]==1.0", "file:///etc==1"),
    ],
)
def test_nothing_but_a_pinned_release_reaches_pip(tmp_path: Path, requirement: str) -> None:
    with pytest.raises(InvalidSource, match=r"Name a pinned release"):
        parse_source(f"pypi:{requirement}", downloads=tmp_path)


@pytest.mark.usefixtures("no_index")
def test_an_index_that_does_not_answer_is_told_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"Check the network and pip's") as error:
        fetch_wheel("shop==1.0", tmp_path)
    assert "secret" not in str(error.value)


@pytest.mark.usefixtures("no_index")
def test_what_cannot_be_fetched_is_read_from_where_it_is_installed_and_says_so(
    tmp_path: Path,
) -> None:
    fetched: list[str] = []
    specs = ["pypi:pluggy==99.0", "pypi:not-installed-anywhere==1.0"]
    replaced, missing = open_sources(specs, downloads=tmp_path, on_fetched=fetched.append)

    assert replaced.note.startswith("pypi:pluggy==99.0 could not be fetched; this is the installed")
    assert "pluggy/_manager.py" in read(replaced.source)[0]
    assert "could not fetch not-installed-anywhere==1.0" in missing.note
    assert read(missing.source) == ([], {})
    assert sorted(fetched) == sorted(specs)


@pytest.mark.usefixtures("no_index")
def test_a_collection_of_which_nothing_can_be_had_is_refused(tmp_path: Path) -> None:
    specs = ["pypi:not-installed-anywhere==1.0"]
    with pytest.raises(SourceUnavailable):
        open_sources(specs, downloads=tmp_path, on_fetched=lambda spec: None)


def test_an_installed_distribution_is_read_without_files_outside_of_it() -> None:
    source = Installed("pytest")
    paths, _ = read(source)

    assert source.id == f"installed:pytest=={pytest.__version__}"
    assert "_pytest/fixtures.py" in paths
    assert not any(".." in path for path in paths)


def test_a_distribution_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="pip install not-installed-anywhere"):
        assert parse_source("installed:not-installed-anywhere", downloads=tmp_path).id


# npm, over a registry on a socket

REGISTRY = "npm_config_registry"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A registry of archives by `name@version`; npm knows of no other."""
    if shutil.which("npm") is None:
        assert os.environ.get("CI") != "true", "CI needs npm"
        pytest.skip("npm is not installed")
    releases: dict[str, bytes] = {}

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path).strip("/")
            if path.startswith("files/"):
                return self._answer(releases[path.removeprefix("files/")])
            versions = {}
            for release, archive in releases.items():
                name, _, version = release.rpartition("@")
                if name == path:
                    dist = {
                        "tarball": f"http://{self.headers['Host']}/files/{quote(release)}",
                        "shasum": hashlib.sha1(archive).hexdigest(),
                    }
                    versions[version] = {"name": name, "version": version, "dist": dist}
            if not versions:
                return self.send_error(404)
            latest = {"latest": max(versions)}
            self._answer(json.dumps({"name": path, "versions": versions, "dist-tags": latest}))

        def _answer(self, content: str | bytes) -> None:
            data = content.encode() if isinstance(content, str) else content
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _npm(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_port}/")
    yield releases
    server.shutdown()
    server.server_close()


def _npm(monkeypatch: pytest.MonkeyPatch, folder: Path, registry: str) -> None:
    for name in [name for name in os.environ if name.lower().startswith("npm_config_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(REGISTRY, registry)
    monkeypatch.setenv("npm_config_cache", str(folder / "npm-cache"))
    monkeypatch.setenv("npm_config_userconfig", str(folder / "npmrc"))


def npm_package(files: dict[str, str | bytes]) -> bytes:
    return gzip.compress(tar_bytes({f"package/{name}": text for name, text in files.items()}))


def test_a_release_of_npm_is_fetched_once_and_its_scripts_are_not_run(
    registry: dict[str, bytes], tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    hooks = ("preinstall", "install", "postinstall", "prepare", "prepack", "postpack")
    scripts = dict.fromkeys(hooks, f"touch {ran}")
    registry["@shop/cart@1.2.3"] = npm_package(
        {
            "package.json": json.dumps(
                {"name": "@shop/cart", "version": "1.2.3", "scripts": scripts}
            ),
            "lib/cart.js": "export const total = 1",
            ".gitignore": "lib/",
        }
    )
    source = parse_source("npm:@shop/cart@1.2.3", downloads=tmp_path / "downloads")
    registry.clear()
    again = parse_source("npm:@shop/cart@1.2.3", downloads=tmp_path / "downloads")

    assert "lib/cart.js" in read(source)[0], "built files were published to be used"
    assert (source.id, source.package) == ("npm:@shop/cart@1.2.3", "@shop/cart")
    assert read(again) == read(source)
    assert not ran.exists()


def test_an_npm_release_that_does_not_exist_says_so(
    registry: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(SourceUnavailable, match=r"could not fetch shop@1\.0\.0: .*404.*Check the"):
        parse_source("npm:shop@1.0.0", downloads=tmp_path / "downloads")
    assert list((tmp_path / "downloads").glob("**/*.tgz")) == []


def test_an_npm_archive_that_names_a_file_outside_is_refused(
    registry: dict[str, bytes], tmp_path: Path
) -> None:
    registry["shop@1.0.0"] = npm_package({"../../evil.js": "f()", "package.json": "{}"})
    with pytest.raises(UnsafeArchive):
        read(parse_source("npm:shop@1.0.0", downloads=tmp_path / "downloads"))


def test_a_registry_that_does_not_answer_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _npm(monkeypatch, tmp_path, "http://user:secret@127.0.0.1:9/")
    with pytest.raises(SourceUnavailable, match="could not fetch shop") as error:
        parse_source("npm:shop@1.0.0", downloads=tmp_path / "downloads")
    assert "secret" not in str(error.value)


def test_the_current_folder_has_no_say_in_what_npm_fetches(
    registry: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout's own `.npmrc` may name any registry, and scripts of its own."""
    registry["shop@1.0.0"] = npm_package({"a.js": "f()", "package.json": "{}"})
    (tmp_path / "npmrc").write_text(f"registry={os.environ[REGISTRY]}\n")
    monkeypatch.delenv(REGISTRY)
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / ".npmrc").write_text("registry=http://127.0.0.1:9/\n")
    (tmp_path / "checkout" / "package.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "checkout")
    downloads = tmp_path / "checkout" / "data"

    assert "a.js" in read(parse_source("npm:shop@1.0.0", downloads=downloads))[0]


@pytest.mark.parametrize(
    "release",
    [
        *("shop", "shop@latest", "shop@^1.0.0", "shop@1", "@shop@1.0.0", "../shop@1.0.0", ""),
        *("--registry=x@1.0.0", "-g@1.0.0", "git+https://host/x@1.0.0", "a@npm:b@1.0.0"),
        *("file:x@1.0.0", "@a/b/c@1.0.0", "shop@1.0.0 x", "shop@1.0.0\n", "https://h/x@1.0.0"),
    ],
)
def test_nothing_but_a_pinned_release_reaches_npm(
    tmp_path: Path, release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_npm_pack", pytest.fail)
    with pytest.raises(InvalidSource, match="Name a pinned release, such as npm:@"):
        parse_source(f"npm:{release}", downloads=tmp_path)


def test_without_npm_the_fix_is_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SourceUnavailable, match=r"Install Node\.js"):
        parse_source("npm:shop@1.0.0", downloads=tmp_path)
