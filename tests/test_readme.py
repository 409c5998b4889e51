"""The README says what is here now."""

from __future__ import annotations

import re
from pathlib import Path

from backend.config import Settings
from backend.store.quantization import MODES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `RANKSCOPE_(\w+)` \| ([^|]+) \|", README, re.M))
    fields = Settings.model_fields

    assert {name.lower() for name in rows} == set(fields)
    for name, shown in rows.items():
        default = fields[name.lower()].default
        if fields[name.lower()].default_factory is None:
            assert shown.strip("` ").lower() == str(default).lower().removesuffix(".0"), name


def test_every_quantization_mode_is_named() -> None:
    assert all(f"`{mode}`" in README for mode in MODES)


def test_the_first_screen_has_the_two_commands_and_a_picture_that_exists() -> None:
    first_screen = "\n".join(README.split("---\n", 2)[2].splitlines()[:20])

    assert "pip install -r requirements.txt && python app.py" in first_screen
    assert "pip install -r requirements-dev.txt && pytest" in first_screen
    (picture,) = re.findall(r"!\[[^]]+]\(([^)]+)\)", first_screen)
    assert (ROOT / picture).stat().st_size > 10_000


def test_ci_calls_the_commands_of_the_readme() -> None:
    ci = (ROOT / ".ci" / "run").read_text()

    assert "-r requirements-dev.txt" in ci
    assert re.search(r"^(CI=true )?pytest$", ci, re.M)


def test_files_that_the_readme_names_exist() -> None:
    for name in re.findall(
        r"`((?:spaces|requirements|tests|backend|assets)[\w./-]*\.\w+)`", README
    ):
        assert (ROOT / name).exists(), name
