"""Training groups from written queries: what answers, what is a negative, what is held out."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from zlib import crc32

import pytest

from backend.build import Models, load_models
from backend.config import load_settings
from training import written
from training.data import read_jsonl, write_jsonl
from training.written import HELD_OUT_EVERY, chunks_in, write

TASKS = ("pay an invoice", "cancel an order", "count the stock", "print a label", "weigh a parcel")
CODE = "\n\n".join(
    f"def {task.replace(' ', '_')}(shop):\n"
    f'    """Let a clerk {task} and write down when it was done."""\n'
    f"    entry = shop.open_book({task!r})\n"
    + "".join(f"    entry.note({step}, shop.clerk, {task!r})\n" for step in range(20))
    for task in TASKS
)


def package(folder: Path, *, held_out: bool) -> str:
    """Write a package whose name decides that it is held out or trained on; returns its name."""
    names = (f"shop{number}" for number in count())
    name = next(n for n in names if (crc32(n.encode()) % HELD_OUT_EVERY == 0) is held_out)
    root = folder / f"{name}@1.0"
    (root / "tests").mkdir(parents=True)
    (root / "shop.py").write_text(CODE)
    (root / "tests" / "test_shop.py").write_text(CODE.replace("def ", "def test_"))
    (root / "COPYING").write_text("Copying is allowed.\n" * 20)
    return name


def row(name: str, query: str, *lines: tuple[int, int, int]) -> dict[str, object]:
    """A written query with the first line, last line and grade of each of its targets."""
    targets = [
        {"path": "shop.py", "start_line": first, "end_line": last, "grade": grade}
        for first, last, grade in lines
    ]
    return {
        "package": name,
        "version": "1.0",
        "style": "question",
        "query": query,
        "targets": targets,
    }


@pytest.fixture(scope="module")
def models(cache: Path) -> Models:
    return load_models(load_settings(data_dir=cache))


def start_of(task: str) -> int:
    """The line of `shop.py` where a task's function begins."""
    return CODE.split("\n").index(f"def {task.replace(' ', '_')}(shop):") + 1


def test_what_ranks_high_and_is_not_named_is_a_negative(models: Models, tmp_path: Path) -> None:
    name = package(tmp_path, held_out=False)
    paid, cancelled = start_of("pay an invoice"), start_of("cancel an order")
    asked = row(name, "how does a clerk settle a bill", (paid, paid, 2), (cancelled, cancelled, 1))
    write_jsonl(tmp_path / "asked.jsonl.gz", [asked])

    write(tmp_path, tmp_path / "asked.jsonl.gz", tmp_path / "out", models)

    passages = list(read_jsonl(tmp_path / "out" / "passages.jsonl.gz"))
    (group,) = read_jsonl(tmp_path / "out" / "groups.jsonl.gz")
    answer = passages[int(str(group["positive"]))]
    negatives = [passages[number] for number in group["negatives"]]  # type: ignore[attr-defined]
    assert (answer["path"], answer["symbol"]) == ("shop.py", "pay_an_invoice")
    assert {str(p["path"]) for p in negatives} == {"shop.py", "tests/test_shop.py"}
    assert not {"pay_an_invoice", "cancel_an_order"} & {str(p["symbol"]) for p in negatives}
    assert len(group["priors"]) == 1 + len(negatives)  # type: ignore[arg-type]
    assert list(read_jsonl(tmp_path / "out" / "written.jsonl")) == []


def test_a_held_out_package_is_measured_and_never_trained_on(
    models: Models, tmp_path: Path
) -> None:
    name = package(tmp_path, held_out=True)
    start = start_of("weigh a parcel")
    write_jsonl(tmp_path / "asked.jsonl.gz", [row(name, "mass of a box", (start, start, 2))])

    write(tmp_path, tmp_path / "asked.jsonl.gz", tmp_path / "out", models)

    (judged,) = read_jsonl(tmp_path / "out" / "written.jsonl")
    assert judged["query"] == "mass of a box"
    assert judged["grades"] == [2]
    assert [0] in judged["matches"]  # type: ignore[operator]
    assert list(read_jsonl(tmp_path / "out" / "groups.jsonl.gz")) == []


def test_a_package_that_is_not_there_is_left_out(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = package(tmp_path, held_out=False)
    start = start_of("print a label")
    rows = [row(name, "sticker for a box", (start, start, 2)), row("gone", "x" * 9, (1, 2, 2))]
    write_jsonl(tmp_path / "asked.jsonl.gz", rows)

    write(tmp_path, tmp_path / "asked.jsonl.gz", tmp_path / "out", models)

    assert [g["query"] for g in read_jsonl(tmp_path / "out" / "groups.jsonl.gz")] == [
        "sticker for a box"
    ]
    assert "gone@1.0 is not there; its 1 queries are left out" in capsys.readouterr().err


def test_files_that_queries_ask_for_are_always_among_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the collection is kept, and however the files are drawn."""
    folder = tmp_path / f"{package(tmp_path, held_out=False)}@1.0"
    monkeypatch.setattr(written, "CHUNKS_PER_PACKAGE", 1)

    for path in ("shop.py", "tests/test_shop.py"):
        assert {chunk.path for chunk in chunks_in(folder, {path})} == {path}
