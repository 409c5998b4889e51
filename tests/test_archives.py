"""Archives are read in place, whatever is in them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import tar_bytes, wheel_bytes

from backend.errors import InvalidSource, UnsafeArchive
from backend.ingestion.files import Skipped, text_files
from backend.ingestion.sources import archive
from backend.ingestion.sources.archive import Archive
from backend.ingestion.sources.parse import parse_source
from backend.ingestion.sources.source import Source

Files = dict[str, str | bytes]
MAKERS: dict[str, Callable[[Files], bytes]] = {
    "zip": wheel_bytes,
    "tar": tar_bytes,
    "tar.gz": lambda files: gzip.compress(tar_bytes(files)),
    "tar.bz2": lambda files: bz2.compress(tar_bytes(files)),
    "tar.xz": lambda files: lzma.compress(tar_bytes(files)),
}


def read(source: Source) -> tuple[list[str], dict[str, int]]:
    """Paths that are read, and the reasons of those that are not."""
    skipped = Skipped()
    paths = [file.path for file in text_files(source.files(skipped), skipped)]
    return paths, dict(skipped)


def wheel(folder: Path, files: Files) -> Archive:
    path = folder / "shop-1.0-py3-none-any.whl"
    path.write_bytes(wheel_bytes(files))
    return Archive(path, "pypi:shop==1.0", "shop", remedy=f"Delete {path}.")


@pytest.fixture(params=MAKERS)
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Files], Source]:
    """Make an archive of each kind and open it by its path."""

    def make(files: Files) -> Source:
        path = tmp_path / f"shop.{request.param}"
        path.write_bytes(MAKERS[request.param](files))
        return parse_source(str(path), downloads=tmp_path)

    return make


# Every kind


def test_an_archive_reads_as_the_folder_it_was_made_of(
    pack: Callable[[Files], Source], tmp_path: Path
) -> None:
    source = pack(
        {
            "shop-main/z.py": "z = 1",
            "shop-main/src/a.py": "a = 1",
            "shop-main/.gitignore": "built/\n",
            "shop-main/built/b.py": "b = 1",
            "shop-main/node_modules/c/d.js": "f()",
            "shop-main/node_modules/c/e.js": "f()",
        }
    )
    paths, skipped = read(source)

    assert paths == ["src/a.py", "z.py"]
    assert (skipped["ignored"], skipped["tool or dependency folder"]) == (1, 1)
    assert source.package == "shop"
    assert source.id.endswith(next(tmp_path.glob("shop.*")).as_posix())
    assert len(list(tmp_path.iterdir())) == 1, "nothing is unpacked beside it"


@pytest.mark.parametrize(
    "name", ["../evil.py", "/etc/evil.py", "a/../../evil.py", "..\\evil.py", "C:/evil.py"]
)
def test_an_archive_that_names_a_file_outside_its_root_is_refused(
    pack: Callable[[Files], Source], name: str
) -> None:
    with pytest.raises(UnsafeArchive, match=r"outside its root.*Do not use"):
        read(pack({name: "x", "a.py": "a"}))


def test_a_colon_in_a_name_and_what_macos_adds_are_no_reason_to_refuse_an_archive(
    pack: Callable[[Files], Source],
) -> None:
    source = pack({"shop/to do: sell.md": "x", "shop/a.py": "x", "__MACOSX/shop/._a.py": "\0"})
    paths, skipped = read(source)

    assert paths == ["a.py", "to do: sell.md"]
    assert skipped == {"tool or dependency folder": 1}
    assert read(pack({"note: a.md": "x", "b.py": "x"}))[0] == ["b.py", "note: a.md"]


def test_an_ignore_file_too_large_to_be_one_says_nothing(pack: Callable[[Files], Source]) -> None:
    assert read(pack({".gitignore": "*.py\n" + "# p\n" * 600_000, "a.py": "a"}))[0] == ["a.py"]


def test_an_archive_that_unpacks_to_too_much_is_refused(
    pack: Callable[[Files], Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_ARCHIVE_BYTES", 20_000_000)
    with pytest.raises(UnsafeArchive, match=r"unpacks to \d+ MB or more"):
        read(pack({"bomb.py": bytes(60_000_000)}))


def test_an_archive_of_too_many_files_is_refused(
    pack: Callable[[Files], Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_ARCHIVE_FILES", 10)
    with pytest.raises(UnsafeArchive, match=r"more than 10 files.*Unpack it"):
        read(pack({f"{i}.py": "x" for i in range(11)}))


def test_the_last_of_two_files_of_one_name_counts(pack: Callable[[Files], Source]) -> None:
    """Two tools that unpack such an archive must not see different files."""
    source = pack({"a.py": "old", "./a.py": "new", "b.py": "b"})
    skipped = Skipped()
    texts = {file.path: file.text for file in text_files(source.files(skipped), skipped)}

    assert texts == {"a.py": "new", "b.py": "b"}


def test_names_that_no_terminal_should_see_are_read_under_others(
    pack: Callable[[Files], Source],
) -> None:
    assert read(pack({"\x1b[31mred\n.py": "x", ".": "x"}))[0] == ["\ufffd[31mred\ufffd.py"]


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_archive_is_damaged(tmp_path: Path, keep: float) -> None:
    whole = gzip.compress(tar_bytes({f"{i}.py": os.urandom(5000).hex() for i in range(9)}))
    (tmp_path / "a.tar.gz").write_bytes(whole[: int(len(whole) * keep)])

    with pytest.raises(InvalidSource, match=r"a\.tar\.gz is damaged, or not a zip or tar"):
        read(parse_source(str(tmp_path / "a.tar.gz"), downloads=tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\x03\x04 no", b"\x1f\x8b no", b"just text" * 99]
)
def test_what_is_no_archive_is_told_from_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InvalidSource, match="is damaged, or not a zip or tar archive"):
        read(parse_source(f"zip:{tmp_path}/a.zip", downloads=tmp_path))


@pytest.mark.parametrize("spec", ["zip:none.zip", "tar:none.tar", "tar:/", "zip:"])
def test_an_archive_that_does_not_exist_is_refused(tmp_path: Path, spec: str) -> None:
    with pytest.raises(InvalidSource, match=r"There is no archive|is not a file"):
        parse_source(spec, downloads=tmp_path)


# Tar


def tar_with(*members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for member in members:
            made.addfile(member, io.BytesIO(bytes(member.size)))
    return buffer.getvalue()


def test_links_devices_and_pipes_in_a_tar_are_counted_and_not_read(tmp_path: Path) -> None:
    kinds = {
        "link.py": tarfile.SYMTYPE,
        "hard.py": tarfile.LNKTYPE,
        "disk.py": tarfile.BLKTYPE,
        "tty.py": tarfile.CHRTYPE,
        "pipe.py": tarfile.FIFOTYPE,
    }
    members = []
    for name, kind in kinds.items():
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        members.append(member)
    (tmp_path / "a.tar").write_bytes(tar_with(*members))

    assert read(parse_source(f"tar:{tmp_path}/a.tar", downloads=tmp_path)) == (
        [],
        {"symbolic link": 1, "hard link": 1, "not a regular file": 3},
    )


def test_a_tar_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.py")
    member.size = 5_000_000_000
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))

    with pytest.raises(UnsafeArchive, match="unpacks to 5,000 MB"):
        read(parse_source(f"tar:{tmp_path}/a.tar", downloads=tmp_path))


def test_a_header_that_claims_a_name_of_a_gigabyte_is_not_believed(tmp_path: Path) -> None:
    """The content behind it is a hole in the file: reading it would fill the memory."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1_000_000_000
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1_000_010_240)

    tracemalloc.start()
    with pytest.raises(InvalidSource, match="is damaged"):
        read(parse_source(f"tar:{tmp_path}/a.tar", downloads=tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000_000


def test_headers_that_nest_without_end_are_damage(tmp_path: Path) -> None:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1
    nested = (member.tobuf(tarfile.GNU_FORMAT) + b"a" + bytes(511)) * 5000
    (tmp_path / "a.tar").write_bytes(nested + tar_bytes({"a.py": "a"}))

    with pytest.raises(InvalidSource, match="is damaged"):
        read(parse_source(f"tar:{tmp_path}/a.tar", downloads=tmp_path))


# Wheels and zip


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


def test_a_wheel_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchive, match="unpacks to 60 MB"):
        read(wheel(tmp_path, {"bomb.py": bytes(60_000_000)}))


def test_a_link_in_a_wheel_is_not_a_file(tmp_path: Path) -> None:
    source = wheel(tmp_path, {"a.py": "a"})
    link = zipfile.ZipInfo("link.py")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(source.path, "a") as archive:
        archive.writestr(link, "/etc/passwd")

    assert read(source) == (["a.py"], {"symbolic link": 1})


def test_a_damaged_member_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    source = wheel(tmp_path, {"a.py": "text " * 500, "b.py": "b = 1"})
    data = bytearray(source.path.read_bytes())
    data[45:60] = bytes(15)
    source.path.write_bytes(data)

    assert read(source) == (["b.py"], {"unreadable": 1})


def test_a_member_that_unpacks_to_more_than_it_says_is_not_believed(tmp_path: Path) -> None:
    source = wheel(tmp_path, {"a.py": "x = 1\n" * 100_000})
    data = source.path.read_bytes()
    size, forged = (600_000).to_bytes(4, "little"), (60).to_bytes(4, "little")
    assert data.count(size) == 2
    source.path.write_bytes(data.replace(size, forged))

    assert read(source) == ([], {"unreadable": 1})


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_a_truncated_wheel_says_what_to_delete(tmp_path: Path, keep: int) -> None:
    source = wheel(tmp_path, {"a.py": "a"})
    source.path.write_bytes(source.path.read_bytes()[:keep])

    with pytest.raises(InvalidSource, match=f"damaged.*Delete {source.path}"):
        read(source)
