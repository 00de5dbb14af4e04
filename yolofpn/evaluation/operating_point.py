"""True and false positives, precision, recall and F1 at a score threshold, as ``darknet detector map`` counts them.

Darknet's rule: a detection belongs to the object of its class that it overlaps most, if the IoU exceeds 0.5; the first
detection of an object is a true positive, further ones are false positives; what overlaps no object but an ignored one
counts neither way. With ignored regions COCO's rule for crowds holds: the overlap is the share of the detection's area.

Shapes: D detections and M objects of all images together, C classes, G thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from yolofpn.evaluation.overlap import best_pairs, find_overlaps, first_claims
from yolofpn.evaluation.table import Bools, EvaluationTable, Floats, Ints

MIN_IOU = 0.5


@dataclass(frozen=True)
class Counts:
    """Numbers of true positives, false positives and false negatives."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def precision(self) -> float:
        """TP / (TP + FP); 0 if there are no detections."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); 0 if there are no objects."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 without true positives."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of the counts."""
    counts = list(counts)
    return Counts(
        sum(each.true_positives for each in counts),
        sum(each.false_positives for each in counts),
        sum(each.false_negatives for each in counts),
    )


@dataclass(frozen=True)
class Outcomes:
    """The outcome of every detection, which does not depend on the score threshold.

    Attributes:
        scores: [D].
        labels: [D].
        true: [D] true positives.
        false: [D] false positives; a detection that is neither is matched with an ignored object.
        missed: [M] false negatives.
        positives: [C] how many objects there are to find.
    """

    scores: Floats
    labels: Ints
    true: Bools
    false: Bools
    missed: Bools
    positives: Ints


def match_darknet(table: EvaluationTable) -> Outcomes:
    """Match detections and objects by Darknet's rule."""
    overlaps = find_overlaps(table, MIN_IOU, crowd_rule=True)
    overlaps = overlaps.where(overlaps.ious > MIN_IOU)
    on_ignored = table.objects.ignore[overlaps.objects]
    best = best_pairs(overlaps.where(~on_ignored))
    claims = first_claims(best.objects)
    true = np.zeros(len(table.detections), dtype=bool)
    false = np.ones(len(table.detections), dtype=bool)
    true[best.detections] = claims
    false[overlaps.detections[on_ignored]] = False
    false[best.detections] = ~claims
    missed = ~table.objects.ignore
    positives = np.bincount(table.objects.labels[missed], minlength=table.num_classes)
    missed[best.objects] = False
    return Outcomes(table.detections.scores, table.detections.labels, true, false, missed, positives)


def count_above(outcomes: Outcomes, score_thresh: float | Floats) -> list[Counts]:
    """The counts of each class over the detections with a score above the threshold, one value or one per class."""
    thresholds = np.broadcast_to(score_thresh, len(outcomes.positives))
    above = outcomes.scores > thresholds[outcomes.labels]
    true = np.bincount(outcomes.labels[above & outcomes.true], minlength=len(thresholds))
    false = np.bincount(outcomes.labels[above & outcomes.false], minlength=len(thresholds))
    missed = outcomes.positives - true
    return [Counts(int(t), int(f), int(m)) for t, f, m in zip(true, false, missed, strict=True)]


def f1_over_thresholds(outcomes: Outcomes, thresholds: Floats) -> Floats:
    """F1 [C, G] of each class at each of the ascending thresholds [G]; 0 for classes without objects."""
    f1 = np.zeros((len(outcomes.positives), len(thresholds)))
    for label, positives in enumerate(outcomes.positives):
        of_class = outcomes.labels == label
        true = _how_many_above(outcomes.scores[of_class & outcomes.true], thresholds)
        false = _how_many_above(outcomes.scores[of_class & outcomes.false], thresholds)
        f1[label] = 2 * true / np.maximum(true + false + positives, 1)
    return f1


def best_score_thresholds(outcomes: Outcomes, default: float, min_objects: int = 10) -> tuple[float, ...]:
    """The score threshold of each class that gives the highest F1.

    A threshold lies midway between the last score that it admits and the next lower one, so that a score that changes
    in its last digits, on another device say, falls on the same side.

    Args:
        outcomes: of the detections down to a low score.
        default: the threshold where nothing was found at all.
        min_objects: a class with fewer objects takes the threshold that is best for all classes together, as its own
            would be chance.
    """
    counted = outcomes.true | outcomes.false
    shared = _best_threshold(
        outcomes.scores[counted], outcomes.true[counted], int(outcomes.positives.sum()), fallback=default
    )
    thresholds = []
    for label, positives in enumerate(outcomes.positives):
        rows = counted & (outcomes.labels == label)
        own = _best_threshold(outcomes.scores[rows], outcomes.true[rows], int(positives), fallback=shared)
        thresholds.append(own if positives >= min_objects else shared)
    return tuple(thresholds)


def _best_threshold(scores: Floats, true: Bools, positives: int, fallback: float) -> float:
    if not true.any():
        return fallback
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(true[order])
    f1 = 2 * found / (np.arange(1, len(scores) + 1) + positives)
    next_score = np.append(scores[1:], 0.0)
    f1[scores == next_score] = 0.0  # equal scores are admitted together
    best = int(np.argmax(f1))
    return float((scores[best] + next_score[best]) / 2)


def _how_many_above(scores: Floats, thresholds: Floats) -> Ints:
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
