"""Bounding boxes of rotated rectangles, polygons and run-length encoded masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
NO_BOX: Box = (math.nan,) * 4
_LONGEST_RUNS = 10_000_000  # of one mask: more than one run for every pixel of a large image is no mask


def turned_box(
    box: Sequence[float], degrees: float, size: tuple[int, int] | None = None, *, ellipse: bool = False
) -> Box:
    """Return the axis-aligned bounding box of a rectangle, or of its ellipse, rotated about its centre.

    Args:
        box: xyxy of the rectangle before it is turned.
        degrees: how far; the sense of the rotation makes no difference to the box around it.
        size: (height, width) of the image; what leaves it is cut off, as a turned corner often does.
        ellipse: what is turned is the ellipse in the rectangle.
    """
    x1, y1, x2, y2 = box
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = (x2 - x1) / 2, (y2 - y1) / 2
    together = math.hypot if ellipse else lambda one, other: one + other
    half_width = together(width * cosine, height * sine)
    half_height = together(width * sine, height * cosine)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    # A quarter turn leaves 1e-17 of the cosine: no more digits than any tool writes.
    turned = [round(side, 6) for side in (x - half_width, y - half_height, x + half_width, y + half_height)]
    if size is not None:
        turned = [min(max(side, 0.0), limit) for side, limit in zip(turned, (size[1], size[0]) * 2, strict=True)]
    return turned[0], turned[1], turned[2], turned[3]


def points_box(xs: Sequence[float], ys: Sequence[float]) -> Box:
    """Return the bounding box of points; NaN if there are none."""
    if not len(xs) or len(xs) != len(ys):
        return NO_BOX
    return min(xs), min(ys), max(xs), max(ys)


def segmentation_box(segmentation: object) -> Box:
    """Return the bounding box of a COCO segmentation (polygons or run-length encoded mask); NaN if it is neither."""
    if isinstance(segmentation, dict):
        return _mask_box(segmentation.get("counts"), segmentation.get("size"))
    if not isinstance(segmentation, list) or not segmentation:
        return NO_BOX
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    try:
        values = [[float(value) for value in polygon] for polygon in polygons]
    except (TypeError, ValueError, OverflowError):
        return NO_BOX
    if any(len(polygon) % 2 for polygon in values):
        return NO_BOX
    return points_box([x for polygon in values for x in polygon[::2]], [y for polygon in values for y in polygon[1::2]])


def _mask_box(counts: object, size: object) -> Box:
    """Return the bounding box of a mask in column-major run-length encoding."""
    runs = _compressed_runs(counts) if isinstance(counts, str) else counts
    if not _are_ints(runs) or not _are_ints(size) or len(size) != 2:  # type: ignore[arg-type]
        return NO_BOX
    return runs_box(np.array(runs, dtype=np.int64), int(size[0]), int(size[1]), by_columns=True)  # type: ignore[index]


def _are_ints(values: Any) -> bool:  # noqa: ANN401
    return (
        isinstance(values, list)
        and len(values) <= _LONGEST_RUNS
        and all(isinstance(value, int) and 0 <= value < 2**31 for value in values)
    )


def runs_box(runs: NDArray[np.int64], height: int, width: int, *, by_columns: bool) -> Box:
    """Return the bounding box of a mask.

    Args:
        runs: [R] lengths of runs of background and foreground in turn, background first.
        height: of the mask, in pixels.
        width: likewise.
        by_columns: whether runs go down the columns (COCO) or along the rows (CVAT).

    Returns:
        xyxy between the pixels' outer corners; NaN where no pixel is set or the runs do not fit the size.
    """
    length, lines = (height, width) if by_columns else (width, height)
    ends = np.cumsum(runs)
    starts, stops = (ends - runs)[1::2], ends[1::2]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts) or length < 1 or int(ends[-1]) > length * lines:
        return NO_BOX
    first, last = int(starts[0]) // length, (int(stops[-1]) - 1) // length + 1
    wraps = starts // length != (stops - 1) // length
    low, high = (0, length) if wraps.any() else (int((starts % length).min()), int(((stops - 1) % length).max()) + 1)
    return (first, low, last, high) if by_columns else (low, first, high, last)


def _compressed_runs(text: str) -> list[int] | None:
    """The runs of COCO's compressed form: five bits a character, each run from the third on as a difference."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 40:
            return None
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
