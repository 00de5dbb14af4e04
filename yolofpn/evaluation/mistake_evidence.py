"""What detections say about the labels of a data set: for each label, and for each place without one.

For a label speaks the best score of a detection of its class at its place; against it speaks a detection of another
class there, or one of its class beside it. Where no label is, an unmatched detection speaks for a missing one. All are
weighted by how far the detector can be trusted with that class on this data set, as in confident learning (Northcutt et
al., arXiv 1911.00068), which compares each score with the average of its class.

Shapes: D detections and M objects of all images together, P pairs of them, C classes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from yolofpn.evaluation.overlap import Overlaps, find_overlaps
from yolofpn.evaluation.table import Bools, DetectionTable, EvaluationTable, Floats, Ints, ObjectTable
from yolofpn.ops.nms import batched_nms

MIN_IOU = 0.5  # of a box at the same place
BESIDE_IOU = 0.15  # of a box that may be the same object, badly placed
INSIDE = 0.7  # of a box that is part of an object
_PRIOR = 3.0  # scores that each class is given of the average of all classes


class Against(NamedTuple):
    """Evidence against each label.

    Attributes:
        scores: [M] of the best detection that speaks against it; 0 where there is none.
        values: [M] the same, as far as it can be trusted.
        rows: [M] of that detection; -1 where there is none.
    """

    scores: Floats
    values: Floats
    rows: Ints


class Evidence:
    """The evidence in a table of detections, down to a low score, and labels; ignore regions are no labels.

    Attributes:
        found: D detections by image and descending score.
        objects: M labels, and ignore regions.
        own: [M] the best score of a detection that confirms the label.
        expected: [M] what labels of this class and about this size usually have of it.
        usual: [C] what labels of the class usually have of it.
        trust: [C] share of the scores of a class that labels confirm.
        renamed: detections of other classes at the place of a label.
        moved: detections of its class beside it.
    """

    def __init__(self, table: EvaluationTable) -> None:
        self.found: DetectionTable = table.detections.best_first()
        self.objects: ObjectTable = table.objects
        any_class = table.class_agnostic()
        pairs = find_overlaps(any_class, BESIDE_IOU, crowd_rule=True)
        on_ignored = self.objects.ignore[pairs.objects]
        self._ignored = np.zeros(len(self.found), dtype=np.bool_)
        self._ignored[pairs.detections[on_ignored & (pairs.ious > MIN_IOU)]] = True
        self.pairs: Overlaps = pairs.where(~on_ignored)
        self._same: Bools = self.found.labels[self.pairs.detections] == self.objects.labels[self.pairs.objects]
        self._part = self._parts(any_class)
        here = self.pairs.ious >= MIN_IOU
        self._owner = self._owners(here & self._same)
        self.own = self._best(here & self._same).scores
        self.trust, self.usual, confusion = self._trust(table.num_classes, here)
        self.expected = self._expected_by_size()
        labels = self.found.labels[self.pairs.detections]
        free = self._owner[self.pairs.detections] < 0
        unusual = 1 - np.minimum(confusion[self.objects.labels[self.pairs.objects], labels], 0.9)
        self.renamed = self._best(here & ~self._same & free, self.trust[labels] * unusual)
        away = np.minimum((1 - self.pairs.ious) * 1.3, 1.0)
        self.moved = self._best(~here & self._same & free, self.trust[labels] * away)

    def unlabelled(self, report_thresh: float) -> Ints:
        """Rows of detections away from all labels, above ``report_thresh``: one at each place."""
        taken = self._ignored | self._part | (self._owner >= 0)
        taken[self.pairs.detections[(self.pairs.ious >= MIN_IOU) | self._same]] = True
        rows = np.flatnonzero(~taken & (self.found.scores > report_thresh))
        value = self.found.scores[rows] * self.trust[self.found.labels[rows]]
        return rows[np.sort(batched_nms(self.found.boxes[rows], value, self.found.images[rows], MIN_IOU))]

    def _parts(self, any_class: EvaluationTable) -> Bools:
        """[D] whether a detection lies in a label of its class: part of an object, seen in part of the image."""
        all_areas_own = replace(any_class.objects, ignore=np.ones(len(self.objects), dtype=np.bool_))
        inside = find_overlaps(replace(any_class, objects=all_areas_own), INSIDE, crowd_rule=True)
        same = self.found.labels[inside.detections] == self.objects.labels[inside.objects]
        part = np.zeros(len(self.found), dtype=np.bool_)
        part[inside.detections[same & ~self.objects.ignore[inside.objects]]] = True
        return part

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

    def _best(self, which: Bools, weights: Floats | None = None) -> Against:
        """The pair of each object, among ``which``, with the highest score times ``weights`` [P]."""
        scores = self.found.scores[self.pairs.detections]
        values = scores * (1.0 if weights is None else weights)
        size = len(self.objects)
        best = Against(np.zeros(size), np.zeros(size), np.full(size, -1, dtype=np.int64))
        rows = np.flatnonzero(which)
        rows = rows[np.argsort(values[rows], kind="stable")]  # of several assignments the last one counts
        things = self.pairs.objects[rows]
        best.scores[things], best.values[things] = scores[rows], values[rows]
        best.rows[things] = self.pairs.detections[rows]
        return best

    def _trust(self, classes: int, here: Bools) -> tuple[Floats, Floats, Floats]:
        """[C] share of the scores of a class that labels confirm, [C] its usual evidence, [C, C] confusions."""
        labels, scores = self.found.labels, self.found.scores * ~self._ignored
        right = np.bincount(labels, scores * (self._owner >= 0), classes)
        near = np.zeros(len(self.found), dtype=np.bool_)
        near[self.pairs.detections[self._same]] = True  # a second box of a labelled object is no invention
        counted = np.bincount(labels, scores * ((self._owner >= 0) | ~near), classes)
        overall = right.sum() / max(counted.sum(), 1e-9)
        trust = (right + _PRIOR * overall) / (counted + _PRIOR)
        kept = ~self.objects.ignore
        sums = np.bincount(self.objects.labels[kept], self.own[kept], classes)
        counts = np.bincount(self.objects.labels[kept], minlength=classes)
        average = self.own[kept].mean() if kept.any() else 0.0
        usual = (sums + _PRIOR * average) / (counts + _PRIOR)
        confusion = np.zeros((classes, classes))
        rows = np.flatnonzero(here & ~self._same)
        pairs = (self.objects.labels[self.pairs.objects[rows]], self.found.labels[self.pairs.detections[rows]])
        np.add.at(confusion, pairs, self.found.scores[self.pairs.detections[rows]])
        return trust, usual, confusion / (counts[:, None] + _PRIOR)

    def _expected_by_size(self) -> Floats:
        kept = ~self.objects.ignore
        sizes = np.log2(np.maximum(self.objects.areas, 1.0)) / 2
        order = np.flatnonzero(kept)[np.argsort(sizes[kept], kind="stable")]
        expected = np.zeros(len(self.objects))
        if not len(order):
            return expected
        average = max(float(self.own[kept].mean()), 1e-9)
        half = max(10, len(order) // 20)
        sums = np.concatenate([[0.0], np.cumsum(self.own[order])])
        places = np.arange(len(order))
        low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(order))
        by_class = (self.usual[self.objects.labels[order]] / average) ** 0.5
        expected[order] = np.minimum((sums[high] - sums[low]) / (high - low) * by_class, 1.0)
        return expected
