"""Graphs for several sizes of input, as many as memory should hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")
Size = tuple[int, int]

KEPT_SIZES = 6  # each may hold all numbers of the network once more


class NewestSizes(Generic[Value]):
    """What was made for each (height, width), of the sizes that were asked for last.

    Args:
        make: called for a size that is not, or no longer, there.
    """

    def __init__(self, make: Callable[[Size], Value]) -> None:
        self._make = make
        self._made: OrderedDict[Size, Value] = OrderedDict()

    def __getitem__(self, size: Size) -> Value:
        if size not in self._made:
            self._made[size] = self._make(size)
            if len(self._made) > KEPT_SIZES:
                self._made.popitem(last=False)
        self._made.move_to_end(size)
        return self._made[size]
