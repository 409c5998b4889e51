"""kill -9 at any moment: what was indexed stays searchable, and the next run goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import write_files

from backend.errors import UnknownCollection
from backend.workspace import Workspace

ROOT = Path(__file__).parent.parent
INDEX = """
import sys
from backend import Workspace
def show(progress):
    print(progress.phase, progress.chunks, flush=True)
    if f"{progress.phase} {progress.chunks}" == sys.argv[3]:
        sys.stdin.read()  # Until killed: this moment is the moment.
Workspace(sys.argv[1]).index(sys.argv[2], collection="many", on_progress=show)
"""


def many_files(count: int, *, changed: int = 0) -> dict[str, str]:
    """Files of one short chunk each, of which the last ones are changed."""
    return {
        f"m{i:03}.py": f"def f_{i}():\n    return {i if i < count - changed else -i}\n"
        for i in range(count)
    }


def index_and_kill(data_dir: Path, folder: Path, *, at: str) -> None:
    """Index in another process, and kill -9 it at the given moment."""
    command = [sys.executable, "-c", INDEX, str(data_dir), str(folder), at]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == at:
                break
        else:
            pytest.fail(f"the run ended before {at}")
        process.kill()
        assert process.wait() == -9


@pytest.fixture
def data_dir(open_workspace: Callable[..., Workspace]) -> Path:
    """An empty data folder with the models, held by nobody."""
    workspace = open_workspace()
    workspace.load()
    workspace.close()
    return workspace.settings.data_dir


@pytest.mark.parametrize(
    ("moment", "reused"),
    [("read 0", 0), ("embed 128", 128), ("embed 256", 256), ("optimize 300", 300)],
)
def test_a_first_indexing_that_is_killed_is_continued(
    data_dir: Path, tmp_path: Path, moment: str, reused: int
) -> None:
    folder = write_files(tmp_path / "many", many_files(300))
    index_and_kill(data_dir, folder, at=moment)
    with Workspace(data_dir) as workspace:
        with pytest.raises(UnknownCollection):
            workspace.search("f_7", collection="many")
        report = workspace.index(folder, collection="many")

        assert (report.embedded, report.reused) == (300 - reused, reused)
        assert workspace.search("f_7", collection="many").hits[0].chunk.path == "m007.py"


@pytest.mark.parametrize(("moment", "written"), [("embed 128", 128), ("optimize 200", 200)])
def test_a_killed_update_leaves_each_file_as_it_was_or_as_it_is(
    data_dir: Path, tmp_path: Path, moment: str, written: int
) -> None:
    folder = write_files(tmp_path / "many", many_files(300))
    with Workspace(data_dir) as workspace:
        workspace.index(folder, collection="many")
    write_files(folder, many_files(300, changed=200))
    index_and_kill(data_dir, folder, at=moment)
    with Workspace(data_dir) as workspace:
        found = workspace.search("return", collection="many", top_k=100, path_prefix="m1")
        texts = {hit.chunk.path: hit.chunk.text for hit in found.hits}
        changed = {f"m{i:03}.py" for i in range(100, 100 + written)}
        report = workspace.index(folder, collection="many")
        (new,) = workspace.search("f_299", collection="many", top_k=1).hits

        assert len(texts) == len(found.hits) == 100
        assert {path for path, text in texts.items() if "return -" in text} == changed & {*texts}
        assert "return -299" in new.chunk.text
        assert (report.info.chunks, report.embedded) == (300, 200 - written)
        assert workspace.index(folder, collection="many").changed is False
    assert len(list((data_dir / "collections/many").glob("generation-*"))) == 1
