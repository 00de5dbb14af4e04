"""Counts at a score threshold as Darknet prints them, and the choice of thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.scenes import Scene, found, random_scene, table_of, truth
from tests.evaluation.test_overlap import slow_iou
from yolofpn.evaluation.operating_point import (
    Counts,
    best_score_thresholds,
    count_above,
    f1_over_thresholds,
    match_darknet,
    total,
)

DOG, CAT = (0, 0, 100, 100), (200, 0, 300, 100)
NOWHERE = (400, 400, 450, 450)


def slow_counts(scene: Scene, label: int, threshold: float) -> Counts:
    """Detection by detection: find its best object, see whether an earlier detection had the same one."""
    tp = fp = fn = 0
    for detections, target in scene:
        taken = set()
        for box, score, its_label in zip(
            detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
        ):
            if its_label != label or score <= threshold:
                continue
            best, best_iou, on_ignored = -1, 0.5, False
            for place, other in enumerate(target.boxes.tolist()):
                if target.labels[place] == label:
                    ignored = bool(target.ignore[place])
                    iou = slow_iou(box, other, by_own_area=ignored)
                    on_ignored |= ignored and iou > 0.5
                    if not ignored and iou > best_iou:
                        best, best_iou = place, iou
            if best >= 0 and best not in taken:
                tp += 1
                taken.add(best)
            elif best >= 0 or not on_ignored:
                fp += 1
        fn += int(((target.labels == label) & ~target.ignore).sum()) - len(taken)
    return Counts(tp, fp, fn)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.6])
def test_equals_the_slow_reference(seed: int, threshold: float) -> None:
    scene = random_scene(seed)
    counts = count_above(match_darknet(table_of(scene, 4)), threshold)
    assert counts == [slow_counts(scene, label, threshold) for label in range(4)]
    assert total(counts).false_positives == sum(each.false_positives for each in counts) > 0


def test_by_hand() -> None:
    detections = found((DOG, 0.9, 0), (DOG, 0.8, 0), (NOWHERE, 0.7, 0), (CAT, 0.2, 1))
    outcomes = match_darknet(table_of([(detections, truth(1, (DOG, 0), (CAT, 1)))], 3))
    dog, cat, nothing = count_above(outcomes, 0.25)
    assert dog == Counts(1, 2, 0)
    assert (dog.precision, dog.recall, dog.f1) == pytest.approx((1 / 3, 1.0, 0.5))
    assert cat == Counts(0, 0, 1)
    assert (cat.precision, cat.recall, cat.f1) == (0.0, 0.0, 0.0)
    assert nothing == Counts(0, 0, 0)
    assert count_above(outcomes, np.array([0.85, 0.1, 0.5]))[:2] == [Counts(1, 0, 0), Counts(1, 0, 0)]


def test_iou_and_score_must_exceed_their_thresholds() -> None:
    half = (0, 0, 50, 100)
    outcomes = match_darknet(table_of([(found((half, 0.5, 0), (CAT, 0.25, 0)), truth(1, (DOG, 0), (CAT, 0)))], 1))
    assert count_above(outcomes, 0.25) == [Counts(0, 1, 2)]


def test_detections_in_a_crowd_count_neither_way() -> None:
    person = (10, 10, 30, 40)
    scene = [(found((person, 0.9, 0), (CAT, 0.8, 0)), truth(1, (DOG, 0), (CAT, 0), ignore=[0]))]
    assert count_above(match_darknet(table_of(scene, 1)), 0.25) == [Counts(1, 0, 0)]


def test_f1_over_thresholds_equals_the_counts() -> None:
    outcomes = match_darknet(table_of(random_scene(2), 4))
    thresholds = np.linspace(0, 1, 41)  # the scores are multiples of 0.05 too
    f1 = f1_over_thresholds(outcomes, thresholds)
    for place, threshold in enumerate(thresholds):
        assert f1[:, place] == pytest.approx([each.f1 for each in count_above(outcomes, float(threshold))])


def test_best_thresholds_by_hand() -> None:
    """Right .9, wrong .8, right .6, wrong .4 of 2 objects: F1 is 2/3, 1/2, 4/5, 2/3: cut between .6 and .4."""
    detections = found((DOG, 0.9, 0), (NOWHERE, 0.8, 0), (CAT, 0.6, 0), (NOWHERE, 0.4, 0))
    outcomes = match_darknet(table_of([(detections, truth(1, (DOG, 0), (CAT, 0)))], 1))
    assert best_score_thresholds(outcomes, 0.25, min_objects=1) == pytest.approx((0.5,))


def test_equal_scores_are_admitted_together() -> None:
    """At .7 one detection is right, one is wrong: no threshold admits the right one alone."""
    detections = found((DOG, 0.9, 0), (CAT, 0.7, 0), (NOWHERE, 0.7, 0), ((500, 500, 520, 520), 0.7, 0))
    outcomes = match_darknet(table_of([(detections, truth(1, (DOG, 0), (CAT, 0)))], 1))
    assert best_score_thresholds(outcomes, 0.25, min_objects=1) == pytest.approx((0.8,))


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_gives_a_higher_f1(seed: int) -> None:
    outcomes = match_darknet(table_of(random_scene(seed), 4))
    chosen = np.array(best_score_thresholds(outcomes, 0.25, min_objects=1))
    best = f1_over_thresholds(outcomes, np.linspace(0, 1, 101)).max(axis=1)
    assert [each.f1 for each in count_above(outcomes, chosen)][:3] == pytest.approx(best[:3])


def test_classes_with_few_objects_take_the_common_threshold() -> None:
    """Class 0 is best cut between .6 and .4, class 1 alone between .2 and 0, both together between .6 and .4."""
    dogs = [(0, 100 * n, 90, 100 * n + 90) for n in range(3)]
    detections = found(
        *((dog, 0.9 - 0.15 * n, 0) for n, dog in enumerate(dogs)),
        *(((400, 100 * n, 450, 100 * n + 50), 0.4 - 0.01 * n, 0) for n in range(5)),
        (CAT, 0.2, 1),
    )
    outcomes = match_darknet(table_of([(detections, truth(1, *((dog, 0) for dog in dogs), (CAT, 1)))], 3))
    assert best_score_thresholds(outcomes, 0.25, min_objects=1) == pytest.approx((0.5, 0.1, 0.5))
    assert best_score_thresholds(outcomes, 0.25, min_objects=2) == pytest.approx((0.5, 0.5, 0.5))
    assert best_score_thresholds(outcomes, 0.25, min_objects=9) == pytest.approx((0.5, 0.5, 0.5))


def test_nothing_found_keeps_the_default() -> None:
    outcomes = match_darknet(table_of([(found((NOWHERE, 0.9, 0)), truth(1, (DOG, 0)))], 2))
    assert best_score_thresholds(outcomes, 0.3, min_objects=1) == (0.3, 0.3)
