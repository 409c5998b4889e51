"""From mined groups to token ids: one positive and several negatives, rendered as in use."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Encoding, Tokenizer

from training.data import Passage, read_jsonl, render, with_docstring
from training.first_stage import tokens
from training.queries import sentences

QUERY_TOKENS = 48  # A longer query leaves no room for the passage.
HEADER_TOKENS = 48  # A longer first line is no header.
_FIRST_WORD = 990  # Ids below are marks and single characters.


@dataclass(frozen=True, slots=True)
class Group:
    """A query with the numbers of its answer and of its hard negatives, in fused order.

    `priors` are the first stage's standardised scores, the answer's first.
    """

    query: str
    kind: str
    positive: int
    rank: int
    negatives: tuple[int, ...]
    priors: tuple[float, ...]


def load_groups(folders: Sequence[str]) -> tuple[list[Passage], list[Group]]:
    """Read what `training.mine` and `training.written` wrote, the groups of all folders mixed.

    Args:
        folders: Each a path, or `path:count` to draw so many of its groups.
    """
    passages: list[Passage] = []
    groups: list[Group] = []
    draw = random.Random(0)
    for spec in folders:
        path, _, count = spec.partition(":")
        before, folder = len(passages), Path(path)
        passages += [Passage(**item) for item in read_jsonl(folder / "passages.jsonl.gz")]  # type: ignore[arg-type]
        found = [
            Group(
                query=str(item["query"]),
                kind=str(item["kind"]),
                positive=before + int(str(item["positive"])),
                rank=int(str(item["rank"])),
                negatives=tuple(before + number for number in item["negatives"]),  # type: ignore[attr-defined]
                priors=tuple(item["priors"]),  # type: ignore[arg-type]
            )
            for item in read_jsonl(folder / "groups.jsonl.gz")
        ]
        groups += draw.sample(found, int(count)) if count else found
    draw.shuffle(groups)
    return passages, groups


def pick_negatives(group: Group, count: int, draw: random.Random) -> list[int]:
    """Places in `group.negatives`: two thirds from the ten best, the rest from further down."""
    places = range(len(group.negatives))
    near, far = list(places[:10]), list(places[10:])
    want_near = min(len(near), count if not far else (2 * count + 2) // 3)
    chosen = draw.sample(near, want_near)
    chosen += draw.sample(far, min(len(far), count - len(chosen)))
    rest = [n for n in near if n not in chosen]
    chosen += draw.sample(rest, min(len(rest), count - len(chosen)))
    while len(chosen) < count:
        chosen.append(draw.choice(places))
    return chosen


def _without_source_sentence(text: str, passage: Passage, query: str) -> str:
    """Drop the sentence that the query was made from, so that the rest must answer."""
    wanted = set(tokens(query))
    found = sentences(passage)
    if not found or len(text) < 300:
        return text
    best = max(found, key=lambda s: len(wanted & set(tokens(s))))
    return text.replace(best, " ")


def render_group(
    group: Group, passages: Sequence[Passage], chosen: Sequence[int], draw: random.Random
) -> list[str]:
    """The answer's text, then those of the chosen negatives.

    What could give the answer away is decided once for the whole group: docstrings are shown for
    all candidates or for none, headings are hidden for all when the query was made from a heading.
    """
    docstrings = draw.random() < (0.15 if group.kind == "description" else 0.6)
    headers = draw.random() > 0.12
    hide_headings = group.kind.startswith("heading") and draw.random() < 0.6
    heading_line = not hide_headings and draw.random() < 0.4
    merge = draw.random() < 0.2
    texts = []
    for number in (group.positive, *(group.negatives[place] for place in chosen)):
        passage = passages[number]
        symbol, text = passage.symbol, passage.text
        if passage.is_code:
            text = with_docstring(passage) if docstrings else text
            follower = passages[number + 1] if number + 1 < len(passages) else passage
            if merge and follower.path == passage.path and number + 1 != group.positive:
                more = with_docstring(follower) if docstrings else follower.text
                text = f"{text}\n\n{more}"
        elif passage.dataset == "oss_docs_sections":
            symbol = "" if hide_headings else symbol
            if heading_line:
                text = f"## {passage.symbol}\n\n{text}"
            if number == group.positive and group.kind == "sentence" and draw.random() < 0.5:
                text = _without_source_sentence(text, passage, group.query)
        texts.append(render(passage.path, symbol, text) if headers else text)
    return texts


def best_window(query: set[int], body: Sequence[int], room: int) -> int:
    """Where the `room` tokens of a long text begin that share most with the query.

    Rare tokens count more; WordPiece numbers its vocabulary by frequency, so the number tells.

    Args:
        query: Token ids of the query.
        body: Token ids of the text.
        room: Tokens that fit.

    Returns:
        An offset into `body`; the earliest of the best.
    """
    last = len(body) - room
    if last <= 0:
        return 0
    step = max(room // 4, 1)
    best, found = 0, 1e-6
    for start in [*range(0, last, step), last]:
        shared = query.intersection(body[start : start + room])
        worth = sum(math.log(max(token - _FIRST_WORD, 2)) for token in shared)
        if worth > found + 1e-6:
            best, found = start, worth
    return best


class PairEncoder:
    """Query and passage to ids and token types, cut to a window.

    The passage's first line, which names path and symbol, always stays; of a longer text the part
    that shares most with the query follows.

    Args:
        tokenizer_file: A `tokenizer.json`.
        window: Tokens a pair holds at most.
        choose: Whether to choose the part of a long text; else its beginning is taken.
    """

    def __init__(self, tokenizer_file: Path, window: int, *, choose: bool = True) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._cls, self._sep = self._tokenizer.encode("").ids  # An empty text is [CLS] [SEP].
        self._window, self._choose = window, choose

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[Encoding] = self._tokenizer.encode_batch(
            [text[:6000] for text in texts], add_special_tokens=False
        )
        return [list(encoding.ids) for encoding in found]

    def __call__(self, query: str, texts: Sequence[str]) -> list[tuple[list[int], int]]:
        """Encode one query against texts.

        Returns:
            Per text the ids and how many of them belong to the query's segment.
        """
        asked = self._plain([query])[0][:QUERY_TOKENS]
        head: list[int] = [self._cls, *asked, self._sep]
        room = max(self._window - len(head) - 1, 1)
        lines = [text.partition("\n") for text in texts]
        names = self._plain([name for name, _, _ in lines])
        bodies = self._plain([body for _, _, body in lines])
        pairs: list[tuple[list[int], int]] = []
        for name, body in zip(names, bodies, strict=True):
            if self._choose and len(name) <= min(HEADER_TOKENS, room // 2):
                left = room - len(name)
                start = best_window(set(asked), body, left)
                ids = [*name, *body[start : start + left]]
            else:
                ids = [*name, *body][:room]
            pairs.append(([*head, *ids, self._sep], len(head)))
        return pairs


def padded(
    pairs: Sequence[tuple[list[int], int]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, token types and mask, each (n, longest)."""
    width = max(len(ids) for ids, _ in pairs)
    ids = torch.zeros(len(pairs), width, dtype=torch.long)
    types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (tokens_, head) in enumerate(pairs):
        size = len(tokens_)
        ids[row, :size] = torch.tensor(tokens_)
        types[row, head:size] = 1
        mask[row, :size] = 1
    return ids, types, mask


@dataclass(frozen=True, slots=True)
class Batch:
    """Groups of one answer and equally many negatives, the answer first.

    Attributes:
        pairs: Ids and length of the first segment, group after group.
        priors: First-stage scores, shape (groups, 1 + negatives).
    """

    pairs: list[tuple[list[int], int]]
    priors: torch.Tensor


def batches(
    groups: Sequence[Group],
    passages: Sequence[Passage],
    encode: PairEncoder,
    *,
    negatives: int,
    size: int,
    seed: int,
) -> Iterator[Batch]:
    """Endless batches of `size` groups, each group `1 + negatives` pairs."""
    draw = random.Random(seed)
    while True:
        order = list(groups)
        draw.shuffle(order)
        for start in range(0, len(order) - size + 1, size):
            pairs: list[tuple[list[int], int]] = []
            priors = []
            for group in order[start : start + size]:
                chosen = pick_negatives(group, negatives, draw)
                pairs += encode(group.query, render_group(group, passages, chosen, draw))
                priors.append([group.priors[0], *(group.priors[1 + place] for place in chosen)])
            yield Batch(pairs, torch.tensor(priors))
