"""Detection in tiles of large images, so that small objects keep their size: the tiles, and how their results merge.

An object that a tile's edge cuts is found in parts. The rule that decides which detections are of one object is the
same for parts, duplicates and everything between: two views (tiles, or the whole image) see the same pixels where they
overlap, so **within that overlap** two boxes of one object agree. Of boxes that agree, one that no edge cuts is kept; a
box whose every view is cut becomes the box around its parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from yolofpn.structures import Detections, Limits

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

EDGE = 0.01  # of a tile's side: boxes that end nearer to its edge are taken to be cut
CUT_WEIGHT = 0.3  # of the score of a cut box, where it is compared with whole ones
SHARED = 0.2  # of the smaller box that the overlap of two boxes must be; slivers say nothing
INSIDE = 0.6  # of a box that lies in one that its tile cannot show as a whole
AGREE = 0.5  # IoU of two boxes of one object where both views see it, at most: the threshold of NMS may be larger
ROWS_AT_ONCE = 512  # of the table of pairs, which would not fit into memory as a whole
SHOWN = 0.7  # of a box that a tile must show to know better what is in it


@dataclass(frozen=True)
class View:
    """A part of an image, or the whole of it.

    Attributes:
        window: x1, y1, x2, y2 in whole pixels.
        image_size: (height, width) of the image.
    """

    window: tuple[int, int, int, int]
    image_size: tuple[int, int]

    @property
    def inner_edges(self) -> tuple[float, float, float, float]:
        """The left, top, right and bottom edge where it is inside the image, infinitely far away where it is not."""
        x1, y1, x2, y2 = self.window
        height, width = self.image_size
        return (
            x1 if x1 > 0 else -math.inf,
            y1 if y1 > 0 else -math.inf,
            x2 if x2 < width else math.inf,
            y2 if y2 < height else math.inf,
        )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        x1, y1, x2, y2 = self.window
        return y2 - y1, x2 - x1

    def cuts(self, boxes: NDArray[np.floating]) -> Mask:
        """[N, 4] xyxy in pixels of the image -> [N] whether an edge of the view within the image cuts them."""
        height, width = self.size
        distance = np.abs(boxes.astype(np.float64) - np.array(self.inner_edges))
        cut: Mask = (distance <= EDGE * np.array([width, height] * 2)).any(axis=1)
        return cut

    def to_image(self, found: Detections) -> Detections:
        """Detections in pixels of the view -> in pixels of the image."""
        x, y = self.window[:2]
        return found if x == y == 0 else replace(found, boxes=found.boxes + np.array([x, y, x, y], np.float32))


def make_views(image_size: tuple[int, int], tile: tuple[int, int], overlap: float) -> list[View]:
    """The whole image, and equal tiles that cover it, if it is larger than one.

    Args:
        image_size: (height, width) of the image.
        tile: (height, width) of a tile.
        overlap: part of a tile, in [0, 1), that it shares with the next one, at least.
    """
    height, width = image_size
    views = [View((0, 0, width, height), image_size)]
    rows, columns = (_starts(*sides, overlap) for sides in zip(image_size, tile, strict=True))
    if len(rows) * len(columns) > 1:
        bottom, right = min(tile[0], height), min(tile[1], width)
        views += [View((x, y, x + right, y + bottom), image_size) for y in rows for x in columns]
    return views


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """First pixels of tiles along one axis, as evenly as possible."""
    if length <= tile:
        return [0]
    step = max(math.floor(tile * (1 - overlap)), 1)
    count = math.ceil((length - tile) / step) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def merge_views(found: Sequence[Detections], views: Sequence[View], limits: Limits) -> Detections:
    """What the views of one image show together, without doubles and parts.

    Args:
        found: in pixels of the image, after NMS within each view.
        views: of each.
        limits: the IoU threshold of NMS, which is also that of agreeing boxes where it is below ``AGREE``, and the
            number of the best that are kept.
    """
    if len(found) == 1:
        return found[0]
    boxes, scores, labels = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("boxes", "scores", "labels")
    )
    number = np.repeat(np.arange(len(found)), [len(part) for part in found])
    windows = np.array([view.window for view in views], np.float64)
    exact = boxes.astype(np.float64)
    cut = np.concatenate([view.cuts(part.boxes) for view, part in zip(views, found, strict=True)])
    kept, merged_boxes, merged_scores = [], exact.copy(), scores.astype(np.float64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        table = _Table(exact[own], windows[number[own]], number[own], cut[own], merged_scores[own])
        for row, box, score in table.merge(min(limits.nms_thresh, AGREE)):
            kept.append(own[row])
            merged_boxes[own[row]], merged_scores[own[row]] = box, score
    rows = np.array(kept, np.int64)
    rows = rows[np.argsort(-merged_scores[rows], kind="stable")][: limits.detections_per_img]
    return replace(
        found[0],
        boxes=merged_boxes[rows].astype(np.float32),
        scores=merged_scores[rows].astype(np.float32),
        labels=labels[rows],
    )


@dataclass
class _Table:
    """The N detections of one class.

    Attributes:
        boxes: [N, 4].
        windows: [N, 4], of the view of each.
        number: [N], of the view of each.
        cut: [N], whether an edge of its view cuts it.
        scores: [N].
    """

    boxes: Floats
    windows: Floats
    number: NDArray[np.int64]
    cut: Mask
    scores: Floats

    def merge(self, thresh: float) -> list[tuple[int, Floats, float]]:
        """Row, box and score of each object."""
        first, other = self._same(thresh)
        ends = np.searchsorted(first, np.arange(len(self.boxes) + 1)).tolist()
        same = other.tolist()
        waiting = [True] * len(self.boxes)
        cut, scores = self.cut.tolist(), self.scores.tolist()
        objects = []
        for row in np.argsort(-self.scores * np.where(self.cut, CUT_WEIGHT, 1.0), kind="stable").tolist():
            if not waiting[row]:
                continue
            waiting[row] = False
            members, todo = [row], [row]
            while todo:
                member = todo.pop()
                found = [each for each in same[ends[member] : ends[member + 1]] if waiting[each]]
                for each in found:
                    waiting[each] = False
                members += found
                if cut[row]:  # parts of one object may lie in a chain
                    todo += [each for each in found if cut[each]]
            box = self.boxes[row]
            if cut[row]:
                parts = self.boxes[[each for each in members if cut[each]]]
                box = np.concatenate([parts[:, :2].min(axis=0), parts[:, 2:].max(axis=0)])
            objects.append((row, box, max(scores[each] for each in members)))
        return objects

    def _same(self, thresh: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of rows, sorted by the first, of which the second is of the same object if the first is kept."""
        first, other = self._overlapping()
        box, boxes = self.boxes[first], self.boxes[other]
        shared = _areas(_clipped(boxes, box))
        region = _clipped(self.windows[other], self.windows[first])
        seen, other_seen = _areas(_clipped(box, region)), _areas(_clipped(boxes, region))
        area, other_area = _areas(box), _areas(boxes)
        agrees = shared / (seen + other_seen - shared) > thresh
        agrees &= shared / np.minimum(area, other_area) > SHARED
        # What a tile finds in an object that it cannot show as a whole.
        inside = (seen < SHOWN * area) & (shared / other_area > INSIDE)
        keep = agrees | inside
        return first[keep], other[keep]

    def _overlapping(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of rows of different views whose boxes overlap, sorted by the first."""
        x1, y1, x2, y2 = self.boxes.T
        pairs = []
        for start in range(0, len(self.boxes), ROWS_AT_ONCE):
            own = slice(start, start + ROWS_AT_ONCE)
            near = self.number[own, None] != self.number
            near &= np.minimum(x2[own, None], x2) > np.maximum(x1[own, None], x1)
            near &= np.minimum(y2[own, None], y2) > np.maximum(y1[own, None], y1)
            pairs.append(np.argwhere(near) + np.array([start, 0]))
        first, other = np.concatenate(pairs).T
        return first, other


def _clipped(boxes: Floats, window: Floats) -> Floats:
    """Boxes [N, 4] clipped to a window [4] or [N, 4]."""
    return np.concatenate(
        [np.maximum(boxes[:, :2], window[..., :2]), np.minimum(boxes[:, 2:], window[..., 2:])], axis=1
    )


def _areas(boxes: Floats) -> Floats:
    areas: Floats = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    return areas
