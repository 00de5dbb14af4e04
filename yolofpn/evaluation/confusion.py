"""Confusion matrix and the images with the most errors.

Shapes: C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from yolofpn.evaluation.operating_point import MIN_IOU, Outcomes, match_darknet
from yolofpn.evaluation.overlap import find_overlaps
from yolofpn.evaluation.table import EvaluationTable, Floats, Ints


@dataclass(frozen=True)
class ImageMistakes:
    """False negatives and false positives of one image."""

    image_id: int
    missed: int
    false_positives: int


def confusion_matrix(table: EvaluationTable, score_thresh: float | Floats) -> Ints:
    """Return the confusion matrix [C + 1, C + 1], row = true class, column = detected class.

    The last row holds detections where there is no object, the last column objects that were missed. The diagonal
    holds the true positives of ``operating_point``; of the other detections, the best first, each that overlaps a
    missed object of another class by more than 0.5 is a confusion. A row sums to the objects of its class, a column to
    the true and false positives of its class. Ignored objects do not appear.

    Args:
        table: detections and objects.
        score_thresh: detections with a score above it count; one value or one per class.
    """
    table = table.above(score_thresh)
    outcomes = match_darknet(table)
    background = table.num_classes
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    right = outcomes.labels[outcomes.true]
    np.add.at(matrix, (right, right), 1)
    np.add.at(matrix, _confused_labels(table, outcomes), 1)
    detected = np.bincount(outcomes.labels[outcomes.true | outcomes.false], minlength=background)
    matrix[background, :-1] = detected - matrix[:-1, :-1].sum(axis=0)
    matrix[:-1, background] = outcomes.positives - matrix[:-1, :-1].sum(axis=1)
    return matrix


def worst_images(table: EvaluationTable, score_thresh: float | Floats, count: int = 16) -> list[ImageMistakes]:
    """Return up to ``count`` images with the most errors, descending; images without errors are excluded."""
    table = table.above(score_thresh)
    outcomes = match_darknet(table)
    images = len(table.image_ids)
    misses = np.bincount(table.objects.images[outcomes.missed], minlength=images)
    false_positives = np.bincount(table.detections.images[outcomes.false], minlength=images)
    mistakes = misses + false_positives
    worst = np.argsort(-mistakes, kind="stable")[:count]
    return [
        ImageMistakes(int(table.image_ids[row]), int(misses[row]), int(false_positives[row]))
        for row in worst
        if mistakes[row]
    ]


def _confused_labels(table: EvaluationTable, outcomes: Outcomes) -> tuple[Ints, Ints]:
    """Match missed objects with false positives of other classes; return their true and detected labels."""
    found = table.detections.take(outcomes.false).best_first()
    objects = table.objects.take(outcomes.missed)
    overlaps = find_overlaps(
        replace(table, detections=found, objects=objects).class_agnostic(), MIN_IOU, crowd_rule=False
    )
    differs = found.labels[overlaps.detections] != objects.labels[overlaps.objects]
    overlaps = overlaps.where(differs & (overlaps.ious > MIN_IOU))
    order = np.lexsort((-overlaps.ious, overlaps.detections))
    pairs: dict[int, int] = {}  # object -> detection
    used: set[int] = set()
    for detection, thing in zip(overlaps.detections[order].tolist(), overlaps.objects[order].tolist(), strict=True):
        if detection not in used and thing not in pairs:
            pairs[thing] = detection
            used.add(detection)
    confused, confusing = np.array(list(pairs), dtype=np.int64), np.array(list(pairs.values()), dtype=np.int64)
    return objects.labels[confused], found.labels[confusing]
