"""Ranks what a detector and the labels of a data set disagree on: suspected label errors first.

For each label the evidence is the best score of a detection of its class at its place, down to low scores; against it
speaks a detection of another class there, or one of its class beside it. Where no label is, an unmatched detection
speaks for a missing one. All are weighted by how far the detector can be trusted with that class on this data set, as
in confident learning (Northcutt et al., 2021), which compares each score with the average of its class.

Shapes: D detections and M objects of all images together, P pairs of them, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from yolofpn.evaluation.overlap import Overlaps, find_overlaps
from yolofpn.evaluation.table import Bools, DetectionTable, EvaluationTable, Floats, Ints, ObjectTable

MIN_IOU = 0.5  # of a box at the same place
BESIDE_IOU = 0.15  # of a box that may be the same object, badly placed
_PRIOR = 3.0  # scores that each class is given of the average of all classes
_INVENTED = 0.7  # that nothing is detected says less than what is


class Mistake(StrEnum):
    """What is wrong, if the detector is right."""

    MISSED = "missing label"
    RENAMED = "wrong class"
    MOVED = "badly placed"
    INVENTED = "no such object"


@dataclass(frozen=True)
class Suggestion:
    """A disagreement.

    Attributes:
        kind: what is wrong with the labels, if the detector is right.
        suspicion: how probably it is so, from 0 to 1; good for ordering only.
        image_id: the data set's id of the image.
        label: the class of the label; None where there is none.
        box: of the label, xyxy in pixels.
        detected_label: the class that was detected; None where nothing was.
        detected_box: where.
        score: of the detection.
        iou: of both boxes.
    """

    kind: Mistake
    suspicion: float
    image_id: int
    label: int | None = None
    box: tuple[float, ...] | None = None
    detected_label: int | None = None
    detected_box: tuple[float, ...] | None = None
    score: float = 0.0
    iou: float = 0.0


def find_mistakes(table: EvaluationTable, report_thresh: float = 0.05) -> list[Suggestion]:
    """All disagreements, the most suspicious first; at most one for each label and each place without one.

    Args:
        table: detections down to a low score, and objects; ignore regions are no objects, and nothing is missing there.
        report_thresh: the lowest score of a detection that speaks for a missing label.
    """
    ranking = _Ranking(table)
    found = [*ranking.of_labels(), *ranking.missing(report_thresh)]
    return sorted(found, key=lambda each: -each.suspicion)


class _Ranking:
    def __init__(self, table: EvaluationTable) -> None:
        self.ids = table.image_ids
        self.found: DetectionTable = table.detections.best_first()
        self.objects: ObjectTable = table.objects
        pairs = find_overlaps(table.class_agnostic(), BESIDE_IOU, crowd_rule=True)
        on_ignored = self.objects.ignore[pairs.objects]
        self.ignored = np.zeros(len(self.found), dtype=np.bool_)
        self.ignored[pairs.detections[on_ignored & (pairs.ious > MIN_IOU)]] = True
        self.pairs: Overlaps = pairs.where(~on_ignored)
        self.same: Bools = self.found.labels[self.pairs.detections] == self.objects.labels[self.pairs.objects]
        here = self.pairs.ious >= MIN_IOU
        self.owner = self._owners(here & self.same)
        self.own = self._best(here & self.same)[0]
        self.trust, self.expected, self.confusion = self._trust(table.num_classes, here)

    def _owners(self, which: Bools) -> Ints:
        """[D] the object that each detection finds first, one for each object; -1 for all others."""
        owner, taken = np.full(len(self.found), -1, dtype=np.int64), set[int]()
        rows = np.flatnonzero(which)
        scores = self.found.scores[self.pairs.detections[rows]]
        for row in rows[np.lexsort((-self.pairs.ious[rows], -scores))].tolist():
            detection, thing = int(self.pairs.detections[row]), int(self.pairs.objects[row])
            if owner[detection] < 0 and thing not in taken:
                owner[detection] = thing
                taken.add(thing)
        return owner

    def _best(self, which: Bools, weights: Floats | None = None) -> tuple[Floats, Ints]:
        """[M] the highest score of each object's pairs ``which``, times ``weights`` [P], and the pair; 0 and -1."""
        scores = self.found.scores[self.pairs.detections] * (1.0 if weights is None else weights)
        best, pair = np.zeros(len(self.objects)), np.full(len(self.objects), -1, dtype=np.int64)
        rows = np.flatnonzero(which)
        rows = rows[np.argsort(scores[rows], kind="stable")]  # of several assignments the last one counts
        best[self.pairs.objects[rows]] = scores[rows]
        pair[self.pairs.objects[rows]] = rows
        return best, pair

    def _trust(self, classes: int, here: Bools) -> tuple[Floats, Floats, Floats]:
        """[C] share of the scores of a class that labels confirm, [C] its usual evidence, [C, C] confusions."""
        labels, scores = self.found.labels, self.found.scores * ~self.ignored
        right = np.bincount(labels, scores * (self.owner >= 0), classes)
        near = np.zeros(len(self.found), dtype=np.bool_)
        near[self.pairs.detections[self.same]] = True  # a second box of a labelled object is no invention
        counted = np.bincount(labels, scores * ((self.owner >= 0) | ~near), classes)
        overall = right.sum() / max(counted.sum(), 1e-9)
        trust = (right + _PRIOR * overall) / (counted + _PRIOR)
        kept = ~self.objects.ignore
        sums = np.bincount(self.objects.labels[kept], self.own[kept], classes)
        counts = np.bincount(self.objects.labels[kept], minlength=classes)
        average = self.own[kept].mean() if kept.any() else 0.0
        expected = (sums + _PRIOR * average) / (counts + _PRIOR)
        confusion = np.zeros((classes, classes))
        rows = np.flatnonzero(here & ~self.same)
        pairs = (self.objects.labels[self.pairs.objects[rows]], self.found.labels[self.pairs.detections[rows]])
        np.add.at(confusion, pairs, self.found.scores[self.pairs.detections[rows]])
        return trust, expected, confusion / (counts[:, None] + _PRIOR)

    def _expected_by_size(self) -> Floats:
        """[M] evidence that objects of this class and about this size usually have."""
        kept = ~self.objects.ignore
        sizes = np.log2(np.maximum(self.objects.areas, 1.0)) / 2
        order = np.flatnonzero(kept)[np.argsort(sizes[kept], kind="stable")]
        expected = np.zeros(len(self.objects))
        average = max(float(self.own[kept].mean()) if kept.any() else 0.0, 1e-9)
        half = max(10, len(order) // 20)
        sums = np.concatenate([[0.0], np.cumsum(self.own[order])])
        for place, row in enumerate(order.tolist()):
            low, high = max(0, place - half), min(len(order), place + half + 1)
            by_size = (sums[high] - sums[low]) / (high - low)
            by_class = self.expected[self.objects.labels[row]] / average
            expected[row] = min(by_size * by_class**0.5, 1.0)
        return expected

    def of_labels(self) -> Iterator[Suggestion]:
        """The likeliest mistake of each label."""
        things, labels = self.pairs.objects, self.found.labels[self.pairs.detections]
        here = self.pairs.ious >= MIN_IOU
        free = self.owner[self.pairs.detections] < 0
        usual = 1 - np.minimum(self.confusion[self.objects.labels[things], labels], 0.9)
        renamed, other = self._best(here & ~self.same & free, self.trust[labels] * usual)
        distance = 1 - self.pairs.ious
        moved, beside = self._best(~here & self.same & free, self.trust[labels] * np.minimum(distance * 1.3, 1.0))
        expected = self._expected_by_size()
        lacking = np.clip(1 - self.own / np.maximum(expected, 1e-9), 0, 1)
        against = np.clip(1 - self.own, 0, 1)
        for row in np.flatnonzero(~self.objects.ignore).tolist():
            options = [
                (float(renamed[row] * against[row]), Mistake.RENAMED, int(other[row])),
                (float(moved[row] * against[row]), Mistake.MOVED, int(beside[row])),
                (float(_INVENTED * lacking[row] * expected[row]), Mistake.INVENTED, -1),
            ]
            suspicion, kind, pair = max(options, key=lambda option: option[0])
            if suspicion > 0:
                yield self._suggestion(kind, suspicion, row, None if pair < 0 else pair)

    def missing(self, report_thresh: float) -> Iterator[Suggestion]:
        """Unmatched detections away from all labels, one at each place."""
        taken = self.ignored | (self.owner >= 0)
        near = (self.pairs.ious >= MIN_IOU) | self.same
        taken[self.pairs.detections[near]] = True
        rows = np.flatnonzero(~taken & (self.found.scores > report_thresh))
        value = self.found.scores[rows] * self.trust[self.found.labels[rows]]
        shown: dict[int, list[int]] = {}
        for place in np.argsort(-value, kind="stable").tolist():
            row = int(rows[place])
            image = int(self.found.images[row])
            box = self.found.boxes[row]
            if any(_iou(box, self.found.boxes[other]) > MIN_IOU for other in shown.get(image, ())):
                continue
            shown.setdefault(image, []).append(row)
            yield Suggestion(
                Mistake.MISSED,
                float(value[place]),
                int(self.ids[image]),
                detected_label=int(self.found.labels[row]),
                detected_box=tuple(box.tolist()),
                score=float(self.found.scores[row]),
            )

    def _suggestion(self, kind: Mistake, suspicion: float, row: int, pair: int | None) -> Suggestion:
        image_id, label = int(self.ids[self.objects.images[row]]), int(self.objects.labels[row])
        box = tuple(self.objects.boxes[row].tolist())
        if pair is None:
            return Suggestion(kind, suspicion, image_id, label, box)
        detection = int(self.pairs.detections[pair])
        return Suggestion(
            kind,
            suspicion,
            image_id,
            label,
            box,
            int(self.found.labels[detection]),
            tuple(self.found.boxes[detection].tolist()),
            float(self.found.scores[detection]),
            float(self.pairs.ious[pair]),
        )


def _iou(one: Floats, other: Floats) -> float:
    sides = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0)
    shared = float(sides.prod())
    areas = float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod())
    return shared / (areas - shared) if shared else 0.0
