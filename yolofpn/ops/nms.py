"""Greedy non-maximum suppression, exact and without limits on time or number.

The boxes of one label are visited by descending score; a box is kept unless its IoU with one kept before exceeds the
threshold (``batched_nms`` can subtract a term of their distance first, as Darknet does). All labels advance together,
in rounds: the best waiting boxes of each label (its front) are settled among themselves, then those kept remove what
they overlap from the boxes that wait.

Whether a box is kept depends on those kept before it: serial work on little data. It is done in NumPy, since a
handful of transfers from a GPU (``tensor_nms.py``) costs less than the many small kernels of the rounds, and in
float64, in which the areas of float32 boxes neither overflow nor round noticeably.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolofpn.errors import NaNOutputError
from yolofpn.types import Arrays, to_array

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

# These set the speed, never the result: how many boxes of all labels together, and at least and at most of one
# label, make up the fronts of a round; and how many pairs are compared at once, so that they stay in the CPU's cache.
FRONT_TOTAL = 512
FRONT_MIN = 16
FRONT_MAX = 64
PAIRS_AT_ONCE = 1 << 14


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
    sorted_labels: Indices = labels[by_score]
    by_label = np.argsort(sorted_labels, kind="stable")
    kept = np.empty(count, dtype=bool)
    # Infinite and empty boxes divide by zero or subtract infinities: their IoU is NaN, which exceeds no threshold.
    with np.errstate(all="ignore"):
        # [5, N + 1]: x1, y1, x2, y2 and area; the last column is an empty box, which overlaps nothing.
        table = np.zeros((5, count + 1))
        table[:4, :-1] = exact_boxes[by_score[by_label]].T
        table[4] = np.maximum(table[2] - table[0], 0) * np.maximum(table[3] - table[1], 0)
        kept[by_label] = _keep(table, sorted_labels[by_label], _Rule(nms_thresh, distance_exponent))
    return by_score[kept]


def _keep(table: Floats, labels: Indices, rule: _Rule) -> Mask:
    """Return [N]: whether each box is kept; boxes and ``labels`` [N] are sorted by label, then by descending score."""
    nobody = len(labels)  # the table's empty box
    kept = np.zeros(nobody + 1, dtype=bool)
    waiting = np.arange(nobody)
    while len(waiting):
        segment, rank = _segments(labels[waiting])
        segments = int(segment[-1]) + 1
        size = min(int(rank.max()) + 1, max(FRONT_TOTAL // segments, FRONT_MIN), FRONT_MAX)
        leads = rank < size
        front = np.full((segments, size), nobody)
        front[segment[leads], rank[leads]] = waiting[leads]
        front = np.where(_settle_fronts(table, front, rule), front, nobody)
        kept[front] = True
        waiting, segment = waiting[~leads], segment[~leads]
        if len(waiting):
            waiting = waiting[~_overlap_front(table, waiting, segment, _packed(front, nobody), rule)]
    return kept[:-1]


def _segments(labels: Indices) -> tuple[Indices, Indices]:
    """Sorted labels [W] -> for each box the number of its run of equal labels and its place in that run."""
    begins = np.ones(len(labels), dtype=bool)
    np.not_equal(labels[1:], labels[:-1], out=begins[1:])
    segment = np.cumsum(begins) - 1
    return segment, np.arange(len(labels)) - np.flatnonzero(begins)[segment]


def _settle_fronts(table: Floats, front: Indices, rule: _Rule) -> Mask:
    """Greedy suppression within each row of ``front`` [S, F] -> which are kept [S, F].

    The greedy answer is the only one with kept[j] = not any(overlaps[i, j] and kept[i]): the first box is right after
    one pass of this rule, and each pass makes at least one more right, usually nearly all.
    """
    size = front.shape[1]
    step = max(PAIRS_AT_ONCE // size**2, 1)
    better = ~np.tri(size, dtype=bool)  # [i, j]: i comes before j
    settled = []
    for start in range(0, len(front), step):
        boxes = table[:, front[start : start + step]]  # [5, S, F]
        overlaps = _overlaps(boxes[..., :, None], boxes[..., None, :], rule) & better
        kept, passed = np.zeros(overlaps.shape[:2], dtype=bool), np.ones(overlaps.shape[:2], dtype=bool)
        while not np.array_equal(passed, kept):
            kept, passed = passed, ~np.any(overlaps & passed[..., None], axis=1)
        settled.append(kept)
    return np.concatenate(settled)


def _packed(front: Indices, nobody: int) -> Indices:
    """[S, F] -> [K, S]: each row's boxes, without the gaps that ``nobody`` makes, as a column."""
    rows, columns = np.nonzero(front != nobody)
    place = _segments(rows)[1]
    packed = np.full((int(place.max()) + 1, len(front)), nobody)
    packed[place, rows] = front[rows, columns]
    return packed


def _overlap_front(table: Floats, waiting: Indices, segment: Indices, front: Indices, rule: _Rule) -> Mask:
    """Return [W]: whether each ``waiting`` box [W] overlaps a box of its segment's column of ``front`` [K, S]."""
    overlapping = np.empty(len(waiting), dtype=bool)
    step = max(PAIRS_AT_ONCE // len(front), 1)
    front_boxes = table[:, front]  # [5, K, S]
    for start in range(0, len(waiting), step):
        chunk = slice(start, start + step)
        better = front_boxes if front.shape[1] == 1 else front_boxes.take(segment[chunk], axis=2)  # [5, K, W]
        overlapping[chunk] = _overlaps(better, table[:, None, waiting[chunk]], rule).any(axis=0)
    return overlapping


def _overlaps(boxes1: Floats, boxes2: Floats, rule: _Rule) -> Mask:
    """Overlap > threshold of two tables [5, ...] that broadcast; in place, for memory traffic is what it costs."""
    width = np.minimum(boxes1[2], boxes2[2])
    near_side = np.maximum(boxes1[0], boxes2[0])
    width -= near_side
    np.maximum(width, 0, out=width)
    height = np.minimum(boxes1[3], boxes2[3])
    height -= np.maximum(boxes1[1], boxes2[1], out=near_side)
    intersection = np.multiply(width, height, out=width)  # a negative one is no overlap either
    union = np.add(boxes1[4], boxes2[4], out=height)
    union -= intersection
    iou = np.divide(intersection, union, out=intersection)
    overlaps: Mask = iou > rule.thresh
    if rule.distance_exponent is not None:
        # The distance only lowers the IoU: few pairs are left to look at.
        near = overlaps.copy()
        first, second = (np.broadcast_to(boxes, (5, *near.shape))[:, near] for boxes in (boxes1, boxes2))
        overlaps[near] = iou[near] - _distance_term(first, second, rule.distance_exponent) > rule.thresh
    return overlaps


def _distance_term(first: Floats, second: Floats, exponent: float) -> Floats:
    """(d^2 / c^2) ** exponent of P pairs of boxes, two tables [5, P] -> [P]; 0 where c is."""
    distance = ((first[:2] + first[2:4] - second[:2] - second[2:4]) ** 2).sum(axis=0) / 4
    sides = np.maximum(first[2:4], second[2:4]) - np.minimum(first[:2], second[:2])
    diagonal = (sides**2).sum(axis=0)
    return np.where(diagonal == 0, 0.0, (distance / diagonal) ** exponent)
