"""IoU of all pairs of detections and objects of a data set.

Shapes: D detections and M objects of all images together, P pairs that overlap enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolofpn.evaluation.table import Bools, EvaluationTable, Floats, Ints

DETECTIONS_AT_ONCE = 1 << 14  # bounds the memory for the pairs under examination


@dataclass(frozen=True)
class Overlaps:
    """Pairs of a detection and an object of the same image and class.

    Attributes:
        detections: [P] row in the table's detections, ascending.
        objects: [P] row in the table's objects.
        ious: [P].
    """

    detections: Ints
    objects: Ints
    ious: Floats

    def __len__(self) -> int:
        return len(self.ious)

    def where(self, keep: Bools) -> Overlaps:
        """Return the pairs for which ``keep`` [P] is true."""
        return Overlaps(self.detections[keep], self.objects[keep], self.ious[keep])


def find_overlaps(table: EvaluationTable, min_iou: float, *, crowd_rule: bool) -> Overlaps:
    """Find the pairs of the same image and class with an IoU of at least ``min_iou`` (> 0).

    Args:
        table: detections and objects.
        min_iou: smallest IoU of interest.
        crowd_rule: the overlap with an ignored object is the intersection divided by the detection's own area,
            as COCO does with crowds, because a crowd's region is larger than any of its members.
    """
    detection_groups, object_groups = table.detection_groups, table.object_groups
    first = np.searchsorted(object_groups, detection_groups, side="left")
    count = np.searchsorted(object_groups, detection_groups, side="right") - first
    whole_area = ~table.objects.ignore if crowd_rule else np.ones(len(table.objects), dtype=bool)
    parts = []
    for start in range(0, max(len(table.detections), 1), DETECTIONS_AT_ONCE):
        rows = slice(start, start + DETECTIONS_AT_ONCE)
        detections, objects = _all_pairs(first[rows], count[rows])
        detections += start
        ious = _pairwise_iou(table.detections.boxes[detections], table.objects.boxes[objects], whole_area[objects])
        parts.append(Overlaps(detections, objects, ious).where(ious >= min_iou))
    return Overlaps(
        np.concatenate([part.detections for part in parts]),
        np.concatenate([part.objects for part in parts]),
        np.concatenate([part.ious for part in parts]),
    )


def best_pairs(overlaps: Overlaps) -> Overlaps:
    """Return the pair of highest IoU of each detection; the first object in case of ties."""
    order = np.lexsort((overlaps.objects, -overlaps.ious, overlaps.detections))
    _, first = np.unique(overlaps.detections[order], return_index=True)
    best = order[first]
    return Overlaps(overlaps.detections[best], overlaps.objects[best], overlaps.ious[best])


def first_claims(objects: Ints) -> Bools:
    """Return [P]: whether an object occurs for the first time; with pairs by descending score, its best detection."""
    claims = np.zeros(len(objects), dtype=bool)
    claims[np.unique(objects, return_index=True)[1]] = True
    return claims


def _all_pairs(first: Ints, count: Ints) -> tuple[Ints, Ints]:
    """Detection d goes with the ``count[d]`` objects from ``first[d]`` on -> both indices of each pair."""
    detections = np.repeat(np.arange(len(count)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return detections, first[detections] + within


def _pairwise_iou(detections: Floats, objects: Floats, whole_area: Bools) -> Floats:
    """[P, 4], [P, 4] -> [P]; the object's area counts only where ``whole_area``.

    The order of operations is that of pycocotools' ``bbIou``, so that equal boxes give equal bits.
    """
    low = np.maximum(detections[:, :2], objects[:, :2])
    high = np.minimum(detections[:, 2:], objects[:, 2:])
    sides = np.maximum(high - low, 0)
    intersection = sides[:, 0] * sides[:, 1]
    own_areas = _areas(detections)
    union = np.where(whole_area, own_areas + _areas(objects) - intersection, own_areas)
    ious: Floats = np.divide(intersection, union, out=np.zeros_like(intersection), where=intersection > 0)
    return ious


def _areas(boxes: Floats) -> Floats:
    areas: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas
