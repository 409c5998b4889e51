"""Which files are read, from folders and wheels, and why the others are not."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from samples import installable_wheel, wheel_bytes, write_files

from backend.errors import InvalidSource, SourceUnavailable, UnsafeArchive
from backend.ingestion.collection import Manifest, open_sources
from backend.ingestion.files import Skipped, TextFile, text_files
from backend.ingestion.sources.archive import Wheel
from backend.ingestion.sources.folder import Folder
from backend.ingestion.sources.packages import Installed
from backend.ingestion.sources.parse import parse_source
from backend.ingestion.sources.source import Source
from backend.wheels import fetch_wheel


def read(source: Source) -> tuple[list[str], dict[str, int]]:
    """Paths that are read, and the reasons of those that are not."""
    skipped = Skipped()
    paths = [file.path for file in text_files(source.files(skipped), skipped)]
    return paths, dict(skipped)


def read_folder(folder: Path, files: dict[str, str | bytes]) -> tuple[list[str], dict[str, int]]:
    return read(Folder(write_files(folder, files)))


def wheel(folder: Path, files: dict[str, str | bytes]) -> Wheel:
    path = folder / "shop-1.0-py3-none-any.whl"
    path.write_bytes(wheel_bytes(files))
    return Wheel("shop==1.0", path)


# Folders


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("photo.jpg", b"\xff\xd8\xff", "not a known text format"),
        ("data.py", b"\x00\x01", "binary"),
        ("blank.py", b" \n\n", "empty"),
        ("big.py", b"x = 1\n" * 400_000, "larger than 2 MB"),
        ("bundle.js", b"x" * 6000, "minified or generated"),
        ("jquery.min.js", b"f()", "minified or generated"),
        ("uv.lock", b"a = 1", "lock file"),
        ("node_modules/a.js", b"f()", "tool or dependency folder"),
        (".git/hooks/a.py", b"f()", "tool or dependency folder"),
    ],
)
def test_a_file_that_is_left_out_is_counted_with_its_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    assert read_folder(tmp_path, {name: content, "kept.py": "x = 1"}) == (["kept.py"], {reason: 1})


def test_files_come_in_the_same_order_everywhere_folders_first(tmp_path: Path) -> None:
    names = ["z.py", "B/a.py", "a/z/deep.py", "a/b.py", "README.md"]

    paths, _ = read_folder(tmp_path, dict.fromkeys(names, "text"))
    assert paths == ["B/a.py", "a/z/deep.py", "a/b.py", "README.md", "z.py"]


def test_gitignore_decides_as_git_does(tmp_path: Path) -> None:
    """A nested file overrides the outer one, `!` takes back, and a slash anchors."""
    ignored = ["build/x.py", "a.gen.py", "sub/b.gen.py", "sub/only_here.py", "docs/private/x.md"]
    kept = ["keep.gen.py", "sub/back.gen.py", "only_here.py", "docs/public.md", "sub/build.py"]
    rules = {
        ".gitignore": "build/\n*.gen.py\n!keep.gen.py\n# comment\n/docs/private\n",
        "sub/.gitignore": "!back.gen.py\n/only_here.py\n",
    }
    paths, skipped = read_folder(tmp_path, dict.fromkeys([*ignored, *kept], "text") | rules)

    assert sorted(paths) == sorted(kept)
    assert skipped["ignored"] == 5


def test_rankscopeignore_leaves_out_what_git_keeps(tmp_path: Path) -> None:
    files = {"vendored/a.py": "a", "b.py": "b", ".rankscopeignore": "vendored/\n"}

    assert read_folder(tmp_path, files)[0] == ["b.py"]


def test_a_file_below_an_ignored_folder_cannot_be_taken_back(tmp_path: Path) -> None:
    files = {".gitignore": "out/\n!out/a.py\n", "out/a.py": "a", "b.py": "b"}

    assert read_folder(tmp_path, files)[0] == ["b.py"]


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    """Neither out of the folder, nor round in circles."""
    secret = write_files(tmp_path / "outside", {"secret.py": "password"})
    folder = write_files(tmp_path / "project", {"a.py": "a"})
    (folder / "loop").symlink_to(folder)
    (folder / "out").symlink_to(secret)
    (folder / "file.py").symlink_to(secret / "secret.py")
    (folder / "dangling.py").symlink_to(folder / "nowhere")

    assert read(Folder(folder)) == (["a.py"], {"symbolic link": 4})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")

    assert read(Folder(tmp_path)) == ([], {"not a regular file": 1})


def test_a_file_of_a_gigabyte_is_left_out_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.py").open("wb") as file:
        file.truncate(1_000_000_000)
    started = time.monotonic()

    assert read(Folder(tmp_path)) == ([], {"larger than 2 MB": 1})
    assert time.monotonic() - started < 1


def test_a_file_that_vanishes_while_it_is_read_is_counted(tmp_path: Path) -> None:
    skipped = Skipped()
    source = Folder(write_files(tmp_path, {"a.py": "a", "b.py": "b", "c.py": "c"}))
    paths = []
    for file in text_files(source.files(skipped), skipped):
        paths.append(file.path)
        (tmp_path / "b.py").unlink(missing_ok=True)

    assert (paths, skipped) == (["a.py", "c.py"], {"unreadable": 1})


def test_a_folder_that_vanishes_while_it_is_read_is_counted(tmp_path: Path) -> None:
    skipped = Skipped()
    source = Folder(write_files(tmp_path, {"a/a.py": "a", "b/b.py": "b"}))
    for _ in text_files(source.files(skipped), skipped):
        (tmp_path / "b" / "b.py").unlink()
        (tmp_path / "b").rmdir()

    assert skipped == {"unreadable": 1}


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_names_that_are_not_utf8_are_shown_with_replacement_characters(tmp_path: Path) -> None:
    """Engine, models and terminal take Unicode only; one such name must not end the run."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    write_files(folder, {"b.py": "b"})
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.py")).write_text("a")
    source = Folder(folder)

    assert read(source)[0] == ["b.py", "\ufffd.py"]
    assert source.package == "caf\ufffd"
    assert source.id.endswith("/caf\ufffd")


@pytest.mark.parametrize("spec", ["no/such/folder", "dir:no/such/folder", "\0", "a" * 5000])
def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path, spec: str) -> None:
    with pytest.raises(InvalidSource, match=r"There is no folder .* Check the path"):
        parse_source(spec, downloads=tmp_path)


@pytest.mark.parametrize("spec", ["", "  ", "dir:"])
def test_no_folder_is_not_the_current_folder(tmp_path: Path, spec: str) -> None:
    """An unset shell variable must not index whatever the shell stands in."""
    with pytest.raises(InvalidSource, match="No folder was named"):
        parse_source(spec, downloads=tmp_path)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.py": "a"})
    with pytest.raises(InvalidSource, match=r"is not a folder.*Name the folder"):
        parse_source(str(tmp_path / "a.py"), downloads=tmp_path)


def test_equal_bytes_have_equal_digests_and_others_do_not(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.py": "x = 1\n", "b.py": "x = 1\n", "c.py": "x = 2\n"})
    skipped = Skipped()
    a, b, c = text_files(Folder(tmp_path).files(skipped), skipped)

    assert isinstance(a, TextFile)
    assert a.digest == b.digest != c.digest


# Wheels


def test_a_wheel_is_read_in_place_and_only_its_readme_of_the_metadata(tmp_path: Path) -> None:
    source = wheel(
        tmp_path,
        {
            "shop/cart.py": "x = 1",
            "shop-1.0.dist-info/METADATA": "Name: shop\n\n# Shop",
            "shop-1.0.dist-info/entry_points.txt": "[console_scripts]",
        },
    )
    before = sorted(tmp_path.iterdir())

    assert read(source) == (
        ["shop/cart.py", "shop-1.0.dist-info/METADATA"],
        {"packaging metadata": 1},
    )
    assert (source.id, source.package) == ("pypi:shop==1.0", "shop")
    assert sorted(tmp_path.iterdir()) == before, "nothing is unpacked"


@pytest.mark.parametrize(
    "name", ["../evil.py", "/etc/evil.py", "a/../../evil.py", "..\\evil.py", "C:/evil.py"]
)
def test_a_wheel_that_names_a_file_outside_its_root_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeArchive, match=r"outside its root.*Do not use"):
        read(wheel(tmp_path, {name: "x", "a.py": "a"}))


def test_a_wheel_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchive, match="unpacks to 60 MB"):
        read(wheel(tmp_path, {"bomb.py": bytes(60_000_000)}))


def test_a_link_in_a_wheel_is_not_a_file(tmp_path: Path) -> None:
    source = wheel(tmp_path, {"a.py": "a"})
    link = zipfile.ZipInfo("link.py")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(source.archive, "a") as archive:
        archive.writestr(link, "/etc/passwd")

    assert read(source) == (["a.py"], {"symbolic link": 1})


def test_a_damaged_member_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    source = wheel(tmp_path, {"a.py": "text " * 500, "b.py": "b = 1"})
    data = bytearray(source.archive.read_bytes())
    data[45:60] = bytes(15)
    source.archive.write_bytes(data)

    assert read(source) == (["b.py"], {"unreadable": 1})


def test_a_member_that_unpacks_to_more_than_it_says_is_not_believed(tmp_path: Path) -> None:
    source = wheel(tmp_path, {"a.py": "x = 1\n" * 100_000})
    data = source.archive.read_bytes()
    size, forged = (600_000).to_bytes(4, "little"), (60).to_bytes(4, "little")
    assert data.count(size) == 2
    source.archive.write_bytes(data.replace(size, forged))

    assert read(source) == ([], {"unreadable": 1})


def test_a_member_named_by_a_dot_does_not_end_the_run(tmp_path: Path) -> None:
    assert read(wheel(tmp_path, {".": "x", "a.py": "a"}))[0] == ["a.py"]


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_a_truncated_wheel_says_what_to_delete(tmp_path: Path, keep: int) -> None:
    source = wheel(tmp_path, {"a.py": "a"})
    source.archive.write_bytes(source.archive.read_bytes()[:keep])

    with pytest.raises(InvalidSource, match=f"damaged.*Delete {source.archive}"):
        read(source)


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


def test_fetching_runs_nothing_of_a_package(index: Path, tmp_path: Path) -> None:
    """There is only a source distribution, whose setup.py would run if it were built."""
    ran = tmp_path / "ran"
    setup = f"open({str(ran)!r}, 'w')\nfrom setuptools import setup\nsetup(name='evil')\n".encode()
    with tarfile.open(index / "evil-1.0.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("evil-1.0/setup.py")
        member.size = len(setup)
        archive.addfile(member, io.BytesIO(setup))

    with pytest.raises(SourceUnavailable, match=r"could not fetch evil==1\.0"):
        fetch_wheel("evil==1.0", tmp_path / "downloads")
    assert not ran.exists()
    assert list((tmp_path / "downloads").iterdir()) == []


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


# Manifests


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "shop.toml"


@pytest.mark.parametrize(
    "text", [None, "not toml", "name = 'a'\ndescription = 'b'", "name = 1\nsources = 2", ""]
)
def test_a_manifest_that_cannot_be_read_says_what_it_needs(
    manifest: Path, text: str | None
) -> None:
    if text is not None:
        manifest.write_text(text)
    with pytest.raises(InvalidSource, match=r"needs name, description and a list of sources"):
        Manifest.load(manifest)


def test_a_source_that_is_not_a_list_is_refused(manifest: Path) -> None:
    manifest.write_text("name = 'a'\ndescription = 'b'\nsources = 5")
    with pytest.raises(InvalidSource):
        Manifest.load(manifest)
