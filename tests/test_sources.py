"""Which files are read, from folders and wheels, and why the others are not."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from samples import write_files

from backend.errors import InvalidSource
from backend.ingestion.collection import Manifest, open_sources
from backend.ingestion.files import Skipped, TextFile, text_files
from backend.ingestion.sources.folder import Folder
from backend.ingestion.sources.parse import parse_source
from backend.ingestion.sources.source import Source


def read(source: Source) -> tuple[list[str], dict[str, int]]:
    """Paths that are read, and the reasons of those that are not."""
    skipped = Skipped()
    paths = [file.path for file in text_files(source.files(skipped), skipped)]
    return paths, dict(skipped)


def read_folder(folder: Path, files: dict[str, str | bytes]) -> tuple[list[str], dict[str, int]]:
    return read(Folder(write_files(folder, files)))


# Folders


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("photo.jpg", b"\xff\xd8\xff", "not a known text format"),
        ("data.py", b"\x00\x01", "binary"),
        ("blank.py", b" \n\n", "empty"),
        ("big.py", b"x = 1\n" * 400_000, "larger than 2 MB"),
        ("bundle.js", b"x" * 6000, "minified"),
        ("jquery.min.js", b"f()", "minified"),
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


def test_lines_of_an_ignore_file_that_are_no_patterns_say_nothing(tmp_path: Path) -> None:
    rules = {".gitignore": "*.gen.py\n[z-a]\na\\\n!\nbuild/\n"}
    files = dict.fromkeys(["a.py", "b.gen.py", "build/c.py"], "x = 1")

    assert read_folder(tmp_path, files | rules)[0] == ["a.py"]


@pytest.mark.parametrize(
    "rules",
    [
        "\ufeff*.gen.py\r\n",
        "v[[:digit:]]x.gen.py\n[[]a.py\n",
        "a" * 100_000 + "\n*.gen.py\n",
        "\n".join(f"*/name{i}*.txt" for i in range(6_000)) + "\n*.gen.py\n",
    ],
    ids=["byte order mark", "named characters", "a long line", "many lines"],
)
def test_ignore_files_of_any_kind_decide_as_git_does(tmp_path: Path, rules: str) -> None:
    paths, skipped = read_folder(tmp_path, {".gitignore": rules, "v1x.gen.py": "g", "a.py": "a"})

    assert paths == ["a.py"]
    assert skipped["ignored"] == 1


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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sources = 5", "sources is not a list"),
        ("sources = []", "sources is not a list that names any"),
        ("sources = ['a', 5]", "source 2 is neither a string nor a table with a source"),
        ("sources = [{ text = 'body' }]", "source 1 is neither"),
        ("sources = [{ source = 'jsonl:a', text = 5 }]", "source 1 has an option that is not a"),
        ("sources = [{ source = 'dir:a', text = 'b' }]", "source 1 takes no options"),
        ("sources = ['a']\nsource = 'b'", "'source' is none of its keys"),
        (f"sources = {'[' * 5000}", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_named(manifest: Path, text: str, told: str) -> None:
    manifest.write_text(f"name = 'a'\ndescription = 'b'\n{text}")
    with pytest.raises(InvalidSource) as error:
        Manifest.load(manifest)
    assert told in str(error.value)


def test_paths_of_a_manifest_begin_at_its_folder_and_options_belong_to_their_source(
    manifest: Path,
) -> None:
    manifest.write_text(
        """
        name = "shop"
        description = "A shop."
        sources = [
            "dir:src",
            "../lib",
            "/abs",
            "git:https://github.com/me/shop@v1",
            "pypi:shop==1.0",
            { source = "jsonl:docs.jsonl", text = "body", link = "https://host/{path}" },
        ]
        """
    )
    here = manifest.parent
    write_files(here, {"docs.jsonl": '{"body": "x"}'})
    sources = Manifest.load(manifest).sources

    assert sources[:5] == (
        f"dir:{here}/src",
        f"dir:{here}/../lib",
        "dir:/abs",
        "git:https://github.com/me/shop@v1",
        "pypi:shop==1.0",
    )
    documents = parse_source(sources[5], downloads=here)
    assert documents.origin({}).link == "https://host/{path}"
    assert next(documents.files(Skipped())).documents[0].text == "x"


def test_a_source_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.py": "a"})
    specs = [str(tmp_path), f"dir:{tmp_path}", f"{tmp_path}/."]
    opened = open_sources(specs, downloads=tmp_path, on_fetched=lambda spec: None)

    assert [one.source.id for one in opened] == [f"dir:{tmp_path}"]


def test_folders_nested_deeper_than_python_recurses_are_read(tmp_path: Path) -> None:
    folders = [tmp_path]
    for _ in range(1200):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    (folders[-1] / "a.py").write_text("a")
    found = read(Folder(tmp_path))
    (folders[-1] / "a.py").unlink()
    for folder in reversed(folders[1:]):
        folder.rmdir()

    assert found == (["d/" * 1200 + "a.py"], {})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_an_ignore_file_too_large_to_be_one_says_nothing(tmp_path: Path) -> None:
    rules = "*.py\n" + "# padding\n" * 300_000

    assert read_folder(tmp_path, {".gitignore": rules, "a.py": "a"})[0] == ["a.py"]


def test_an_ignore_file_that_is_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".gitignore")

    assert read(Folder(write_files(tmp_path, {"a.py": "a"})))[0] == ["a.py"]


def test_the_first_paths_that_are_left_out_are_named(tmp_path: Path) -> None:
    files = dict.fromkeys([f"{i:02d}.bin" for i in range(20)], "x")
    skipped = Skipped()
    list(text_files(Folder(write_files(tmp_path, files)).files(skipped), skipped))

    (reason,) = skipped
    assert skipped[reason] == 20
    assert skipped.examples == {reason: [f"{i:02d}.bin" for i in range(5)]}
