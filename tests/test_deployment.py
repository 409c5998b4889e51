"""What a deployment reads agrees with what we ship."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.config import Settings

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def front_matter() -> dict[str, Any]:
    """The block at the top of the README that the Hub reads."""
    _, block, _ = (ROOT / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(block)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "spaces.yaml").read_text())  # type: ignore[no-any-return]


def test_front_matter_says_what_the_manifest_says(
    front_matter: dict[str, Any], manifest: dict[str, Any]
) -> None:
    assert {key: front_matter[key] for key in manifest["space"]} == manifest["space"]


def test_manifest_admits_in_its_first_line_that_the_hub_does_not_read_it() -> None:
    first = (ROOT / "spaces.yaml").read_text().splitlines()[0]

    assert first.startswith("#")
    assert "does not read" in (ROOT / "spaces.yaml").read_text().split("\nspace:")[0]
    assert "Hub" in first


def test_the_space_runs_the_gradio_that_is_tested(front_matter: dict[str, Any]) -> None:
    pinned = re.search(r"^gradio\[mcp\]==(\S+)", (ROOT / "requirements.txt").read_text(), re.M)

    assert pinned is not None
    assert front_matter["sdk_version"] == pinned[1]
    assert (ROOT / front_matter["app_file"]).is_file()
    assert len(front_matter["short_description"]) <= 60  # The Hub refuses longer ones.


def test_image_serves_as_an_ordinary_user_on_the_published_port() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    serving = dockerfile.split("\nFROM ")[-1]

    assert "--uid 1000" in serving
    assert serving.index("USER user") < serving.index("CMD [")
    assert "EXPOSE 7860" in serving
    assert "RANKSCOPE_PORT=7860" in serving
    assert "pip install" not in serving, "the serving stage must not need the network"


def test_image_copies_only_what_is_there() -> None:
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY") and "--from" not in line:
            source = line.split()[-2]
            assert (ROOT / source).exists(), line


def test_variables_of_the_image_are_settings() -> None:
    named = set(re.findall(r"RANKSCOPE_(\w+)", (ROOT / "Dockerfile").read_text()))

    assert named <= {name.upper() for name in Settings.model_fields}
