"""VOC's mean average precision, by hand and against a slow reference."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.evaluation.scenes import Scene, Style, found, random_scene, table_of, truth
from tests.evaluation.test_overlap import slow_iou
from yolofpn.evaluation.voc import area_under_curve, eleven_point_precision, match_voc, voc_precision

DOG, CAT, HORSE = (0, 0, 100, 100), (200, 0, 300, 100), (0, 200, 100, 300)
NOWHERE = (400, 400, 450, 450)


def slow_outcomes(scene: Scene, label: int) -> tuple[list[bool], int]:
    """True or false for each detection of a class that counts, by falling score, and the number of objects to find."""
    images = sorted(scene, key=lambda image: image[1].image_id)
    rows = [
        (score, number, box)
        for number, (detections, _) in enumerate(images)
        for box, score, its_label in zip(
            detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
        )
        if its_label == label
    ]
    taken: set[tuple[int, int]] = set()
    outcomes = []
    for _, number, box in sorted(rows, key=lambda row: -row[0]):
        target = images[number][1]
        best, best_iou = -1, 0.0
        for place, (other, its_label) in enumerate(zip(target.boxes.tolist(), target.labels.tolist(), strict=True)):
            iou = slow_iou(box, other, by_own_area=False)
            if its_label == label and iou > best_iou:
                best, best_iou = place, iou
        if best_iou < 0.5:
            outcomes.append(False)
        elif not target.ignore[best]:
            outcomes.append((number, best) not in taken)
            taken.add((number, best))
    positives = sum(int(((target.labels == label) & ~target.ignore).sum()) for _, target in images)
    return outcomes, positives


def slow_precisions(outcomes: list[bool], positives: int) -> tuple[Fraction, Fraction]:
    """(2007, 2010) average precision in exact numbers, from every point of the curve."""
    curve = []
    for length in range(1, len(outcomes) + 1):
        right = sum(outcomes[:length])
        curve.append((Fraction(right, positives), Fraction(right, length)))
    levels = [max((p for r, p in curve if r >= Fraction(n, 10)), default=Fraction(0)) for n in range(11)]
    area, reached = Fraction(0), Fraction(0)
    for recall in sorted({r for r, _ in curve if r > 0}):
        area += (recall - reached) * max(p for r, p in curve if r >= recall)
        reached = recall
    return sum(levels, Fraction(0)) / 11, area


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_slow_reference(seed: int) -> None:
    scene = random_scene(seed, Style(crowd=0.3, detections=12))
    result = voc_precision(table_of(scene, 4))
    for label in range(3):
        ap07, ap10 = slow_precisions(*slow_outcomes(scene, label))
        assert result.ap07[label] == pytest.approx(float(ap07), abs=1e-12)
        assert result.ap10[label] == pytest.approx(float(ap10), abs=1e-12)
    assert result.ap07[3] == result.ap10[3] == -1.0  # no objects of the last class
    assert result.map07 == pytest.approx(result.ap07[:3].mean())


def test_by_hand() -> None:
    """Four objects; by falling score right, wrong, right, right: precision 1, 1/2, 2/3, 3/4 at recall 1/4, -, 1/2, 3/4.

    The area is (1 + 3/4 + 3/4) / 4. Of the 11 levels 0, .1, .2 have 1; .3 to .7 have 3/4; .8, .9, 1 have none.
    """
    detections = found((DOG, 0.9, 0), (NOWHERE, 0.8, 0), (CAT, 0.7, 0), (HORSE, 0.6, 0))
    scene = [(detections, truth(1, (DOG, 0), (CAT, 0), (HORSE, 0), ((300, 300, 350, 350), 0)))]
    result = voc_precision(table_of(scene, 1))
    assert result.map10 == pytest.approx(2.5 / 4)
    assert result.map07 == pytest.approx((3 + 5 * 0.75) / 11)


def test_difficult_objects_count_neither_way() -> None:
    """Found or not, once or twice, a difficult object changes nothing."""
    objects = ((DOG, 0), (CAT, 0))
    for on_cat in ([], [(CAT, 0.95, 0)], [(CAT, 0.95, 0), (CAT, 0.94, 0)]):
        scene = [(found((DOG, 0.9, 0), *on_cat), truth(1, *objects, ignore=[1]))]
        assert voc_precision(table_of(scene, 1)).map10 == 1.0


def test_second_detection_of_an_object_is_false() -> None:
    true, false = match_voc(table_of([(found((DOG, 0.9, 0), (DOG, 0.8, 0)), truth(1, (DOG, 0)))], 1))
    assert (true.tolist(), false.tolist()) == ([True, False], [False, True])


def test_best_object_is_chosen_before_the_threshold() -> None:
    """The second box overlaps the taken object most: false, though a free one overlaps by more than 0.5 as well."""
    left, right = (0, 0, 100, 100), (20, 0, 120, 100)
    scene = [(found((left, 0.9, 0), ((5, 0, 105, 100), 0.8, 0)), truth(1, (left, 0), (right, 0)))]
    true, _ = match_voc(table_of(scene, 1))
    assert true.tolist() == [True, False]


def test_iou_of_exactly_a_half_is_enough() -> None:
    scene = [(found(((0, 0, 50, 100), 0.9, 0)), truth(1, (DOG, 0)))]
    assert voc_precision(table_of(scene, 1)).map10 == 1.0


def test_recall_levels_are_exact() -> None:
    """3 of 10 found is a recall of 0.3 although 3 / 10 < 3 * 0.1 in floating point."""
    assert eleven_point_precision(np.array([True] * 3), 10) == pytest.approx(4 / 11)
    assert area_under_curve(np.array([True] * 3), 10) == pytest.approx(0.3)


def test_nothing_detected_is_zero() -> None:
    result = voc_precision(table_of([(found(), truth(1, (DOG, 1)))], 2))
    assert result.ap07.tolist() == result.ap10.tolist() == [-1.0, 0.0]
    assert result.map07 == result.map10 == 0.0
