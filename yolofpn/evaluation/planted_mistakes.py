"""Mistakes that are planted in a copy of a data set's labels, to learn how to find those that it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolofpn.evaluation.table import Bools, ObjectTable

PLANTED_SHARE = 0.1  # of the labels
SHIFT = (0.2, 0.7)  # of width and height


@dataclass(frozen=True)
class Planted:
    """Labels with planted mistakes.

    Attributes:
        objects: M labels and ignore regions, without those that were dropped.
        wrong: [M] which of them were given another class, or shifted.
        dropped: labels that are no longer among them.
    """

    objects: ObjectTable
    wrong: Bools
    dropped: ObjectTable


def plant_mistakes(objects: ObjectTable, seed: int) -> Planted:
    """Drop, rename or shift, in equal parts, ``PLANTED_SHARE`` of the labels.

    Renamed labels get another class of the data set, each as probably as it has labels; shifted ones move by ``SHIFT``
    of their width and height, in any direction.
    """
    rng = np.random.default_rng(seed)
    labelled = np.flatnonzero(~objects.ignore)
    chosen = rng.permutation(labelled)[: max(1, round(PLANTED_SHARE * len(labelled)))]
    dropped, renamed, shifted = chosen[0::3], chosen[1::3], chosen[2::3]
    boxes, labels = objects.boxes.copy(), objects.labels.copy()
    wrong = np.zeros(len(objects), dtype=np.bool_)
    present = np.unique(objects.labels[labelled])
    for row in renamed.tolist() if len(present) > 1 else ():
        labels[row] = rng.choice(present[present != labels[row]])
        wrong[row] = True
    sides = boxes[shifted, 2:] - boxes[shifted, :2]
    move = sides * rng.uniform(*SHIFT, sides.shape) * rng.choice([-1, 1], sides.shape)
    boxes[shifted] = np.maximum(boxes[shifted] + np.tile(move, 2), 0)
    wrong[shifted] = True
    kept = np.ones(len(objects), dtype=np.bool_)
    kept[dropped] = False
    changed = ObjectTable(boxes, labels, objects.ignore, objects.areas, objects.images)
    order = np.flatnonzero(kept)
    order = order[np.lexsort((labels[order], objects.images[order]))]
    return Planted(changed.take(order), wrong[order], objects.take(dropped))
