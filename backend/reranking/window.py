"""Which part of a long chunk the cross-encoder reads."""

from __future__ import annotations

import math
from collections.abc import Sequence

_COMMON_BELOW = 1_996
"""In BERT's uncased vocabulary, sorted by frequency after its characters, ids from here on are
words; the lower ones are punctuation, digits and letters."""


def best_window(body: Sequence[int], query: Sequence[int], *, size: int) -> Sequence[int]:
    """Choose the stretch of `size` tokens that holds most of the query's words, rare ones first.

    Args:
        body: Token ids of a passage.
        query: Token ids of the query.
        size: Tokens that there is room for.

    Returns:
        All of `body` if it fits; else the first of the best windows, in steps of a quarter.
    """
    if len(body) <= size:
        return body
    weights = {id: math.log(id - _COMMON_BELOW + 2) for id in query if id >= _COMMON_BELOW}
    step = max(size // 4, 1)
    starts = [*range(0, len(body) - size, step), len(body) - size]

    def worth(start: int) -> float:
        held = weights.keys() & set(body[start : start + size])
        return sum(weights[id] for id in held)

    best = max(starts, key=lambda start: (worth(start), -start))
    return body[best : best + size]
