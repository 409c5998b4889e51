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


@pytest.mark.parametrize("moment", ["embed 256", "optimize 300"])
def test_a_killed_reindexing_leaves_the_index_before_as_it_was(
    data_dir: Path, tmp_path: Path, moment: str
) -> None:
    folder = write_files(tmp_path / "many", many_files(300))
    with Workspace(data_dir) as workspace:
        workspace.index(folder, collection="many")
    write_files(folder, many_files(300, changed=100))
    index_and_kill(data_dir, folder, at=moment)
    with Workspace(data_dir) as workspace:
        (old,) = workspace.search("f_299", collection="many", top_k=1).hits
        report = workspace.index(folder, collection="many")
        (new,) = workspace.search("f_299", collection="many", top_k=1).hits

        assert "return 299" in old.chunk.text
        assert "return -299" in new.chunk.text
        assert report.info.chunks == 300
        assert report.embedded == {"embed 256": 44, "optimize 300": 0}[moment]
    assert len(list((data_dir / "collections/many").glob("generation-*"))) == 1
