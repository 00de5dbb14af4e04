"""Alternate timing of several functions, and their statistics.

On a machine that others use too, one thing's time says little. Here all that is compared takes turns in the same
rounds, so that what slows one slows the others as well, and their ratios hold.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """The measured times of one function, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the times are shorter."""
        return self.percentile(50)

    @property
    def best(self) -> float:
        """The shortest: what the machine can do when nothing else is going on."""
        return min(self.seconds)

    def percentile(self, percent: float) -> float:
        """See ``percentile``."""
        return percentile(self.seconds, percent)

    def to_json(self) -> dict[str, float | int]:
        """p50, p95, p99 and the best time, in milliseconds, and of how many they are."""
        return {
            "p50_ms": 1e3 * self.median,
            "p95_ms": 1e3 * self.percentile(95),
            "p99_ms": 1e3 * self.percentile(99),
            "best_ms": 1e3 * self.best,
            "count": len(self.seconds),
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of ``values`` lie, linear between neighbours (NumPy's default).

    Raises:
        ValueError: if there are no values, or ``percent`` is not in [0, 100].
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"no {percent} % percentile of {len(values)} values")
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def interleave(tasks: Mapping[Key, Callable[[], Sequence[float]]], rounds: int) -> dict[Key, Timing]:
    """Let every task have its turn in each round, in every second round in reversed order.

    There and back again, so that a machine that becomes steadily slower, or faster, slows all alike.

    Args:
        tasks: each does its work, once or a few times, and returns the seconds that each time took.
        rounds: how often.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in tasks}
    for number in range(rounds):
        keys = list(tasks)
        for key in keys if number % 2 == 0 else reversed(keys):
            seconds[key].extend(tasks[key]())
    return {key: Timing(tuple(values)) for key, values in seconds.items()}


def timed(function: Callable[[], object], seconds: float, at_least: int = 3) -> list[float]:
    """Time calls of ``function`` for ``seconds``, at least ``at_least`` times."""
    function()  # once for the caches
    taken: list[float] = []
    start = time.perf_counter()
    while len(taken) < at_least or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        function()
        taken.append(time.perf_counter() - before)
    return taken
