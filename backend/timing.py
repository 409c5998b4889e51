"""The clock that times stages, and what a stage is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
Value = TypeVar("Value")
Result = TypeVar("Result")


class Stage(Protocol[In, Out]):
    """One step of a search. Holds models, never the state of a query."""

    @property
    def name(self) -> str: ...

    def __call__(self, value: In, /) -> Out: ...


@dataclass(frozen=True, slots=True)
class Step(Generic[Value, Result]):
    """A function as a stage."""

    name: str
    function: Callable[[Value], Result]

    def __call__(self, value: Value, /) -> Result:
        return self.function(value)


class StageClock:
    """Times the stages of one query; stages never time themselves."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}

    def run(self, stage: Stage[Value, Result], value: Value) -> Result:
        """Run a stage and note its wall time in milliseconds under its name."""
        started = time.perf_counter()
        try:
            return stage(value)
        finally:
            self._spent[stage.name] = (time.perf_counter() - started) * 1000

    @property
    def timings(self) -> dict[str, float]:
        """Stage name to milliseconds, in the order run, and their `total`."""
        return {**self._spent, "total": sum(self._spent.values())}
