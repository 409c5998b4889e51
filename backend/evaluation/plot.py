"""An evaluation as one SVG: nDCG@10 with its interval, for systems, categories and modes.

Colours come from the page's variables where it stands in the page, and from its own otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from backend.evaluation.intervals import Interval
from backend.evaluation.report import Evaluation, one_line

_WIDTH, _ROW, _HEAD = 760, 26, 44
_LEFT, _RIGHT = 190, 700
"""Where the axis begins and ends; names stand before it, values behind it."""
_NAME_CHARS = 26
_COLOURS = ("same", "embed", "retrieve", "signals", "rerank")
"""Of the systems in the categories' rows, the last system has the last colour."""
_STYLE = """
.plot{--i:var(--ink,#161b22);--m:var(--muted,#5a6472);--l:var(--line,#e3e6eb);--a:var(--accent,#1f5fe0);
--c-same:var(--same,#9aa4b1);--c-embed:var(--embed,#4c8df6);--c-retrieve:var(--retrieve,#14a38b);
--c-signals:#dd9220;--c-rerank:var(--rerank,#8c5ae0);font:13px system-ui,sans-serif}
.plot text{fill:var(--i)}.plot .m{fill:var(--m);font-size:12px}.plot .h{font-weight:650}
.plot .g{stroke:var(--l)}.plot .w{stroke:var(--a);stroke-width:2}.plot .d{fill:var(--a)}
"""
_DARK = """
@media (prefers-color-scheme:dark){.alone{
--ink:#e6eaf0;--muted:#9aa5b3;--line:#2a323d;--accent:#6ea3ff;
--same:#5f6b7a;--embed:#5b97f7;--retrieve:#2cc4aa;--rerank:#a57bf0;background:#0d1117}}
"""


def to_svg(evaluation: Evaluation, *, alone: bool = True) -> str:
    """Draw it.

    Args:
        evaluation: What was found.
        alone: Whether it is a file of its own, which has to know dark mode itself.
    """
    drawing = _Drawing()
    drawing.intervals("Systems", [(s.name, s.interval) for s in evaluation.systems])
    if evaluation.categories:
        names = [s.name for s in evaluation.systems]
        rows = [
            (f"{category} ({count})", [s.categories[category] for s in evaluation.systems])
            for category, count in evaluation.categories.items()
        ]
        drawing.dots("By category", names, rows)
    if evaluation.modes:
        drawing.intervals(
            "Quantization",
            [(f"{m.mode}{', rescored' if m.rescored else ''}", m.ndcg) for m in evaluation.modes],
        )
    return drawing.svg(alone=alone)


class _Drawing:
    """Sections one below the other, each with an axis of its own."""

    def __init__(self) -> None:
        self._y = 0
        self._parts: list[str] = []

    def intervals(self, title: str, rows: Sequence[tuple[str, Interval]]) -> None:
        """A dot for each mean and a line for its interval."""
        low = min(interval.low for _, interval in rows)
        high = max(interval.high for _, interval in rows)
        axis = self._section(title, low, high, len(rows))
        for name, interval in rows:
            y = self._row(name)
            self._parts.append(
                f'<line class="w" x1="{axis(interval.low):.1f}" x2="{axis(interval.high):.1f}"'
                f' y1="{y}" y2="{y}"/><circle class="d" cx="{axis(interval.mean):.1f}" cy="{y}"'
                f' r="4.5"/>'
            )
            self._text(_RIGHT + 14, y, f"{interval.mean:.3f}")
        self._y += 14

    def dots(
        self, title: str, systems: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]
    ) -> None:
        """A dot for each system in every row, and what each colour means."""
        colours = [*_COLOURS[: len(systems) - 1], _COLOURS[-1]]
        values = [value for _, row in rows for value in row]
        axis = self._section(title, min(values), max(values), len(rows))
        for name, row in rows:
            y = self._row(name)
            for colour, value in zip(colours, row, strict=False):
                self._parts.append(_dot(axis(value), y, colour))
        self._y += _ROW
        x = float(_LEFT)
        for colour, name in zip(colours, systems, strict=False):
            self._parts.append(_dot(x, self._y - 4, colour))
            self._text(x + 10, self._y - 4, name, "m")
            x += 34 + 6.5 * len(name)
        self._y += 18

    def svg(self, *, alone: bool) -> str:
        """The whole drawing."""
        kind, dark = ("plot alone", _DARK) if alone else ("plot", "")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}"'
            f' viewBox="0 0 {_WIDTH} {self._y}" role="img"'
            f' aria-label="nDCG@10 of each system"><style>{_STYLE}{dark}</style>'
            f"{''.join(self._parts)}</svg>"
        )

    def _section(self, title: str, low: float, high: float, rows: int) -> _Axis:
        axis = _Axis(low, high)
        self._text(0, self._y + 18, title, "h")
        bottom = self._y + _HEAD + rows * _ROW
        for tick in axis.ticks:
            x = axis(tick)
            self._parts.append(
                f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="{self._y + 28}" y2="{bottom}"/>'
            )
            self._text(x, self._y + 18, f"{tick:.1f}", "m", anchor="middle")
        self._y += _HEAD
        return axis

    def _row(self, name: str) -> int:
        y = self._y + _ROW // 2
        short = name if len(name) <= _NAME_CHARS else name[: _NAME_CHARS - 1] + "…"
        self._text(_LEFT - 14, y, short, anchor="end")
        self._y += _ROW
        return y

    def _text(
        self, x: float, y: float, text: str, kind: str = "t", *, anchor: str = "start"
    ) -> None:
        self._parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y}" dy=".35em" text-anchor="{anchor}">'
            f"{escape(one_line(text))}</text>"
        )


class _Axis:
    """From values to places, over the tenths around them."""

    def __init__(self, low: float, high: float) -> None:
        first = max(math.floor(low * 10 - 1e-6), 0)
        last = min(max(math.ceil(high * 10 + 1e-6), first + 1), 10)
        first = min(first, last - 1)
        self.ticks = [tenth / 10 for tenth in range(first, last + 1)]

    def __call__(self, value: float) -> float:
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return _LEFT + share * (_RIGHT - _LEFT)


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="var(--c-{colour})" fill-opacity=".85"/>'
