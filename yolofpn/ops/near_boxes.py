"""Looks up which boxes may overlap a box by more than a threshold, in a grid of the centres of all boxes.

An IoU above t needs an IoU above t along each axis, and with it centres that are less than
(w1 + w2) / 2 * (1 - t) / (1 + t) apart, where w2 <= w1 / t. So a box needs to be compared only with those whose
centres lie in a window around its own centre, the size of which follows from its own size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

MAX_CELLS = 1 << 16  # whose numbers NumPy sorts by radix
COLUMNS, ROWS = 4.0, 1.5  # cells in half a median window; each row of a window costs a look-up
MARGIN = 1e-6  # by which windows are larger than exact arithmetic needs, because the IoU is rounded
ROUNDING = 1e-15  # of the centres of a box and of its near ones, relative to the largest coordinate of the box
FAR = 64  # at either end of an axis, one box in so many may lie far away from the others, outside of the grid


class Runs(NamedTuple):
    """Boxes [R] and those that each is to be compared with, as runs of a list; a box may have several runs.

    Attributes:
        box: [R] int64, ascending.
        start: [R] int64, where the run of the box begins.
        length: [R] int64, of its run.
    """

    box: Indices
    start: Indices
    length: Indices

    def fitting(self, pairs: int) -> Runs:
        """The runs of the first boxes that make up at most so many pairs together; of one box at least."""
        fitting = int(np.searchsorted(np.cumsum(self.length), pairs, side="right"))
        if fitting == len(self.box):
            return self
        end = int(np.searchsorted(self.box, max(self.box[fitting], self.box[0] + 1)))
        return Runs(self.box[:end], self.start[:end], self.length[:end])


class NearBoxes:
    """The grid.

    Args:
        table: [5, W] of boxes: x1, y1, x2, y2, area, all finite and none empty; at least one box.
        labels: [W].
        thresh: of the IoU.

    Attributes:
        order: [W] indices of the boxes, cell by cell: the list of which ``runs`` are.
        table: [5, W] in that order.
    """

    def __init__(self, table: Floats, labels: Indices, thresh: float) -> None:
        x, y = (_Axis(table[axis], table[axis + 2], thresh) for axis in (0, 1))
        grid = labels - labels.min()  # one for each label
        grids = int(grid.max()) + 1
        if not 0 < grids <= 2 * len(labels):  # the difference may overflow
            names, grid = np.unique(labels, return_inverse=True)
            grids = len(names)
        self._columns = x.divide(COLUMNS, max(MAX_CELLS // grids, 1))
        rows = y.divide(ROWS, max(MAX_CELLS // grids // self._columns, 1))
        self._x, self._y, self._row = x, y, grid * rows
        cell = (self._row + y.cells(y.centre)) * self._columns + x.cells(x.centre)
        cells = grids * rows * self._columns
        self.order = np.argsort(cell.astype(np.uint16) if cells <= MAX_CELLS else cell, kind="stable")
        self.table = table.take(self.order, axis=1, mode="clip")
        self._starts = np.zeros(cells + 1, np.int64)
        np.cumsum(np.bincount(cell, minlength=cells), out=self._starts[1:])

    def runs(self, boxes: Indices) -> Runs:
        """The boxes near each of ``boxes`` [Q], ascending indices, the box itself included."""
        left, right = self._x.window(boxes)
        top, bottom = self._y.window(boxes)
        rows = bottom - top + 1
        ends = np.cumsum(rows)
        query = np.repeat(np.arange(len(boxes)), rows)
        row = np.arange(ends[-1]) + (self._row[boxes] + top - ends + rows).take(query, mode="clip")
        row *= self._columns
        start = self._starts.take(row + left.take(query, mode="clip"), mode="clip")
        row += right.take(query, mode="clip")
        row += 1
        return Runs(boxes.take(query, mode="clip"), start, self._starts.take(row, mode="clip") - start)


class _Axis:
    """The centres of boxes along one axis, and half of the windows in which those of near boxes lie."""

    def __init__(self, low: Floats, high: Floats, thresh: float) -> None:
        side = high - low
        partner = np.minimum(side / thresh, side.max()) if thresh else side.max()
        self.centre = low / 2 + high / 2
        reach = (1 - thresh) / (1 + thresh) * (1 + MARGIN) / 2
        self._half = (side + partner) * reach + side * MARGIN + ROUNDING * np.maximum(np.abs(low), np.abs(high))
        self._origin = self._scale = self._last = 0.0

    def divide(self, cells_of_window: float, most: int) -> int:
        """Divide the range of the centres into cells, so many in half a median window; return how many these are.

        Centres that are far out of the range of all but a few get no cells of their own, because they would leave one
        to all others.
        """
        least, greatest = self.centre.min(), self.centre.max()
        few = len(self.centre) // FAR
        low, high = np.partition(self.centre, (few, len(self.centre) - 1 - few))[[few, -1 - few]]
        if low < high:
            margin = (high - low) / 4
            least, greatest = max(least, low - margin), min(greatest, high + margin)
        self._origin = least
        extent = greatest - least
        sample = self._half[:: max(len(self._half) // 256, 1)]
        half = np.partition(sample, len(sample) // 2)[len(sample) // 2]
        count = int(min(max(cells_of_window * extent / half, 1), most, len(self.centre)))
        self._last = count - 1.0
        self._scale = count / extent if extent > 0 else 0.0
        return count

    def cells(self, centre: Floats) -> Indices:
        """Return the cell of each centre; outside of the range the outermost one."""
        place = (centre - self._origin) * self._scale
        # fmax: where differences overflow, all cells are the first one.
        cells: Indices = np.fmin(np.fmax(place, 0, out=place), self._last, out=place).astype(np.int64)
        return cells

    def window(self, boxes: Indices) -> tuple[Indices, Indices]:
        """Return the first and the last cell of each window."""
        centre, half = self.centre.take(boxes), self._half.take(boxes)
        return self.cells(centre - half), self.cells(centre + half)
