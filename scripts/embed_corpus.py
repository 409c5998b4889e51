"""Embeds an exported corpus on another machine, such as a rented GPU or a Kaggle notebook.

Needs sentence-transformers alone, nothing of Rankscope. At home, export; there, embed; at home,
index the folder that comes back:

    RANKSCOPE_EMBEDDER=nomic-ai/nomic-embed-code        # the model that is to answer queries
    python -m backend export ~/src/project --out corpus.jsonl
    python embed_corpus.py corpus.jsonl --out vectors   # there; in a notebook: !python ...
    python -m backend index vectors:vectors --collection project

In Python: `from embed_corpus import main; main(["corpus.jsonl", "--out", "vectors"])`.

Finished parts are kept: the same command goes on where an earlier one was cut off. Prefixes,
dimension and pooling come from the catalogue of models that the export carries; the last two are
compared with the model before anything is embedded. In the end OUT holds `vectors.npy` (one row a
chunk, unit norm), `chunks.jsonl` (the corpus) and `identity.json` (whose vectors these are).

A 7B model such as nomic-embed-code takes 15 GB of GPU memory in half precision and some more to
compute with; on a smaller card choose a smaller model.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

_POOLING = {"mean": "mean", "cls": "cls", "lasttoken": "last"}


def main(argv: Sequence[str] | None = None) -> int:
    """Embed; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        embed(options)
    except ValueError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


def embed(options: argparse.Namespace) -> None:
    """Embed all passages of a corpus into a folder, or go on with it."""
    header, offsets, sizes = _scan(options.corpus)
    card = _card(options, header)
    dtype = _dtype(options)
    model = _load(options, card, dtype)
    job = {
        "format": "rankscope vectors 1",
        "model": options.model,
        "revision": _revision(options, model),
        "dimension": _dimension(model),
        "pooling": _pooling(model),
        "query_prefix": card["query_prefix"],
        "document_prefix": card["document_prefix"],
        "normalized": True,
        "precision": str(dtype).removeprefix("torch."),
        "count": len(offsets),
        "chunks_sha256": _sha256(options.corpus),
    }
    parts = options.out / "parts"
    saved = [options.save_as, options.save_every]
    _begin(parts, job | {"max_length": model.max_seq_length, "saved": saved})
    _embed_parts(options, job, model, parts, offsets, sizes)
    rows = np.argsort(-sizes, kind="stable")
    _assemble(options, job, parts, rows)
    (probe,) = _encode(model, [job["query_prefix"] + header["probe"]], 1)
    packed = base64.b64encode(probe.astype("<f2").tobytes()).decode()
    shutil.copyfile(options.corpus, options.out / "chunks.jsonl")
    identity = job | {
        "vectors_sha256": _sha256(options.out / "vectors.npy"),
        "probe": f"{job['precision']}:{packed}",
    }
    _write(options.out / "identity.json", json.dumps(identity, indent=1))
    shutil.rmtree(parts)
    print(f"\n{len(offsets):,} vectors. Next: python -m backend index vectors:{options.out}")


def _embed_parts(
    options: argparse.Namespace,
    job: dict[str, Any],
    model: SentenceTransformer,
    parts: Path,
    offsets: np.ndarray,
    sizes: np.ndarray,
) -> None:
    """The longest first: what needs most memory fails at once, and lengths in a batch are alike."""
    order = np.argsort(-sizes, kind="stable")
    began, done, batch = time.monotonic(), 0, options.batch_size
    size = options.save_every
    waiting = [n for n in range(0, len(order), size) if not _part(parts, n).exists()]
    total = sum(len(order[n : n + size]) for n in waiting)
    if total < len(order):
        print(f"going on after {len(order) - total} passages", file=sys.stderr)
    with options.corpus.open("rb") as file:
        for start in waiting:
            rows = order[start : start + size]
            texts = [job["document_prefix"] + text for text in _passages(file, offsets[rows])]
            vectors, batch = _fitting(model, texts, batch)
            with _part(parts, start).with_suffix(".part").open("wb") as out:
                np.save(out, vectors.astype(options.save_as))
                out.flush()
                os.fsync(out.fileno())
            os.replace(_part(parts, start).with_suffix(".part"), _part(parts, start))
            done += len(rows)
            rate = done / (time.monotonic() - began)
            left = (total - done) / rate / 60
            print(
                f"\r{len(order) - total + done:,} of {len(order):,} passages, {rate:,.1f}/s,"
                f" {left:,.0f} min left ",
                end="",
                flush=True,
                file=sys.stderr,
            )


def _fitting(
    model: SentenceTransformer, texts: Sequence[str], batch: int
) -> tuple[np.ndarray, int]:
    """Vectors, and the batch size that fits into the GPU's memory, halved as often as it takes."""
    while True:
        try:
            return _encode(model, texts, batch), batch
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise ValueError(
                    "One passage does not fit into the GPU's memory: take a smaller --max-length,"
                    " --dtype bfloat16, or a smaller model."
                ) from None
            batch //= 2
        torch.cuda.empty_cache()


def _encode(model: SentenceTransformer, texts: Sequence[str], batch: int) -> np.ndarray:
    """Unit norm, float32, shape (len(texts), dimension)."""
    vectors = model.encode(
        list(texts), batch_size=batch, show_progress_bar=False, convert_to_tensor=True
    )
    vectors = torch.nn.functional.normalize(vectors.float(), dim=1).cpu().numpy()
    if not np.isfinite(vectors).all():
        raise ValueError("The model gives NaN: half precision overflows. Use --dtype float32.")
    return vectors


def _assemble(
    options: argparse.Namespace, job: dict[str, Any], parts: Path, order: np.ndarray
) -> None:
    """Put the vectors in the order of the chunks, without holding them in memory."""
    scratch = options.out / "vectors.npy.part"
    shape = (job["count"], job["dimension"])
    whole = np.lib.format.open_memmap(
        scratch, mode="w+", dtype=np.dtype(options.save_as), shape=shape
    )
    for start in range(0, len(order), options.save_every):
        whole[order[start : start + options.save_every]] = np.load(
            _part(parts, start), allow_pickle=False
        )
    whole.flush()
    del whole
    os.replace(scratch, options.out / "vectors.npy")


def _scan(corpus: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The header of a corpus, and where each chunk's line begins and how long its passage is."""
    offsets, sizes = [], []
    try:
        with corpus.open("rb") as file:
            header = json.loads(file.readline())
            if header.get("format") != "rankscope chunks 1":
                raise ValueError("its first line is no header")
            at = file.tell()
            for line in file:
                offsets.append(at)
                sizes.append(len(json.loads(line)["passage"]))
                at += len(line)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"{corpus} is not what `python -m backend export` wrote: {exc}.") from exc
    if len(offsets) != sum(source["chunks"] for source in header["sources"]):
        raise ValueError(f"{corpus} is cut off: export it, or copy it here, again.")
    return header, np.array(offsets), np.array(sizes)


def _passages(file: Any, offsets: np.ndarray) -> Iterator[str]:
    for offset in offsets:
        file.seek(int(offset))
        yield json.loads(file.readline())["passage"]


def _card(options: argparse.Namespace, header: dict[str, Any]) -> dict[str, Any]:
    """What the catalogue says of the model, and what the options say instead."""
    card = header["models"].get(options.model)
    if card is None:
        raise ValueError(
            f"{options.model} is none of the models that the corpus was exported for:"
            f" {', '.join(header['models'])}. Describe it in RANKSCOPE_MODELS_FILE, export again."
        )
    said = {
        name: getattr(options, name)
        for name in ("revision", "query_prefix", "document_prefix")
        if getattr(options, name) is not None
    }
    return {**card, **said}


def _load(
    options: argparse.Namespace, card: dict[str, Any], dtype: torch.dtype
) -> SentenceTransformer:
    """The model, if it is the one that the catalogue describes."""
    local = options.weights is not None
    model = SentenceTransformer(
        str(options.weights) if local else options.model,
        revision=None if local else card["revision"] or None,
        device=options.device,
        trust_remote_code=options.trust_remote_code,
        model_kwargs={"torch_dtype": dtype},
    )
    model.prompts, model.default_prompt_name = {}, None  # Prefixes are written out here.
    limits = (options.max_length, card["max_tokens"], model.max_seq_length)
    model.max_seq_length = min(limit for limit in limits if limit)
    made = {"dimension": _dimension(model), "pooling": _pooling(model)}
    for name, value in made.items():
        if value != card[name]:
            raise ValueError(
                f"The weights have {name} {value!r}; the catalogue says {card[name]!r} of"
                f" {options.model}. Load the right ones, or correct RANKSCOPE_MODELS_FILE."
            )
    return model


def _dimension(model: SentenceTransformer) -> int:
    return len(model.encode("x", show_progress_bar=False))


def _pooling(model: SentenceTransformer) -> str:
    for module in model:
        if hasattr(module, "get_pooling_mode_str"):
            mode = module.get_pooling_mode_str()
            return _POOLING.get(mode, mode)
        if hasattr(module, "pooling_mode"):
            mode = module.pooling_mode
            mode = mode if isinstance(mode, str) else "+".join(mode)
            return _POOLING.get(mode, mode)
    raise ValueError("The model has no pooling: it is none of sentence-transformers.")


def _revision(options: argparse.Namespace, model: SentenceTransformer) -> str:
    """The commit that was loaded; of a local folder, what the user says it is."""
    if options.weights is not None:
        return options.revision or ""
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return getattr(config, "_commit_hash", None) or options.revision or ""


def _dtype(options: argparse.Namespace) -> torch.dtype:
    if options.dtype != "auto":
        return getattr(torch, options.dtype)
    cuda = torch.cuda.is_available() and (options.device or "cuda").startswith("cuda")
    if not cuda:
        return torch.float32
    # Older cards, such as the T4, only imitate bfloat16.
    return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16


def _begin(parts: Path, job: dict[str, Any]) -> None:
    """Go on with a job only if it is the same."""
    parts.mkdir(parents=True, exist_ok=True)
    path = parts / "job.json"
    text = json.dumps(job, sort_keys=True, indent=1)
    if path.exists() and path.read_text() != text:
        raise ValueError(f"{parts} belongs to another corpus or model: choose another --out.")
    _write(path, text)


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(f"{path.name}.part")
    scratch.write_text(text)
    os.replace(scratch, path)


def _part(parts: Path, start: int) -> Path:
    return parts / f"{start:010d}.npy"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Embed a corpus that Rankscope exported.")
    parser.add_argument("corpus", type=Path, help="what `python -m backend export` wrote")
    parser.add_argument("--out", type=Path, default=Path("vectors"), help="folder for the result")
    parser.add_argument("--model", default="nomic-ai/nomic-embed-code", help="id in the catalogue")
    parser.add_argument("--weights", type=Path, help="folder of its files, if not from the hub")
    parser.add_argument("--revision", help="commit to load; the catalogue's if left out")
    parser.add_argument("--document-prefix", help="instead of the catalogue's")
    parser.add_argument("--query-prefix", help="instead of the catalogue's")
    parser.add_argument("--batch-size", type=int, default=32, help="halved where memory is short")
    parser.add_argument(
        "--save-every", type=int, default=2048, help="passages that an interruption may cost"
    )
    parser.add_argument("--max-length", type=int, help="tokens, if less than the catalogue's")
    parser.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "float16", "bfloat16")
    )
    parser.add_argument("--save-as", default="float16", choices=("float16", "float32"))
    parser.add_argument("--device", help="such as cuda:1 or cpu; a GPU where there is one")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run code that comes with the model"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
