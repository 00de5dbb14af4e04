"""Pascal VOC's mean average precision, the 11-point one of 2007 and the area under the curve of 2010 and later.

After the VOC development kit (Everingham et al., 2010, sec. 4.2): a detection belongs to the object of its class that
it overlaps most, and only then is the overlap compared with 0.5; an object is found once, by its best detection, and
every further one is a false positive; difficult objects need not be found, and what belongs to one counts neither way.

The kit's inclusive corners need no special rule: a box converted to outer corners has the kit's width, xmax - xmin + 1.

Shapes: C classes, N detections of one class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolofpn.evaluation.coco import NO_OBJECTS, mean_of_valid
from yolofpn.evaluation.overlap import best_pairs, find_overlaps, first_claims
from yolofpn.evaluation.table import Bools, EvaluationTable, Floats

MIN_IOU = 0.5


@dataclass(frozen=True)
class VocPrecision:
    """Average precision of each class, -1 for those without objects that count.

    Attributes:
        ap07: [C] mean of the precision at recall 0, 0.1 ... 1.
        ap10: [C] area under the precision-recall curve.
    """

    ap07: Floats
    ap10: Floats

    @property
    def map07(self) -> float:
        """The mean of ``ap07`` over the classes that have objects."""
        return mean_of_valid(self.ap07)

    @property
    def map10(self) -> float:
        """The mean of ``ap10`` over the classes that have objects."""
        return mean_of_valid(self.ap10)


def voc_precision(table: EvaluationTable) -> VocPrecision:
    """Both of VOC's average precisions, at an IoU of 0.5."""
    true, false = match_voc(table)
    found, objects = table.detections, table.objects
    positives = np.bincount(objects.labels[~objects.ignore], minlength=table.num_classes)
    order = np.lexsort((-found.scores, found.labels))
    order = order[(true | false)[order]]
    bounds = np.searchsorted(found.labels[order], np.arange(table.num_classes + 1))
    ap07, ap10 = np.full(table.num_classes, NO_OBJECTS), np.full(table.num_classes, NO_OBJECTS)
    for label in np.flatnonzero(positives):
        is_true = true[order[bounds[label] : bounds[label + 1]]]
        ap07[label] = eleven_point_precision(is_true, int(positives[label]))
        ap10[label] = area_under_curve(is_true, int(positives[label]))
    return VocPrecision(ap07, ap10)


def match_voc(table: EvaluationTable) -> tuple[Bools, Bools]:
    """Which detections are true and which are false positives, each [D]; what is difficult is neither."""
    best = best_pairs(find_overlaps(table, MIN_IOU, crowd_rule=False))
    counts = ~table.objects.ignore[best.objects]
    claims = first_claims(best.objects)
    true = np.zeros(len(table.detections), dtype=bool)
    false = np.ones(len(table.detections), dtype=bool)
    true[best.detections] = counts & claims
    false[best.detections] = counts & ~claims
    return true, false


def eleven_point_precision(true: Bools, positives: int) -> float:
    """VOC 2007: the mean over recall 0, 0.1 ... 1 of the highest precision at that recall or above.

    Recall levels are compared as whole numbers: 3 of 10 objects do reach a recall of 0.3.

    Args:
        true: [N] whether each detection is a true positive, by falling score.
        positives: how many objects there are to find, at least 1.
    """
    found = np.cumsum(true)
    precision = found / np.arange(1, len(true) + 1)
    reached = 10 * found[:, None] >= np.arange(11) * positives  # [N, 11]
    return float(np.where(reached, precision[:, None], 0.0).max(axis=0, initial=0.0).mean())


def area_under_curve(true: Bools, positives: int) -> float:
    """VOC 2010 and later: the area under the precision-recall curve, precision made monotonic.

    Every true positive raises the recall by 1 / ``positives``. Arguments as of ``eleven_point_precision``.
    """
    precision = np.cumsum(true) / np.arange(1, len(true) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[true].sum() / positives)
