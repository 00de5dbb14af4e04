"""Pyramid levels that a neck builds."""

from __future__ import annotations

from collections.abc import Sequence

TOP_LEVEL = 5


def built_levels(levels: Sequence[int], *, top_down: bool, lateral: bool) -> list[int]:
    """The levels that need modules: those that come out, and with the top-down way all between them and c5.

    Raises:
        ValueError: the switches contradict each other.
    """
    if not levels or list(levels) != sorted(set(levels)):
        raise ValueError(f"levels {list(levels)} must be ascending and without repetition, such as [3, 4, 5]")
    if levels[0] < 2 or levels[-1] > TOP_LEVEL:
        raise ValueError(f"levels {list(levels)} must lie within 2 to {TOP_LEVEL}, those of the backbone")
    if not lateral and not top_down:
        raise ValueError("lateral: false and top_down: false together leave the levels without input")
    if not lateral and levels[0] == TOP_LEVEL:
        raise ValueError(f"lateral: false changes nothing where the only level is {TOP_LEVEL}")
    if top_down and levels[0] == TOP_LEVEL:
        raise ValueError(f"top_down: true has nowhere to go from the only level {TOP_LEVEL}; set it to false")
    return list(range(levels[0], TOP_LEVEL + 1)) if top_down else list(levels)
