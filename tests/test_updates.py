"""An index follows its sources: in place, only what changed, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from samples import write_files
from small_index import Listed, SmallIndex

from backend.errors import DataFolderUnusable, InvalidSource
from backend.ingestion.files import Skipped, SourceFile
from backend.ingestion.sources.folder import Folder
from backend.store.edge import RESERVE_BYTES
from backend.types import IndexProgress

TESTS = Path(__file__).parent


def text(name: str, *, version: int = 0, parts: int = 2) -> str:
    """A file that is cut into several chunks, each of which tells the version."""
    return "\n\n".join(
        f"def {name}_{i}():\n    '''{name} number {i}'''\n    version{version}()\n"
        + "".join(f"    step_{i}_{j} = {j}\n" for j in range(30))
        for i in range(parts)
    )


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where there is room: these tests write much, and none is about the disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2e9
    with tempfile.TemporaryDirectory(dir=memory if roomy else None) as folder:
        yield Path(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {f"pkg/f{i}.py": text(f"f{i}") for i in range(12)}
    return aged(write_files(tmp_path / "project", files))


def aged(folder: Path) -> Path:
    """Make files look as if nobody had touched them for a while; only their ctime knows better."""
    for path in folder.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SmallIndex]:
    made = SmallIndex(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., list[object]]:
    """What an index made from nothing would hold."""

    def contents(*sources: object) -> list[object]:
        made = SmallIndex(tmp_path / f"fresh{time.monotonic_ns()}")
        made.update(*sources)
        held = made.contents()
        made.close()
        return held

    return contents


def paths(index: SmallIndex) -> set[str]:
    return {chunk.path for chunk in index.chunks()}


# What an update does


def test_an_update_leaves_what_a_fresh_index_would_hold(
    index: SmallIndex, folder: Path, fresh: Callable[..., list[object]]
) -> None:
    """Whatever the changes, in any order: nothing is left behind, doubled or forgotten."""
    chance = random.Random(7)
    for step in range(8):
        change_at_random(folder, chance, step)
        index.update(Folder(folder))
        assert index.contents() == fresh(Folder(folder)), f"after step {step}"
        assert sum(one.chunks for one in index.catalog.record("c").info.sources) == len(
            index.chunks()
        )


def change_at_random(folder: Path, chance: random.Random, step: int) -> None:
    """Add, rewrite, shorten, move, copy and delete some files."""
    for _ in range(chance.randint(1, 4)):
        files = sorted(folder.rglob("*.py"))
        path = chance.choice(files)
        what = chance.choice(["add", "rewrite", "shorten", "shift", "move", "copy", "delete"])
        target = folder / f"dir{chance.randint(0, 2)}" / f"n{step}_{chance.randint(0, 99)}.py"
        target.parent.mkdir(exist_ok=True)
        if what == "add":
            target.write_text(text(target.stem, parts=chance.randint(1, 4)))
        elif what == "rewrite":
            path.write_text(text(path.stem, version=step, parts=chance.randint(1, 4)))
        elif what == "shorten":
            path.write_text(text(path.stem, parts=1))
        elif what == "shift":
            path.write_text(f"# {step}\n\n\n" + path.read_text())
        elif what == "move":
            path.rename(target)
        elif what == "copy":
            target.write_bytes(path.read_bytes())
        elif len(files) > 3:
            path.unlink()


def test_only_passages_that_are_new_are_embedded(index: SmallIndex, folder: Path) -> None:
    index.update(Folder(folder))
    (folder / "pkg/f3.py").write_text(text("f3", parts=3))
    (folder / "pkg/f4.py").unlink()
    report = index.update(Folder(folder))

    assert (report.changed, report.embedded) == (True, 1)
    assert report.reused == report.info.chunks - 1
    assert ["f3_2" in passage for passage in index.models.embedded] == [True]
    assert "pkg/f4.py" not in paths(index)


def test_an_unchanged_file_is_not_even_read(index: SmallIndex) -> None:
    source = Listed({f"f{i}.py": ("1", text(f"f{i}")) for i in range(4)} | {"b.py": ("1", "\0")})
    index.update(source)
    assert len(source.read) == 5
    source.read.clear()
    source.texts["f2.py"] = ("2", text("f2", version=2))
    index.update(source)
    digests = dict(source.digests)

    assert source.read == ["f2.py"], "nor one that was found to be binary"
    assert index.update(source).changed is False
    assert source.digests == digests, "the source is told of files that were not read, too"


def test_a_file_without_a_stamp_is_compared_by_its_content(index: SmallIndex) -> None:
    source = Listed({"f.py": ("", text("f")), "g.py": ("", text("g"))})
    index.update(source)
    source.read.clear()

    assert index.update(source).changed is False
    assert source.read == ["f.py", "g.py"]
    source.texts["g.py"] = ("", text("g", version=1))
    assert index.update(source).changed is True


def test_a_file_that_was_touched_but_not_changed_is_read_once(index: SmallIndex) -> None:
    source = Listed({"f.py": ("1", text("f"))})
    index.update(source)
    source.texts["f.py"] = ("2", text("f"))
    source.read.clear()

    assert index.update(source).changed is False
    assert index.update(source).changed is False
    assert source.read == ["f.py"]


def test_a_file_that_was_just_written_has_no_stamp_and_an_older_one_has(folder: Path) -> None:
    """It may be written again within the same tick of its clock, as in git's racy index."""
    (written,) = (file for file in Folder(folder).files(Skipped()) if "f1.py" in file.path)
    assert written.stamp == "", "utime cannot make it older: the change of its inode counts"
    time.sleep(2.1)
    (older,) = (file for file in Folder(folder).files(Skipped()) if "f1.py" in file.path)
    assert older.stamp != ""
    (folder / "pkg/f1.py").write_text("x")
    aged(folder)
    time.sleep(2.1)
    (again,) = (file for file in Folder(folder).files(Skipped()) if "f1.py" in file.path)
    assert again.stamp not in ("", older.stamp)


def test_switching_branches_and_back_embeds_only_what_was_never_seen(
    index: SmallIndex, folder: Path
) -> None:
    """Vectors of what has left are kept for a while."""
    index.update(Folder(folder))
    before = index.contents()
    main = {path: path.read_text() for path in folder.rglob("*.py")}
    (folder / "pkg/f1.py").write_text(text("f1", version=9))
    (folder / "pkg/f2.py").unlink()
    (folder / "other.py").write_text(text("other"))
    index.update(Folder(folder))
    assert len(index.models.embedded) == 4
    for path in folder.rglob("*.py"):
        path.unlink()
    for path, content in main.items():
        path.write_text(content)
    report = index.update(Folder(folder))

    assert (report.changed, report.embedded) == (True, 0)
    assert index.contents() == before


def test_a_moved_file_is_embedded_under_its_new_path(index: SmallIndex, folder: Path) -> None:
    """The path is part of what is embedded: an old vector would be that of another passage."""
    index.update(Folder(folder))
    (folder / "pkg/f1.py").rename(folder / "moved.py")
    report = index.update(Folder(folder))

    assert report.embedded == 2
    assert "pkg/f1.py" not in paths(index)
    assert "moved.py" in paths(index)


def test_the_same_files_from_another_source_keep_their_vectors(index: SmallIndex) -> None:
    """As when a folder is renamed."""
    texts = {f"f{i}.py": ("1", text(f"f{i}")) for i in range(300)}
    index.update(Listed(texts))
    seen: list[set[str]] = []
    report = index.update(
        Listed(texts, id="list:b"),
        on_progress=lambda progress: progress.phase == "embed" and seen.append(paths(index)),
    )

    assert (report.embedded, report.info.chunks) == (0, 600)
    assert {chunk.source for chunk in index.chunks()} == {"list:b"}
    assert all(len(held) == 300 for held in seen), "one leaves as the other comes"


def test_of_equal_files_the_first_is_indexed_whichever_was_there_before(
    index: SmallIndex, fresh: Callable[..., list[object]]
) -> None:
    same = text("same")
    source = Listed({"b.py": ("1", same), "c.py": ("1", same)})
    for texts, indexed in (
        (source.texts, "b.py"),
        ({"a.py": ("1", same), **source.texts}, "a.py"),
        ({"c.py": ("1", same)}, "c.py"),
        ({"b.py": ("2", text("b")), "c.py": ("1", same)}, "c.py"),
    ):
        source.texts = texts
        report = index.update(source)
        assert indexed in paths(index)
        assert index.contents() == fresh(source)
        copies = report.info.skipped.get("identical to another file", 0)
        assert copies == len(texts) - len(paths(index))


def test_of_two_files_of_one_path_the_first_is_indexed_and_the_other_counted(
    index: SmallIndex,
) -> None:
    """Names that are not text may read alike."""

    class Twins(Listed):
        def files(self, skipped: Skipped) -> Iterator[SourceFile]:
            for number in (1, 2):
                yield SourceFile("f.py", 9, partial(str.encode, f"x = {number}\n"))

    report = index.update(Twins({}))

    assert [chunk.text for chunk in index.chunks()] == ["x = 1"]
    assert report.info.skipped == {"another file of the same path": 1}


def test_a_file_that_becomes_unsearchable_leaves(index: SmallIndex, folder: Path) -> None:
    index.update(Folder(folder))
    (folder / "pkg/f1.py").write_bytes(b"\0")
    (folder / "pkg/f2.py").write_text("")
    (folder / ".gitignore").write_text("f3.py\n")
    report = index.update(Folder(folder))

    assert paths(index) == {f"pkg/f{i}.py" for i in (0, *range(4, 12))}
    assert report.info.files == 9
    assert index.update(Folder(folder)).changed is False


def test_a_source_that_has_lost_all_its_text_is_refused_and_the_index_stays(
    index: SmallIndex, folder: Path
) -> None:
    index.update(Folder(folder))
    for path in folder.rglob("*.py"):
        path.unlink()
    with pytest.raises(InvalidSource, match="holds no text"):
        index.update(Folder(folder))

    assert len(index.chunks()) == 24


def test_another_chunker_or_model_is_built_beside_the_index_that_answers(
    tmp_path: Path, folder: Path
) -> None:
    first = SmallIndex(tmp_path / "data")
    first.update(Folder(folder))
    for change, embedded in (
        ({"quantization": "scalar"}, 0),
        ({"chunker": "2"}, 0),
        ({"model": "other"}, 24),
    ):
        identity = replace(first.identity, **change)
        second = first
        second.identity = identity
        old = first.store
        seen: set[int] = set()

        def search(progress: IndexProgress, seen: set[int] = seen) -> None:
            seen.add(len(first.search("f1")))

        report = second.update(Folder(folder), on_progress=search)
        assert report.embedded == embedded, change
        assert seen == {24}, "the old one answers until the new one is whole"
        assert second.store is not old
        assert len(list((tmp_path / "data/c").glob("generation-*"))) == 1
    first.close()


# Searching meanwhile


def test_a_search_sees_each_file_as_it_was_or_as_it_is(index: SmallIndex, folder: Path) -> None:
    """Every file changes, and grows or shrinks, while others search without a pause."""
    index.update(Folder(folder))
    sizes = [{f"pkg/f{i}.py": 2 for i in range(12)}]
    over = threading.Event()
    mixed: list[object] = []
    rounds = 0

    def search() -> int:
        count = 0
        while not over.is_set():
            count += 1
            found: dict[str, list[str]] = {}
            for chunk in index.search("number version"):
                version = next(v for v in range(99) if f"version{v}()" in chunk.text)
                found.setdefault(chunk.path, []).append(str(version))
            for path, versions in found.items():
                allowed = [sizes[int(v)].get(path) for v in {*versions}]
                if len({*versions}) != 1 or len(versions) != allowed[0]:
                    mixed.append((path, versions, allowed))
        return count

    with ThreadPoolExecutor(2) as pool:
        searching = [pool.submit(search) for _ in range(2)]
        for version in range(1, 9):
            sizes.append({f"pkg/f{i}.py": 1 + (i + version) % 5 for i in range(12)})
            for path, parts in sizes[version].items():
                (folder / path).write_text(text(Path(path).stem, version=version, parts=parts))
            index.update(Folder(folder))
            rounds += 1
        over.set()
        assert sum(one.result() for one in searching) > 2 * rounds
    assert mixed == []


# What is killed


def test_an_index_that_is_killed_again_and_again_loses_and_doubles_nothing(
    tmp_path: Path, folder: Path, fresh: Callable[..., list[object]]
) -> None:
    """Real kills at random moments of real runs, and the files change between them."""
    chance = random.Random(os.getpid())
    data = tmp_path / "data"
    write_files(folder, {f"more/m{i}.py": text(f"m{i}", parts=3) for i in range(80)})
    killed, whole_s = 0, 0.8
    for step in range(40):
        ran_s = run_and_kill(data, folder, after=chance.uniform(0, whole_s))
        if ran_s is None:
            killed += 1
        else:
            whole_s = ran_s
        if (data / "c/collection.json").exists():
            reopened = SmallIndex(data)
            check_whole_files(reopened)
            reopened.close()
        change_at_random(folder, chance, step)
        if killed == 8:
            break
    last = SmallIndex(data)
    last.update(Folder(folder))
    held = last.contents()
    last.close()

    assert killed == 8
    assert held == fresh(Folder(folder))
    assert len(list((data / "c").glob("generation-*"))) == 1


def run_and_kill(data: Path, folder: Path, *, after: float) -> float | None:
    """Index in a process of its own and kill it so long after it began to read.

    Returns the seconds it took where it was over before that, None where it was killed.
    """
    command = [sys.executable, "-m", "small_index", str(data), str(folder)]
    environment = os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline(), "it began to read"
        timer = threading.Timer(after, process.kill)
        timer.start()
        started = time.monotonic()
        process.stdout.read()
        timer.cancel()
        ran_s, ended = time.monotonic() - started, process.wait()
    assert ended in (0, -signal.SIGKILL)
    return ran_s if ended == 0 else None


def check_whole_files(index: SmallIndex) -> None:
    """Each file has the chunks of one version, in order and without a gap in its numbers."""
    by_path: dict[str, list[tuple[int, int, str]]] = {}
    for chunk in index.chunks():
        by_path.setdefault(chunk.path, []).append((chunk.start_line, chunk.end_line, chunk.text))
    for path, found in by_path.items():
        found.sort()
        for (_, end, _), (start, _, _) in pairwise(found):
            assert end < start, f"{path} holds two versions"
        numbers = [line for *_, text in found for line in text.splitlines() if "number" in line]
        assert [f"number {i}'" in line for i, line in enumerate(numbers)] == [True] * len(numbers)


def test_killed_before_any_step_of_an_update_a_run_goes_on_with_whatever_the_files_are_then(
    tmp_path: Path, fresh: Callable[..., list[object]]
) -> None:
    """Be it what they were before that update, what they were for it, or something else."""
    before = {f"f{i}.py": ("1", text(f"f{i}")) for i in range(5)}
    during = {
        "f0.py": before["f0.py"],
        "f1.py": ("2", text("f1", version=1, parts=3)),
        "f3.py": ("2", text("f3", parts=1)),
        "f4.py": ("2", "\0"),
        "new.py": ("1", text("new")),
    }
    after = {
        "f0.py": ("3", text("f0", version=3)),
        "f1.py": during["f1.py"],
        "f2.py": before["f2.py"],
        "f3.py": ("3", text("f3", version=1, parts=2)),
    }
    expected = {
        name: fresh(Listed(texts))
        for name, texts in {"before": before, "during": during, "after": after}.items()
    }
    start = tmp_path / "start"
    made = SmallIndex(start)
    made.update(Listed(before))
    made.close()
    states = []
    for step in range(99):
        killed = tmp_path / "killed"
        shutil.copytree(start, killed)
        over = not update_and_kill(killed, during, step)
        for name, texts in {"before": before, "during": during, "after": after}.items():
            again = tmp_path / "again"
            shutil.copytree(killed, again)
            reopened = SmallIndex(again)
            states.append({chunk.path for chunk in reopened.chunks()})
            reopened.update(Listed(texts))
            assert reopened.contents() == expected[name], f"killed before step {step}, then {name}"
            assert reopened.update(Listed(texts)).changed is False
            reopened.close()
            shutil.rmtree(again)
        shutil.rmtree(killed)
        if over:
            break
    assert step > 8, "every step was tried"
    assert {*before} in states
    assert {*during} - {"f4.py"} in states


def update_and_kill(data: Path, texts: dict[str, tuple[str, str]], step: int) -> bool:
    """Update in a process that dies before that step; returns whether it came to it."""
    command = [sys.executable, "-m", "small_index", str(data), "-", str(step)]
    environment = os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    done = subprocess.run(
        command, env=environment, input=json.dumps(texts), text=True, capture_output=True
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


# A full disk


def test_on_a_full_disk_an_update_is_refused_and_what_was_indexed_is_searched(
    tmp_path: Path, folder: Path
) -> None:
    """On a real file system with little room, where the system allows one to be made."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=260m", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        index = SmallIndex(place / "data")
        index.update(Folder(folder))
        before = index.contents()
        filler = place / "filler"
        with filler.open("wb") as file:
            free = shutil.disk_usage(place).free - RESERVE_BYTES
            file.write(bytes(max(free + 1_000_000, 0)))
        (folder / "pkg/f1.py").write_text(text("f1", version=1))
        with pytest.raises(DataFolderUnusable, match=r"full: \d+ MB are left.*Free at least"):
            index.update(Folder(folder))
        assert index.contents() == before
        index.close()
        index = SmallIndex(place / "data")
        assert len(index.search("f1 number")) == 24, "also after a start on the full disk"
        filler.unlink()
        assert index.update(Folder(folder)).embedded == 2
        index.close()
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_write_that_the_system_refuses_is_a_clear_error(tmp_path: Path, folder: Path) -> None:
    """Files may not grow beyond a limit, as with a quota."""
    command = [sys.executable, "-m", "small_index", str(tmp_path / "data"), str(folder)]
    environment = os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}"}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, preexec_fn=limit, check=False
    )
    assert done.returncode == 1, done.returncode
    assert "DataFolderUnusable: " in done.stderr.splitlines()[-1]
    whole = SmallIndex(tmp_path / "data")
    assert whole.update(Folder(folder)).info.chunks == 24
    whole.close()
