"""Which classes are taken for which, and which images fare worst."""

from __future__ import annotations

import pytest

from tests.evaluation.scenes import found, random_scene, table_of, truth
from yolofpn.evaluation.confusion import ImageMistakes, confusion_matrix, worst_images
from yolofpn.evaluation.operating_point import count_above, match_darknet

DOG, CAT = (0, 0, 100, 100), (200, 0, 300, 100)
NOWHERE = (400, 400, 450, 450)


def test_by_hand() -> None:
    """Class 0 found; class 1 taken for class 0; class 1 missed; one detection of nothing."""
    detections = found((DOG, 0.9, 0), (CAT, 0.8, 0), (NOWHERE, 0.7, 1), (NOWHERE, 0.1, 1))
    matrix = confusion_matrix(table_of([(detections, truth(1, (DOG, 0), (CAT, 1), ((0, 300, 50, 350), 1)))], 2), 0.25)
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_the_best_detection_of_another_class_is_the_confusion() -> None:
    """Of two wrong classes on one object the higher score is the confusion, the other one has no object."""
    matrix = confusion_matrix(table_of([(found((DOG, 0.6, 1), (DOG, 0.7, 2)), truth(1, (DOG, 0)))], 3), 0.25)
    assert matrix[0].tolist() == [0, 0, 1, 0]
    assert matrix[3].tolist() == [0, 1, 0, 0]


def test_a_found_object_is_not_confused() -> None:
    """A higher score of another class does not take an object that its own class finds."""
    matrix = confusion_matrix(table_of([(found((DOG, 0.9, 1), (DOG, 0.3, 0)), truth(1, (DOG, 0)))], 2), 0.25)
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_a_second_detection_is_no_confusion_with_its_own_class() -> None:
    """The second detection belongs to the object that is found already, though it reaches the missed one too."""
    found_twice, missed = (0, 0, 100, 100), (20, 0, 120, 100)
    detections = found((found_twice, 0.9, 0), ((5, 0, 105, 100), 0.8, 0))
    matrix = confusion_matrix(table_of([(detections, truth(1, (found_twice, 0), (missed, 0)))], 1), 0.25)
    assert matrix.tolist() == [[1, 1], [1, 0]]


def test_one_detection_is_one_confusion() -> None:
    """Two missed objects under one detection of a third class: it is taken for the one that it overlaps more."""
    objects = (((0, 0, 100, 90), 0), (DOG, 1))
    matrix = confusion_matrix(table_of([(found((DOG, 0.9, 2)), truth(1, *objects))], 3), 0.25)
    assert matrix.tolist() == [[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("seed", range(6))
def test_sums_agree_with_the_counts(seed: int) -> None:
    table = table_of(random_scene(seed), 4)
    matrix = confusion_matrix(table, 0.25)
    for label, counts in enumerate(count_above(match_darknet(table), 0.25)):
        assert matrix[label, label] == counts.true_positives
        assert matrix[:, label].sum() == counts.true_positives + counts.false_positives
        assert matrix[label].sum() == counts.true_positives + counts.false_negatives
    assert matrix.min() >= 0
    assert matrix[4, 4] == 0


def test_worst_images_come_first_and_perfect_ones_never() -> None:
    scene = [
        (found((DOG, 0.9, 0)), truth(1, (DOG, 0))),
        (found((NOWHERE, 0.9, 0), (CAT, 0.8, 0)), truth(2, (DOG, 0))),
        (found((NOWHERE, 0.2, 0)), truth(3, (DOG, 0))),
    ]
    table = table_of(scene, 1)
    assert worst_images(table, 0.25) == [ImageMistakes(2, 1, 2), ImageMistakes(3, 1, 0)]
    assert worst_images(table, 0.25, count=1) == [ImageMistakes(2, 1, 2)]


def test_ignored_objects_are_no_mistakes() -> None:
    table = table_of([(found((CAT, 0.9, 0)), truth(1, (DOG, 0), (CAT, 0), ignore=[0, 1]))], 1)
    assert worst_images(table, 0.25) == []
    assert confusion_matrix(table, 0.25).sum() == 0


def test_nothing_at_all() -> None:
    table = table_of([], 2)
    assert confusion_matrix(table, 0.25).tolist() == [[0, 0, 0]] * 3
    assert worst_images(table, 0.25) == []
