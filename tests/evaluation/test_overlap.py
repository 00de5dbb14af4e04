"""Pairs of overlapping boxes against loops over boxes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.scenes import found, random_scene, table_of, truth
from yolofpn.evaluation import overlap
from yolofpn.evaluation.overlap import Overlaps, best_pairs, find_overlaps, first_claims


def slow_iou(first: list[float], second: list[float], *, by_own_area: bool) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    own = (first[2] - first[0]) * (first[3] - first[1])
    other = (second[2] - second[0]) * (second[3] - second[1])
    return width * height / (own if by_own_area else own + other - width * height)


@pytest.mark.parametrize("crowd_rule", [True, False])
@pytest.mark.parametrize("agnostic", [True, False])
def test_equals_loops_over_boxes(crowd_rule: bool, agnostic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "DETECTIONS_AT_ONCE", 7)
    table = table_of(random_scene(11), 4)
    table = table.class_agnostic() if agnostic else table
    detections, objects = table.detections, table.objects
    expected = {}
    for row, box in enumerate(detections.boxes.tolist()):
        for column, other in enumerate(objects.boxes.tolist()):
            if detections.images[row] == objects.images[column] and detections.labels[row] == objects.labels[column]:
                iou = slow_iou(box, other, by_own_area=crowd_rule and bool(objects.ignore[column]))
                if iou >= 0.3:
                    expected[row, column] = iou
    pairs = find_overlaps(table, 0.3, crowd_rule=crowd_rule)
    keys = zip(pairs.detections.tolist(), pairs.objects.tolist(), strict=True)
    assert dict(zip(keys, pairs.ious.tolist(), strict=True)) == pytest.approx(expected)
    assert len(pairs) == len(expected) > 50


def test_boxes_without_area_overlap_nothing() -> None:
    point = (5, 5, 5, 5)
    table = table_of([(found((point, 0.9, 0)), truth(1, (point, 0), ((0, 0, 9, 9), 0), ignore=[1]))], 1)
    assert len(find_overlaps(table, 1e-9, crowd_rule=True)) == 0


def test_best_pair_is_the_highest_iou_then_the_first_object() -> None:
    pairs = Overlaps(np.array([3, 3, 3, 8]), np.array([0, 1, 2, 1]), np.array([0.5, 0.7, 0.7, 0.6]))
    best = best_pairs(pairs)
    assert best.detections.tolist() == [3, 8]
    assert best.objects.tolist() == [1, 1]
    assert best.ious.tolist() == [0.7, 0.6]
    assert first_claims(best.objects).tolist() == [True, False]


def test_table_sorts_by_image_label_and_score() -> None:
    box = (0, 0, 10, 10)
    scene = [(found((box, 0.9, 1), (box, 0.8, 0), (box, 0.7, 1)), truth(7, (box, 1), (box, 0))), (found(), truth(2))]
    table = table_of(scene, 2)
    assert table.image_ids.tolist() == [2, 7]
    assert table.detections.images.tolist() == [1, 1, 1]
    assert table.detections.labels.tolist() == [0, 1, 1]
    assert table.detections.scores.tolist() == pytest.approx([0.8, 0.9, 0.7])
    assert table.objects.labels.tolist() == [0, 1]
    assert table.class_agnostic().detections.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert table.above(np.array([0.85, 0.75])).detections.scores.tolist() == pytest.approx([0.9])
