"""`python -m backend models list | prepare | test | bench`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from backend.config import Settings, load_settings
from backend.errors import ModelUnavailable
from backend.models.catalogue import Precision
from backend.shelf import ModelStatus, check_model, overview, prepare_model, time_model


def add_models(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's commands."""
    models: argparse.ArgumentParser = commands.add_parser(
        "models", help="list, fetch, check and time the models"
    )
    models.add_argument("action", choices=("list", "prepare", "test", "bench"))
    models.add_argument("id", nargs="?", help="a model; for `list` all of them")
    models.add_argument(
        "--precision", choices=get_args(Precision), help="instead of what the catalogue says"
    )
    models.add_argument(
        "--optimum",
        action="store_true",
        help="convert unknown architectures with optimum, in an environment of its own",
    )
    return models


def run_models(arguments: argparse.Namespace) -> None:
    """Do what the arguments say, and print it.

    Raises:
        SearchError: The model is unknown, cannot be had, or failed its test.
    """
    settings = load_settings()
    if arguments.action == "list":
        _list(settings, arguments)
        return
    if arguments.id is None:
        raise ModelUnavailable(
            f"`models {arguments.action}` needs the id of a model.",
            fix="See: python -m backend models list",
        )
    run = {"prepare": _prepare, "test": _test, "bench": _bench}[arguments.action]
    run(settings, arguments)


def _list(settings: Settings, arguments: argparse.Namespace) -> None:
    models = overview(settings)
    if arguments.json:
        print(json.dumps([asdict(model) for model in models], ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("model", "kind", "state", "memory", "query", "licence"):
        table.add_column(name, overflow="fold", no_wrap=name not in ("model", "state"))
    for model in models:
        mark = " *" if model.in_use else ""
        table.add_row(
            f"{model.card.id}{mark}",
            model.card.kind,
            describe(model),
            memory(model),
            speed(model),
            model.card.licence,
        )
    width = None if sys.stdout.isatty() else 120
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)
    print("\n* in use. A time with ~ is expected of two cores; the others were measured here.")


def _prepare(settings: Settings, arguments: argparse.Namespace) -> None:
    def on_file(name: str, size: int) -> None:
        print(f"{name}  {size / 1e6:,.1f} MB", file=sys.stderr)

    model = prepare_model(
        arguments.id,
        settings,
        precision=arguments.precision,
        optimum=arguments.optimum,
        on_file=on_file,
    )
    if arguments.json:
        print(json.dumps(asdict(model), ensure_ascii=False))
        return
    print(f"{model.card.id}: ready in {model.precision}, {model.origin}, {model.revision}")
    print(f"memory {memory(model)}, query {speed(model)}")


def _test(settings: Settings, arguments: argparse.Namespace) -> None:
    checks = check_model(arguments.id, settings, precision=arguments.precision)
    failed = [f"{check.name} ({check.found})" for check in checks if not check.passed]
    if not arguments.json:
        for check in checks:
            print(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.found}")
    if failed:
        raise ModelUnavailable(
            f"{arguments.id} does not do what it is for: {', '.join(failed)}.",
            fix="Check the catalogue's entry: pooling, prefixes, files.",
        )
    if arguments.json:
        print(json.dumps([asdict(check) for check in checks]))


def _bench(settings: Settings, arguments: argparse.Namespace) -> None:
    times = time_model(arguments.id, settings, precision=arguments.precision)
    if arguments.json:
        print(json.dumps(times))
        return
    for words, ms in times.items():
        print(f"{words:3d} words  {ms:8.1f} ms")


def describe(model: ModelStatus) -> str:
    """The state in words."""
    if model.state != "to fetch":
        return model.state
    return f"would fetch {_size(model.card.download_bytes)}"


def memory(model: ModelStatus) -> str:
    """The memory in words, and whether it is free."""
    if not model.memory_mb:
        return ""
    return _size(model.memory_mb * 1e6) + ("" if model.fits is not False else ", does not fit")


def speed(model: ModelStatus) -> str:
    """The time of a query in words."""
    if not model.query_ms:
        return ""
    sign = "" if model.measured else "~"
    if model.query_ms >= 1000:
        return f"{sign}{model.query_ms / 1000:.1f} s"
    return f"{sign}{model.query_ms:.{1 if model.query_ms < 10 else 0}f} ms"


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
