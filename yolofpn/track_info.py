"""What tracking adds to the detections of a frame: trails, and counts at lines and in zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from yolofpn.drawing import Colour, Image, class_colour, draw_tag, line_width_of
from yolofpn.opencv import cv2

Point: TypeAlias = tuple[float, float]  # x, y in pixels
Direction: TypeAlias = Literal["in", "out"]

LINE_COLOUR: Colour = (0, 220, 255)
ZONE_COLOUR: Colour = (255, 160, 0)
ZONE_OPACITY = 0.15


@dataclass(frozen=True)
class ShapeCount:
    """A line or zone, and what was counted at it since its source began.

    Attributes:
        name: shown to people and written to files.
        points: the two ends of a line, or three and more corners of a zone, in pixels.
        entered: objects that crossed the line from its left to its right side, as seen from the first end looking at
            the second; or that came into the zone.
        left: objects that crossed the line the other way, or that went out of the zone.
        inside: track ids in the zone now; empty for a line.
        events: (track id, 'in' or 'out') of this frame.
        by_class: ``entered`` and ``left`` of each class name.
    """

    name: str
    points: tuple[Point, ...]
    entered: int = 0
    left: int = 0
    inside: tuple[int, ...] = ()
    events: tuple[tuple[int, Direction], ...] = ()
    by_class: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def is_line(self) -> bool:
        """Whether it is a line."""
        return len(self.points) == 2

    def to_json(self) -> dict[str, Any]:
        """Its part of a JSON line."""
        values: dict[str, Any] = {"name": self.name, "in": self.entered, "out": self.left}
        if not self.is_line:
            values["inside"] = len(self.inside)
        values["events"] = [{"track_id": track, "direction": direction} for track, direction in self.events]
        return values


@dataclass(frozen=True)
class TrackInfo:
    """State of the tracks of a source at one frame.

    Attributes:
        trails: the last positions of the tracks in this frame (bottom centre of the box), the newest last, by id.
        shapes: lines and zones with their counts.
    """

    trails: Mapping[int, Sequence[Point]]
    shapes: tuple[ShapeCount, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """``lines`` and ``zones`` of a JSON line; keys without any are absent."""
        lines = [shape.to_json() for shape in self.shapes if shape.is_line]
        zones = [shape.to_json() for shape in self.shapes if not shape.is_line]
        return ({"lines": lines} if lines else {}) | ({"zones": zones} if zones else {})

    def without_events(self) -> TrackInfo:
        """The same, for a frame that is shown again."""
        return replace(self, shapes=tuple(replace(shape, events=()) for shape in self.shapes))

    def scaled(self, factor: float) -> TrackInfo:
        """The same for an image that was resized by ``factor``."""
        trails = {track: [(x * factor, y * factor) for x, y in points] for track, points in self.trails.items()}
        shapes = [
            replace(shape, points=tuple((x * factor, y * factor) for x, y in shape.points)) for shape in self.shapes
        ]
        return TrackInfo(trails, tuple(shapes))

    def draw(self, image: Image) -> Image:
        """A copy of ``image`` ([H, W, 3] uint8, BGR) with zones, lines and trails."""
        canvas = np.array(image, order="C")
        width = line_width_of(canvas)
        for shape in self.shapes:
            if not shape.is_line:
                _draw_zone(canvas, shape, width)
        for shape in self.shapes:
            if shape.is_line:
                _draw_line(canvas, shape, width)
        for track, points in self.trails.items():
            if len(points) > 1:
                cv2.polylines(canvas, [_pixels(points)], False, class_colour(track), width, cv2.LINE_AA)
        return canvas


def _pixels(points: Sequence[Point]) -> Any:  # noqa: ANN401
    return np.clip(np.rint(np.asarray(points, np.float64)), -(2**20), 2**20).astype(np.int32)


def _draw_zone(canvas: Image, shape: ShapeCount, width: int) -> None:
    corners = _pixels(shape.points)
    left, top, box_width, box_height = cv2.boundingRect(corners)
    x1, y1 = max(left, 0), max(top, 0)
    part = canvas[y1 : max(top + box_height, 0), x1 : max(left + box_width, 0)]
    if part.size:
        filled = part.copy()
        cv2.fillPoly(filled, [corners - (x1, y1)], ZONE_COLOUR)
        cv2.addWeighted(filled, ZONE_OPACITY, part, 1 - ZONE_OPACITY, 0, dst=part)
    cv2.polylines(canvas, [corners], True, ZONE_COLOUR, width, cv2.LINE_AA)
    text = f"{shape.name}: {len(shape.inside)} inside, {shape.entered} in, {shape.left} out"
    draw_tag(canvas, text, (left, top), ZONE_COLOUR)


def _draw_line(canvas: Image, shape: ShapeCount, width: int) -> None:
    """The line, and at its middle an arrow in the direction that counts as 'in'."""
    first, second = np.asarray(shape.points, np.float64)
    along = second - first
    length = max(float(np.hypot(*along)), 1e-9)
    middle = (first + second) / 2
    right = np.array([-along[1], along[0]]) / length  # of whoever looks from the first end at the second
    tip = middle + right * 8 * width
    start, end, begin, head = [(int(x), int(y)) for x, y in _pixels([first, second, middle, tip])]
    cv2.line(canvas, start, end, LINE_COLOUR, width, cv2.LINE_AA)
    cv2.arrowedLine(canvas, begin, head, LINE_COLOUR, width, cv2.LINE_AA, tipLength=0.4)
    draw_tag(canvas, f"{shape.name}: {shape.entered} in, {shape.left} out", (head[0] + 3 * width, head[1]), LINE_COLOUR)
