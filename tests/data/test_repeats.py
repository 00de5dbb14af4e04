from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from yolofpn.data.dataset import DetectionDataset, FlatStrings
from yolofpn.data.repeats import RepeatFactors, describe_repeats, draw_counts, repeat_factors, samples_of


def holding(images: list[list[int]], *, classes: int, ignored: int | None = None) -> DetectionDataset:
    """A data set whose images hold one box of each label listed; those of label ``ignored`` are ignore regions."""
    labels = np.array([label for held in images for label in held], dtype=np.int32)
    boxes = np.tile(np.array([[0, 0, 10, 10]], dtype=np.float32), (len(labels), 1))
    return DetectionDataset(
        names=tuple("abcdefghijklmnop"[:classes]),
        category_ids=tuple(range(classes)),
        paths=FlatStrings(f"{number}.png" for number in range(len(images))),
        sizes=np.full((len(images), 2), 10, dtype=np.int32),
        image_ids=np.arange(len(images), dtype=np.int64),
        labelled=np.ones(len(images), dtype=np.bool_),
        offsets=np.cumsum([0, *map(len, images)]).astype(np.int64),
        boxes=boxes,
        labels=labels,
        ignore=labels == (-1 if ignored is None else ignored),
        areas=np.full(len(labels), 100, dtype=np.float32),
    )


def test_factors_by_hand() -> None:
    # Of 16 images class 0 is in 8, class 1 in 4, class 2 (three times) in one, class 3 in none but as a region.
    images = [[0], [0, 1], [1, 0], [0, 1], [0], [0], [0], [0, 2, 2, 2], [1, 3], [3], [], [], [], [], [], []]
    factors = repeat_factors(holding(images, classes=5, ignored=3), 0.5625)
    # The square roots of (9 / 16) / (8 / 16) = 1.125, (9 / 16) / (4 / 16) = 2.25 and (9 / 16) / (1 / 16) = 9.
    common = 1.125**0.5
    assert factors.classes.tolist() == pytest.approx([common, 1.5, 3, 1, 1])
    expected = [common, 1.5, 1.5, 1.5, common, common, common, 3, 1.5, 1] + 6 * [1]
    assert factors.images.tolist() == pytest.approx(expected)
    assert factors.samples_per_epoch == 20  # 4 * 1.0607 + 4 * 1.5 + 3 + 7 = 20.24


def test_a_class_at_the_threshold_is_not_rare_and_without_a_threshold_none_is() -> None:
    dataset = holding([[0], [0, 1], [0], [0]], classes=2)
    assert repeat_factors(dataset, 0.25).images.tolist() == [1, 1, 1, 1]
    assert repeat_factors(dataset, 0.0).images.tolist() == [1, 1, 1, 1]
    assert repeat_factors(dataset, 1.0).images.tolist() == [1, 2, 1, 1]


def test_images_without_any_object() -> None:
    factors = repeat_factors(holding([[], []], classes=2), 0.5)
    assert factors.classes.tolist() == [1, 1] and factors.images.tolist() == [1, 1]


def draws(factors: list[float], count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    array = np.array(factors)
    return np.array([draw_counts(array, np.random.default_rng(seed)) for seed in range(count)])


@pytest.mark.parametrize("seed", range(5))
def test_every_image_comes_floor_or_ceil_times_and_the_total_is_constant(seed: int) -> None:
    rng = np.random.default_rng(seed)
    factors = np.maximum(1, rng.exponential(1.5, size=rng.integers(1, 40)))
    counts = draws(factors.tolist(), 200)
    assert ((counts == np.floor(factors)) | (counts == np.ceil(factors))).all()
    assert (counts.sum(axis=1) == samples_of(factors)).all()
    assert abs(samples_of(factors) - factors.sum()) <= 0.5


@pytest.mark.slow
def test_on_average_each_comes_as_often_as_its_factor_says() -> None:
    factors = [1.0, 1.25, 2.75, 1.5, 3.5, 1.0]  # they add up to 11, so nothing is rounded
    counts = draws(factors, 4000)
    assert counts.mean(axis=0).tolist() == pytest.approx(factors, abs=0.04)  # five standard errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([0.95, 0.6, 0.05], [1 - 0.05 / 1.4, 1 - 0.4 / 1.4, 1 - 0.95 / 1.4]),  # 1.6 becomes 2: of 1.4 to 3 remains 1
        ([0.8, 0.4, 0.1], [0.8 / 1.3, 0.4 / 1.3, 0.1 / 1.3]),  # 1.3 becomes 1
        ([0.9, 0.9, 0.9], [1, 1, 1]),  # 2.7 becomes 3
        ([0.3, 0.1], [0, 0]),
    ],
)
def test_what_it_takes_to_round_the_sum_is_shared_out(parts: list[float], expected: list[float]) -> None:
    counts = draws([1.0, *(1 + part for part in parts)], 1500)
    assert (counts[:, 0] == 1).all()
    assert (counts[:, 1:].mean(axis=0) - 1).tolist() == pytest.approx(expected, abs=0.05)  # 3.9 standard errors or more


def test_no_two_images_are_always_rounded_alike() -> None:
    pairs = Counter(tuple(np.flatnonzero(row == 2).tolist()) for row in draws([1.5] * 4, 600))
    assert set(pairs) == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    assert min(pairs.values()) > 60  # 100 each are expected


def test_what_people_are_told() -> None:
    dataset = holding([[0]] * 15 + [[0, 1]], classes=2)
    factors = repeat_factors(dataset, 0.25)
    assert describe_repeats(dataset, factors, 0.25) == (
        "repeats: 17 samples per epoch of 16 images; 1 of 2 classes in less than 25 % of them "
        "(train.repeat_thresh): b x2.00"
    )
    none = describe_repeats(dataset, repeat_factors(dataset, 0.05), 0.05)
    assert none == "repeats: none, as no class is in less than 5 % of the images (train.repeat_thresh)"


def test_of_many_rare_classes_the_rarest_are_named() -> None:
    dataset = holding([[label] for label in range(16)], classes=16)
    factors = RepeatFactors(1 + np.arange(16) / 10, np.ones(16))
    line = describe_repeats(dataset, factors, 0.5)
    assert "15 of 16 classes" in line
    assert line.endswith(
        ": p x2.50, o x2.40, n x2.30, m x2.20, l x2.10, k x2.00, j x1.90, i x1.80, h x1.70, g x1.60, ... down to x1.10"
    )
