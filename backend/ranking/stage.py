"""The stage between retrieval and reranking: signals add to the fused scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from backend.ranking.reading import Stem, read
from backend.ranking.signals import (
    SAME_FILE,
    SAME_FILE_MOST,
    SAME_FILE_WEIGHT,
    SIGNALS,
    Field,
    Signal,
)
from backend.types import Candidates, ScoredChunk

RANKED = 100
"""Retrieved chunks that the signals order; the right place is hardly ever below the best fifty."""
SIGNAL_NAMES = (*(signal.name for signal in SIGNALS), SAME_FILE)
MIN_FILES = 4
"""Files among the candidates below which their names tell nothing: only what tells the chunks of a
file apart counts then."""


@dataclass(frozen=True)
class Rank:
    """Orders candidates by the sum of their fused score and what each signal adds.

    Args:
        stem: The stem of a word as a number, None for stop words; the one that BM25 uses.
        signals: Those that count; none of them leaves the order as retrieved.
        same_file: Whether further hits of a file fall back.
    """

    stem: Stem
    signals: tuple[Signal, ...] = SIGNALS
    same_file: bool = True
    name: str = "rank"

    def without(self, names: Iterable[str]) -> Rank:
        """The same stage without the signals of these names."""
        left_out = set(names)
        return replace(
            self,
            signals=tuple(signal for signal in self.signals if signal.name not in left_out),
            same_file=self.same_file and SAME_FILE not in left_out,
        )

    def __call__(self, candidates: Candidates, /) -> Candidates:
        query, found = candidates.query, candidates.found
        added: list[dict[str, float]] = [{} for _ in found]
        if found:
            self._add(query.sought, found, added)
        scores = [hit.score + sum(one.values()) for hit, one in zip(found, added, strict=True)]
        order = sorted(range(len(found)), key=lambda i: -scores[i])[
            : max(query.top_k, query.candidates)
        ]
        return Candidates(
            query=query,
            found=[
                replace(
                    found[i],
                    score=scores[i],
                    fused_rank=i + 1,
                    signals=added[i],
                    held_back=self._held_back(added[i]),
                )
                for i in order
            ],
        )

    def _held_back(self, added: Mapping[str, float]) -> float:
        """What a chunk loses once more beside a reranker; nothing if the query spells it."""
        if any(signal.spelled and signal.name in added for signal in self.signals):
            return 0.0
        return sum(signal.again * added.get(signal.name, 0.0) for signal in self.signals)

    def _add(
        self, text: str, found: Sequence[ScoredChunk], added: Sequence[dict[str, float]]
    ) -> None:
        field = Field(read(text, self.stem), found, self.stem)
        few = len(field.paths) < MIN_FILES
        for signal in self.signals:
            if few and not signal.within_file:
                continue
            for one, value in zip(added, signal.values(field), strict=True):
                if value:
                    one[signal.name] = signal.weight * value
        if few or not self.same_file:
            return
        above: Counter[tuple[str, str]] = Counter()
        for i in sorted(
            range(len(found)), key=lambda i: -(found[i].score + sum(added[i].values()))
        ):
            further = min(above[field.files[i]], SAME_FILE_MOST)
            if further:
                added[i][SAME_FILE] = SAME_FILE_WEIGHT * further
            above[field.files[i]] += 1
