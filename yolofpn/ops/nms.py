"""Greedy non-maximum suppression, exact and without limits on time or number.

The boxes of one label are visited by descending score; a box is kept unless its IoU with one kept before exceeds the
threshold (``batched_nms`` can subtract a term of their distance first, as Darknet does). All labels advance together:
the best undecided boxes are compared with every later box that is near enough (``near_boxes.py``), and the pairs
that overlap are visited by the score of the better box.

Whether a box is kept depends on those kept before it: serial work on little data. It is done in NumPy, since a
handful of transfers from a GPU (``tensor_nms.py``) costs less than many small kernels, and in float64, in which the
areas of float32 boxes neither overflow nor round noticeably.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolofpn.errors import NaNOutputError
from yolofpn.ops.near_boxes import NearBoxes, Runs
from yolofpn.types import Arrays, to_array

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

# These set the speed, never the result: how many pairs are compared at once, so that they stay in the CPU's cache; how
# many boxes are settled among themselves first; from how many on a look-up costs less than comparing all; the part of
# the boxes in a grid that must be undecided, or a new grid is made of those that are; and how often pairs are settled
# together before the rest is settled one by one.
PAIRS_AT_ONCE = 1 << 14
FEW = 64
MANY = 192
UNDECIDED = 0.6
ROUNDS = 4


class _Rule(NamedTuple):
    thresh: float
    distance_exponent: float | None


def nms(boxes: Arrays, scores: Arrays, nms_thresh: float) -> Indices:
    """Drop every box that overlaps a better one.

    Args:
        boxes: [N, 4] xyxy.
        scores: [N].
        nms_thresh: in [0, 1]; boxes of a larger IoU are taken for the same object.

    Returns:
        Indices of the boxes kept, int64, by descending score, equal scores by ascending index.

    Raises:
        NaNOutputError: if a box or a score is NaN.
        ValueError: if shapes do not match, or the threshold is out of range.
    """
    scores = to_array(scores)
    return batched_nms(boxes, scores, np.zeros(scores.shape, np.int64), nms_thresh)


def batched_nms(
    boxes: Arrays,
    scores: Arrays,
    labels: Arrays,
    nms_thresh: float,
    distance_exponent: float | None = None,
) -> Indices:
    """Drop every box that overlaps a better one of its own label: ``nms`` of each label, sorted together.

    Args:
        boxes: [N, 4] xyxy.
        scores: [N].
        labels: [N] integers.
        nms_thresh: in [0, 1]; boxes of a larger IoU are taken for the same object.
        distance_exponent: if given, IoU - (d^2 / c^2) ** distance_exponent takes the place of IoU, where d is the
            distance of the centres and c the diagonal of the smallest box around both (DIoU, arXiv 1911.08287).

    Returns:
        Indices of the boxes kept, int64, by descending score, equal scores by ascending index.

    Raises:
        NaNOutputError: if a box or a score is NaN.
        ValueError: if shapes do not match, or the threshold is out of range.
    """
    boxes, scores, labels = to_array(boxes), to_array(scores), to_array(labels)
    count = len(boxes)
    if boxes.shape != (count, 4) or scores.shape != (count,) or labels.shape != (count,):
        shapes = ", ".join(str(list(array.shape)) for array in (boxes, scores, labels))
        raise ValueError(f"boxes, scores and labels must be [N, 4], [N] and [N], got {shapes}")
    if not 0 <= nms_thresh <= 1:
        raise ValueError(f"nms_thresh must be in [0, 1], got {nms_thresh}")
    exact_boxes, exact_scores = boxes.astype(np.float64), scores.astype(np.float64)
    if np.isnan(exact_boxes).any() or np.isnan(exact_scores).any():
        raise NaNOutputError
    by_score = np.argsort(-exact_scores, kind="stable")
    # Infinite and empty boxes divide by zero or subtract infinities: their IoU is NaN, which exceeds no threshold.
    with np.errstate(all="ignore"):
        search = _Search(exact_boxes[by_score], labels[by_score], _Rule(nms_thresh, distance_exponent))
        return by_score[search.run()]


class _Search:
    """The suppression of boxes [N, 4], sorted by descending score, with their labels [N]."""

    def __init__(self, boxes: Floats, labels: Indices, rule: _Rule) -> None:
        self._labels: Indices = labels.astype(np.int64, copy=False)
        self._rule = rule
        self._table = np.empty((5, len(boxes)))  # x1, y1, x2, y2, area
        self._table[:4] = boxes.T
        self._table[4] = np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
        self._flags = bytearray(b"\1") * len(boxes)  # which are kept; Python reads bytes faster than array elements
        self._kept: Mask = np.frombuffer(self._flags, bool)

    def run(self) -> Mask:
        """Return [N]: whether each box is kept."""
        undecided = np.flatnonzero((self._table[4] > 0) & (self._table[4] < np.inf))  # others overlap nothing
        while len(undecided) > 1:
            # In a crowd most of the best suppress each other, and need not be compared with the others.
            best, others = undecided[:FEW], undecided[FEW:]
            place = np.arange(len(best))
            self._settle(Runs(best, place + 1, len(best) - 1 - place), best, self._table.take(best, axis=1))
            if len(undecided) > MANY:
                undecided = self._decide_near(undecided)
            else:
                best = best[self._kept[best]]
                all_others = np.full(len(best), len(others))
                self._settle(Runs(best, 0 * all_others, all_others), others, self._table.take(others, axis=1))
                undecided = others[self._kept[others]]
        return self._kept

    def _decide_near(self, boxes: Indices) -> Indices:
        """Decide the best of ``boxes`` [W], until a grid of the others pays off; return those still undecided."""
        near = NearBoxes(self._table[:, boxes], self._labels[boxes], self._rule.thresh)
        order = boxes[near.order]
        crowded = np.count_nonzero(self._kept[boxes[:FEW]]) < FEW / 2
        decided, asked = 0, FEW if crowded else 16 * FEW
        while decided < len(boxes):
            end = min(decided + asked, len(boxes))
            queries = decided + np.flatnonzero(self._kept[boxes[decided:end]])
            if len(queries):
                runs = near.runs(queries)
                fitting = runs.fitting(PAIRS_AT_ONCE)
                end = end if fitting is runs else int(fitting.box[-1]) + 1
                self._settle(fitting._replace(box=boxes[fitting.box]), order, near.table)
            asked = 4 * (end - decided) + FEW
            decided = end
            others = boxes[decided:]
            undecided = others[self._kept[others]]
            if len(undecided) < UNDECIDED * len(others) or len(undecided) < UNDECIDED**3 * len(boxes):
                return undecided
        return boxes[:0]

    def _settle(self, runs: Runs, order: Indices, table: Floats) -> None:
        """Suppress every box that one of ``runs``, kept so far, precedes and overlaps.

        Args:
            runs: of boxes by descending score, which no box but one of them can suppress any more.
            order: [W] the list of boxes that they are runs of.
            table: [5, W] of these.
        """
        ends = np.cumsum(runs.length)
        place = np.arange(ends[-1] if len(ends) else 0)
        place += np.repeat(runs.start - ends + runs.length, runs.length)
        better, worse = np.repeat(runs.box, runs.length), order.take(place, mode="clip")
        # Half of the pairs are the other way round, and in a crowd most boxes are suppressed already.
        open_pairs = np.flatnonzero((worse > better) & self._kept.take(worse, mode="clip"))
        better, worse = better.take(open_pairs, mode="clip"), worse.take(open_pairs, mode="clip")
        place = place.take(open_pairs, mode="clip")
        iou = _iou(self._table.take(better, axis=1, mode="clip"), table.take(place, axis=1, mode="clip"))
        hits = np.flatnonzero(iou > self._rule.thresh)
        better, worse = better[hits], worse[hits]
        same = self._labels[better] == self._labels[worse]
        better, worse = better[same], worse[same]
        if self._rule.distance_exponent is not None:
            # The distance only lowers the IoU: few pairs are left to look at.
            term = _distance_term(self._table[:, better], self._table[:, worse], self._rule.distance_exponent)
            near = iou[hits[same]] - term > self._rule.thresh
            better, worse = better[near], worse[near]
        self._suppress(better, worse)

    def _suppress(self, better: Indices, worse: Indices) -> None:
        """Suppress every one of ``worse`` [P] whose ``better`` [P], by descending score, is kept."""
        for _ in range(ROUNDS):
            if len(better) < FEW:
                break
            # A box that no pair can suppress is kept, so what it overlaps is not, and overlaps nothing any more.
            self._kept[worse] = False
            certain = self._kept.take(better, mode="clip")
            self._kept[worse] = True
            self._kept[worse[certain]] = False
            left = np.flatnonzero(self._kept.take(better, mode="clip") & self._kept.take(worse, mode="clip"))
            better, worse = better.take(left, mode="clip"), worse.take(left, mode="clip")
        flags = self._flags
        for one, other in zip(better.tolist(), worse.tolist(), strict=True):
            if flags[one]:
                flags[other] = 0


def _iou(first: Floats, second: Floats) -> Floats:
    """IoU of P pairs of boxes, two tables [5, P] -> [P]; in place, for memory traffic is what it costs."""
    width = np.minimum(first[2], second[2])
    near_side = np.maximum(first[0], second[0])
    width -= near_side
    np.maximum(width, 0, out=width)
    height = np.minimum(first[3], second[3])
    height -= np.maximum(first[1], second[1], out=near_side)
    intersection = np.multiply(width, height, out=width)  # a negative one is no overlap either
    union = np.add(first[4], second[4], out=height)
    union -= intersection
    iou: Floats = np.divide(intersection, union, out=intersection)
    return iou


def _distance_term(first: Floats, second: Floats, exponent: float) -> Floats:
    """(d^2 / c^2) ** exponent of P pairs of boxes, two tables [5, P] -> [P]; 0 where c is."""
    distance = ((first[:2] + first[2:4] - second[:2] - second[2:4]) ** 2).sum(axis=0) / 4
    sides = np.maximum(first[2:4], second[2:4]) - np.minimum(first[:2], second[:2])
    diagonal = (sides**2).sum(axis=0)
    return np.where(diagonal == 0, 0.0, (distance / diagonal) ** exponent)
