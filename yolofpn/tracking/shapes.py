"""Lines that objects cross and zones that they enter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from yolofpn.errors import UserError
from yolofpn.opencv import cv2
from yolofpn.track_info import Direction, Point, ShapeCount

MARGIN = 0.05  # of the side of a square of the box's area: nearer to an edge, no object changes its side
FORGET_SECONDS = 10.0  # after which a track that was not seen is over for sure


@dataclass(frozen=True)
class Shape:
    """A line (two points) or a zone (three and more corners).

    Attributes:
        name: shown to people and written to files.
        points: x, y in pixels; or, if no coordinate is larger than 1, as parts of the image's width and height.

    Raises:
        UserError: the points are too few, not finite, or enclose nothing.
    """

    name: str
    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        flat = [value for point in self.points for value in point]
        if not all(math.isfinite(value) and value >= 0 for value in flat):
            raise UserError(f"{self.name}: coordinates must be numbers from 0 on")
        if len(self.points) < 2 or (len(self.points) == 2 and self.points[0] == self.points[1]):
            raise UserError(f"{self.name}: a line has two different ends: x1,y1,x2,y2")
        if len(self.points) > 2 and cv2.contourArea(np.array(self.points, np.float32)) <= 0:
            raise UserError(f"{self.name}: the corners of a zone enclose no area")

    def in_pixels(self, size: tuple[int, int]) -> tuple[Point, ...]:
        """The points for images of (height, width)."""
        height, width = size
        if max(max(point) for point in self.points) > 1:
            return self.points
        return tuple((x * width, y * height) for x, y in self.points)


@dataclass
class _Settled:
    """Where a track was last seen clearly on one side."""

    point: Point
    inside: bool
    time: float


class Moved(NamedTuple):
    """A track in a frame: its position, how large it is, and its class name."""

    track: int
    point: Point
    size: float
    name: str


@dataclass
class ShapeCounter:
    """Counts the tracks of one source at one shape.

    A track changes its side only where it is ``MARGIN`` of its size beyond the edge, so that boxes that tremble on
    the edge are not counted again and again.
    """

    shape: Shape
    points: tuple[Point, ...]
    _settled: dict[int, _Settled] = field(default_factory=dict)
    _entered: Counter[str] = field(default_factory=Counter)
    _left: Counter[str] = field(default_factory=Counter)

    def resize(self, size: tuple[int, int]) -> None:
        """Continue in frames of another (height, width): what is counted stays, and the tracks start again."""
        self.points = self.shape.in_pixels(size)
        self._settled.clear()

    def update(self, moved: Sequence[Moved], time: float) -> ShapeCount:
        """Count the moves up to this frame."""
        events: list[tuple[int, Direction]] = []
        for each in moved:
            distance = self._distance(each.point)
            before = self._settled.get(each.track)
            if before is not None:
                before.time = time
            if abs(distance) < MARGIN * each.size and before is not None:
                continue
            now = _Settled(each.point, distance > 0, time)
            self._settled[each.track] = now
            if before is not None and before.inside != now.inside and self._passes(before.point, now.point):
                (self._entered if now.inside else self._left)[each.name] += 1
                events.append((each.track, "in" if now.inside else "out"))
        self._settled = {track: seen for track, seen in self._settled.items() if time - seen.time <= FORGET_SECONDS}
        present = {each.track for each in moved}
        inside = tuple(track for track, seen in self._settled.items() if seen.inside and track in present)
        names = sorted({*self._entered, *self._left})
        return ShapeCount(
            self.shape.name,
            self.points,
            self._entered.total(),
            self._left.total(),
            inside if len(self.points) > 2 else (),
            tuple(events),
            {name: (self._entered[name], self._left[name]) for name in names},
        )

    def _distance(self, point: Point) -> float:
        """From the line, positive on the right of whoever looks from its first end to its second; or into the zone."""
        if len(self.points) > 2:
            return float(cv2.pointPolygonTest(np.array(self.points, np.float32), point, measureDist=True))
        (x1, y1), (x2, y2) = self.points
        return ((x2 - x1) * (point[1] - y1) - (y2 - y1) * (point[0] - x1)) / math.hypot(x2 - x1, y2 - y1)

    def _passes(self, before: Point, now: Point) -> bool:
        """Whether the way between two points on both sides of a line leads between its ends; always for a zone."""
        if len(self.points) > 2:
            return True
        first, second = (_side(before, now, end) for end in self.points)
        return first * second <= 0


def _side(first: Point, second: Point, point: Point) -> float:
    return (second[0] - first[0]) * (point[1] - first[1]) - (second[1] - first[1]) * (point[0] - first[0])
