"""The command line: `python -m backend COMMAND`, see `_parser`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from backend.catalog import Catalog
from backend.config import load_settings
from backend.data_folder import folder_owner
from backend.errors import InvalidQuery, SearchError
from backend.evaluation.experiment import EvaluationProgress
from backend.evaluation.plot import to_svg
from backend.evaluation.report import to_json, to_markdown
from backend.models_command import add_models, run_models
from backend.types import (
    Chunk,
    CollectionInfo,
    IndexProgress,
    IndexReport,
    ScoredChunk,
    SearchResponse,
)
from backend.workspace import Workspace

_PHASES = {
    "fetch": "Fetching packages",
    "read": "Reading files",
    "embed": "Embedding chunks",
    "optimize": "Building the index",
    "done": "Done",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 refused or failed, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        settings = load_settings()
        logger.remove()
        logger.add(sys.stderr, level=max(settings.log_level, "WARNING", key=_severity))
        commands = {
            "index": _index,
            "export": _export,
            "search": _search,
            "related": _related,
            "evaluate": _evaluate,
            "models": run_models,
            "status": _status,
        }
        run = commands[arguments.command]
        run(arguments)
    except SearchError as exc:
        if arguments.json:
            print(json.dumps({"error": exc.message, "fix": exc.fix}, ensure_ascii=False))
        else:
            print(f"error: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # The reader, such as `head`, has seen enough.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except KeyboardInterrupt:
        later = " Indexing again goes on from here." if arguments.command == "index" else ""
        print(f"Stopped.{later}", file=sys.stderr)
        return 130
    return 0


def _index(arguments: argparse.Namespace) -> None:
    if arguments.preview:
        _preview(arguments)
        return
    with Workspace() as workspace, _Bar(shown=not arguments.json) as bar:
        options = {"collection": arguments.collection, "description": arguments.description}
        source = arguments.source or None
        if arguments.watch:
            for report in workspace.watch(source, **options, on_progress=bar.show):
                _print_report(arguments, report)
        else:
            _print_report(arguments, workspace.index(source, **options, on_progress=bar.show))


def _print_report(arguments: argparse.Namespace, report: IndexReport) -> None:
    if arguments.json:
        print(json.dumps(asdict(report), ensure_ascii=False), flush=True)
        return
    info = report.info
    size = f"{info.chunks:,} chunks of {info.files:,} files"
    print(f"{info.name}: {size} in {report.seconds:.1f} s ({report.summary})")
    for reason, count in info.skipped.items():
        print(f"  {count:,} skipped: {reason}")
    _print_notes(info)


def _preview(arguments: argparse.Namespace) -> None:
    with Workspace() as workspace, _Bar(shown=not arguments.json) as bar:
        found = workspace.preview(
            arguments.source or None, collection=arguments.collection, on_progress=bar.show
        )
    if arguments.json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return
    print(f"{found.collection}: {found.chunks:,} chunks of {found.files:,} files, not indexed yet")
    if found.chunks:
        pace = f"{found.chunks_per_second:,.0f} chunks/s"
        print(f"  embedding all of them takes about {_duration(found.seconds)} here ({pace})")
    for summary in found.sources:
        at = f" at {summary.revision[:12]}" if summary.revision else ""
        size = f"{summary.chunks:,} chunks of {summary.files:,} files"
        print(f"  {summary.source}{at}: {size}" + (f" ({summary.note})" if summary.note else ""))
    if found.languages:
        counted = (f"{language} {count:,}" for language, count in found.languages.items())
        print(f"  languages by files: {', '.join(counted)}")
    for reason, count in found.skipped.items():
        paths = found.examples[reason]
        more = ", …" if count > len(paths) else ""
        print(f"  {count:,} skipped: {reason} ({', '.join(paths)}{more})")


def _export(arguments: argparse.Namespace) -> None:
    with Workspace() as workspace, _Bar(shown=not arguments.json) as bar:
        count = workspace.export(
            arguments.out,
            arguments.source or None,
            collection=arguments.collection,
            on_progress=bar.show,
        )
    if arguments.json:
        print(json.dumps({"chunks": count, "file": str(arguments.out)}))
    else:
        print(f"{arguments.out}: {count:,} chunks. Next: python scripts/embed_corpus.py")


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _search(arguments: argparse.Namespace) -> None:
    with Workspace() as workspace:
        response = workspace.search(
            arguments.query,
            collection=arguments.collection,
            top_k=arguments.top_k,
            packages=arguments.package,
            languages=arguments.language,
            kinds=arguments.kind,
            sources=arguments.source,
            path_prefix=arguments.path_prefix,
            paths=arguments.path,
            rerank=arguments.rerank,
            candidates=arguments.candidates,
            budget_ms=arguments.budget_ms,
            min_confidence=arguments.min_confidence,
        )
    if arguments.json:
        print(json.dumps(_response_json(response), ensure_ascii=False))
    else:
        _print_response(response)


def _related(arguments: argparse.Namespace) -> None:
    path, _, line = arguments.place.rpartition(":")
    if not path or not line.isdecimal():
        raise InvalidQuery(f"{arguments.place} is no place.", fix="Write path:line.")
    with Workspace() as workspace:
        related = workspace.find_related(
            path, int(line), collection=arguments.collection, top_k=arguments.top_k
        )
    if arguments.json:
        print(json.dumps(asdict(related) | {"hits": [_hit_json(hit) for hit in related.hits]}))
        return
    print(f"Like {_place(related.place)} {related.place.symbol}")
    for rank, hit in enumerate(related.hits, start=1):
        print(f"{rank:2d}  {hit.score:.3f}  {_place(hit.chunk)}  {hit.chunk.symbol}")


def _evaluate(arguments: argparse.Namespace) -> None:
    if arguments.out is not None:
        _save({}, arguments.out)  # Or nobody learns before the end that it cannot be.
    with Workspace() as workspace, _Bar(shown=not arguments.json) as bar:
        found = workspace.evaluate(
            arguments.collection,
            labels=arguments.queries,
            quantization=arguments.quantization,
            seed=arguments.seed,
            on_progress=bar.show_evaluation,
        )
    files = {"json": to_json(found), "md": to_markdown(found), "svg": to_svg(found)}
    print(files["json" if arguments.json else "md"], flush=True)
    if arguments.out is not None:
        _save(files, arguments.out)


def _save(files: Mapping[str, str], folder: Path) -> None:
    """Write a report, or of no files make sure that one can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for suffix, text in files.items():
            (folder / f"evaluation.{suffix}").write_text(text, "utf-8")
    except (OSError, ValueError) as exc:
        raise SearchError(
            f"The report cannot be written to {str(folder)!r}: {exc}.",
            fix="Name a folder that can be written.",
        ) from exc


def _status(arguments: argparse.Namespace) -> None:
    """Needs no lock: the records can be read while an app runs."""
    data_dir = load_settings().data_dir
    catalog = Catalog(data_dir / "collections")
    infos = catalog.infos()
    owner = folder_owner(data_dir)
    if arguments.json:
        collections = [asdict(info) for info in infos]
        print(json.dumps({"data_dir": str(data_dir), "app": owner, "collections": collections}))
        return
    print(f"Data folder: {data_dir}")
    if owner is not None:
        print(f"App: {owner.get('url')} (process {owner.get('pid')})")
    for info in infos:
        print(
            f"{info.name}: {info.chunks:,} chunks of {info.files:,} files,"
            f" {info.identity.quantization}, built {info.built_at}"
        )
        _print_notes(info)
    if not infos:
        print("No collection yet. Run: python -m backend index")


def _print_response(response: SearchResponse) -> None:
    if response.degraded:
        print(f"warning: {response.degraded}", file=sys.stderr)
    if response.query.read_as:
        print(f"Read as: {response.query.read_as}")
    for folded in response.folded:
        hit, chunk = folded.hit, folded.hit.chunk
        moved = f"{hit.moved:+d}" if hit.moved else "="
        print(f"{hit.rank:2d} {moved:>3}  {_place(chunk)}")
        print(f"        {chunk.kind} {chunk.symbol}  [{chunk.source}]  score {hit.score:.3f}")
        if hit.url:
            print(f"        {hit.url}")
        for other in folded.also:
            lines = f"{other.chunk.start_line}-{other.chunk.end_line}"
            print(f"        also: lines {lines}  {other.chunk.symbol}  (#{other.rank})")
    if response.withheld:
        print(f"No good match: {response.withheld} hits of less confidence were withheld.")
    elif not response.hits:
        print("Nothing matches these filters.")
    else:
        print(f"\nConfidence: {response.confidence.label}")
    stages = "  ".join(f"{stage} {ms:.1f} ms" for stage, ms in response.timings.items())
    reranked = f"reranked {response.reranked} of {len(response.candidates)} candidates"
    print(f"\n{stages}  ({response.rerank_note or reranked})")


def _place(chunk: Chunk) -> str:
    return f"{chunk.path}:{chunk.start_line}-{chunk.end_line}"


def _hit_json(hit: ScoredChunk) -> dict[str, Any]:
    return {"chunk": asdict(hit.chunk), "score": hit.score}


def _response_json(response: SearchResponse) -> dict[str, Any]:
    data = asdict(response)
    data["before"] = [asdict(hit) for hit in response.before]
    del data["candidates"]
    return data


def _print_notes(info: CollectionInfo) -> None:
    for source in info.sources:
        if source.note:
            print(f"  note: {source.note}")


class _Bar:
    """A progress bar on stderr, where it does not mix with results."""

    def __init__(self, *, shown: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        self._task = self._progress.add_task("Starting", total=None, detail="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, progress: IndexProgress) -> None:
        """Draw where the run stands."""
        known = progress.phase in {"embed", "optimize", "done"}
        detail = f"{progress.files:,} files, {progress.chunks_total:,} chunks"
        if progress.chunks_per_second:
            detail += f", {progress.chunks_per_second:.0f} chunks/s"
        self._progress.update(
            self._task,
            description=_PHASES[progress.phase],
            total=progress.chunks_total if known else None,
            completed=progress.chunks,
            detail=detail,
            visible=progress.phase != "done",
        )

    def show_evaluation(self, progress: EvaluationProgress) -> None:
        """Draw how many searches of an evaluation are done."""
        self._progress.update(
            self._task,
            description="Evaluating",
            total=progress.total or None,
            completed=progress.done,
            detail=f"{progress.done:,} of {progress.total:,} searches, {progress.message}"
            if progress.total
            else progress.message,
        )


def _severity(level: str) -> int:
    return logger.level(level).no


def _seed(text: str) -> int:
    seed = int(text)
    if seed < 0:
        raise ValueError
    return seed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backend", description="Two-stage search over code and documentation."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    index = commands.add_parser(
        "index",
        help="index folders, packages, repositories; nothing: what --collection is made of, or the"
        " default collection",
    )
    index.add_argument(
        "source",
        nargs="*",
        help="folder, archive or manifest.toml; git:URL@revision, zip:, tar:, pypi:name==version,"
        " npm:name@version, installed:name, jsonl:file?text=field, vectors:folder",
    )
    index.add_argument(
        "--preview", action="store_true", help="show what would be indexed, and how long it takes"
    )
    index.add_argument(
        "--watch", action="store_true", help="go on, and index again whenever files change"
    )
    index.add_argument("--collection", help="its name; the source's own if left out")
    index.add_argument("--description", default="", help="a sentence that helps to choose it")
    export = commands.add_parser(
        "export", help="write down what would be embedded, for scripts/embed_corpus.py on a GPU"
    )
    export.add_argument("source", nargs="*", help="as for index")
    export.add_argument("--collection", help="the sources of this one, if no other is named")
    export.add_argument("--out", type=Path, required=True, help="the JSONL file to write")
    search = commands.add_parser("search", help="search a collection")
    search.add_argument("query")
    search.add_argument("--collection", help="the default collection if left out")
    search.add_argument("--top-k", type=int, default=10, help="hits to show, 1 to 100")
    for name in ("package", "language", "kind", "source"):
        search.add_argument(f"--{name}", action="append", help=f"keep only this {name}; repeatable")
    search.add_argument("--path-prefix", default="", help="keep only paths that begin with this")
    search.add_argument(
        "--path",
        action="append",
        help="keep only files that match, such as 'src/**/*.py'; '!tests/' leaves out; repeatable",
    )
    search.add_argument(
        "--min-confidence", help="low, medium or high: show nothing rather than less than this"
    )
    search.add_argument(
        "--rerank", action=argparse.BooleanOptionalAction, help="reranking on or off"
    )
    search.add_argument("--candidates", type=int, help="first-stage hits to rerank, 1 to 100")
    search.add_argument("--budget-ms", type=float, help="milliseconds after which reranking stops")
    related = commands.add_parser("related", help="show chunks that resemble the one at a place")
    related.add_argument("place", help="path:line; the end of the path is enough")
    related.add_argument("--collection", help="the default collection if left out")
    related.add_argument("--top-k", type=int, default=10, help="hits to show, 1 to 100")
    evaluate = commands.add_parser(
        "evaluate", help="measure the rankings on labelled queries; nothing: the default collection"
    )
    evaluate.add_argument("--collection", help="what is searched")
    evaluate.add_argument("--queries", help="JSONL file of spans, or a BEIR folder")
    evaluate.add_argument("--out", type=Path, help="folder for the report: JSON, Markdown, SVG")
    evaluate.add_argument(
        "--quantization",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare the quantization modes too",
    )
    evaluate.add_argument("--seed", type=_seed, default=0, help="of the bootstrap intervals")
    models = add_models(commands)
    status = commands.add_parser("status", help="show the data folder's collections")
    for command in (index, export, search, related, evaluate, models, status):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
