from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.data.small_dataset import make_target
from yolofpn.data.mosaic import LabelledImage, _scaled_part, join_targets, make_mosaic, mixup
from yolofpn.structures import Target


def position_coded(number: int, target: Target, size: tuple[int, int] = (100, 100)) -> LabelledImage:
    """Each pixel holds its x, its y and the image's number."""
    image = np.zeros((*size, 3), dtype=np.uint8)
    image[:, :, 0] = np.arange(size[1])
    image[:, :, 1] = np.arange(size[0])[:, None]
    image[:, :, 2] = 200 + number
    return LabelledImage(image, target)


def four(boxes: list[list[float]], size: tuple[int, int] = (100, 100)) -> list[LabelledImage]:
    return [position_coded(number, make_target(boxes, labels=[number] * len(boxes)), size) for number in range(4)]


@pytest.mark.parametrize("seed", range(10))
def test_unscaled_parts_are_copied_and_boxes_lie_where_their_pixels_do(seed: int) -> None:
    images = four([[10.0 * i, 10.0 * j, 10.0 * i + 10, 10.0 * j + 10] for i in range(10) for j in range(10)])
    mosaic = make_mosaic(images, (100, 100), np.random.default_rng(seed), zoom=(1, 1))
    assert mosaic.image.shape == (100, 100, 3)
    assert set(np.unique(mosaic.image[:, :, 2])) == {200, 201, 202, 203}  # no gap: every image fills its quadrant
    whole = 0
    target = mosaic.target
    for (x1, y1, x2, y2), label, ignored in zip(target.boxes.int(), target.labels, target.ignore, strict=True):
        part = mosaic.image[y1:y2, x1:x2]
        assert (part[:, :, 2] == 200 + int(label)).all()
        assert (part.shape[0] * part.shape[1] < 25) == bool(ignored)
        if part.shape[:2] == (10, 10):
            whole += 1
            assert part[0, 0, 0] % 10 == 0 and part[0, 0, 1] % 10 == 0
            assert np.ptp(part[:, :, 0]) == 9 and np.ptp(part[:, :, 1]) == 9
    assert whole > 50


@pytest.mark.parametrize("seed", range(10))
def test_scaled_parts_keep_their_boxes_to_a_fraction_of_a_pixel(seed: int) -> None:
    images = four([[20, 30, 80, 70]], size=(100, 140))
    mosaic = make_mosaic(images, (200, 200), np.random.default_rng(seed), zoom=(0.4, 1.6), min_visibility=0.25)
    checked = 0
    for box, label in zip(mosaic.target.boxes.tolist(), mosaic.target.labels.tolist(), strict=True):
        rows, columns = np.nonzero(mosaic.image[:, :, 2] == 200 + label)
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert left - 1e-3 <= box[0] < box[2] <= right + 1e-3 and top - 1e-3 <= box[1] < box[3] <= bottom + 1e-3
        for axis, (sides, low, high) in enumerate([((20, 80), left, right), ((30, 70), top, bottom)]):
            for end, source in enumerate(sides):
                position = box[axis + 2 * end]
                if low + 1 < position < high - 1:  # not cut: the pixels left and right of it show the source's edge
                    pixel = int(position)
                    at = (int(box[1]) + 1, pixel) if axis == 0 else (pixel, int(box[0]) + 1)
                    step = mosaic.image[at[0] + axis, at[1] + 1 - axis, axis].astype(float) - mosaic.image[at][axis]
                    shown = float(mosaic.image[at][axis]) + 0.5 + step * (position - pixel - 0.5)
                    assert shown == pytest.approx(source, abs=1.5)
                    checked += 1
    assert checked > 0


@pytest.mark.parametrize(("scale", "start"), [(3.0, (12, 40)), (0.4, (5, 3)), (1.0, (30, 20)), (1.37, (0, 0))])
def test_a_scaled_part_shows_what_boxes_are_scaled_to(scale: float, start: tuple[int, int]) -> None:
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    image[:, :, 0] = 2 * np.arange(100)
    image[:, :, 1] = 2 * np.arange(100)[:, None]
    part = _scaled_part(image, scale, start, (30, 30))
    # The pixel with its centre at x + 0.5 shows the point (x + 0.5 + start) / scale, whose pixel has the number - 0.5.
    for axis in (0, 1):
        expected = 2 * ((np.arange(30) + 0.5 + start[axis]) / scale - 0.5).clip(0, 99)
        shown = part[15, :, 0] if axis == 0 else part[:, 15, 1]
        assert np.abs(shown - expected).max() <= 0.6


def test_the_mosaic_carries_the_first_images_id_and_its_generator_decides() -> None:
    images = four([[10, 10, 60, 60]])
    images[0] = LabelledImage(images[0].image, Target(**{**vars(images[0].target), "image_id": 42}))
    results = [make_mosaic(images, (64, 64), np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert all(result.target.image_id == 42 for result in results)
    assert np.array_equal(results[0].image, results[1].image)
    assert torch.equal(results[0].target.boxes, results[1].target.boxes)
    assert not np.array_equal(results[0].image, results[2].image)


def test_every_image_comes_into_every_quadrant() -> None:
    images = four([])
    seen = set()
    for seed in range(60):
        image = make_mosaic(images, (40, 60), np.random.default_rng(seed), zoom=(2, 2)).image
        seen |= {("corner", i, int(image[y, x, 2])) for i, (y, x) in enumerate([(0, 0), (0, -1), (-1, 0), (-1, -1)])}
    assert len(seen) == 16


def test_small_images_touch_the_centre_and_leave_gray() -> None:
    image = make_mosaic(four([]), (100, 100), np.random.default_rng(0), zoom=(0.2, 0.2)).image
    shown = image[:, :, 2] >= 200
    assert shown.sum() == 4 * 20 * 20
    assert (image[~shown] == 128).all()
    rows, columns = np.nonzero(shown)
    assert np.ptp(rows) == np.ptp(columns) == 39  # one block


def test_the_visibility_rule_holds_in_a_mosaic() -> None:
    object_and_region = make_target([[0, 0, 100, 100], [0, 0, 100, 100]], labels=[0, 1], ignore=[False, True])
    images = [position_coded(number, object_and_region) for number in range(4)]
    for seed in range(20):
        target = make_mosaic(images, (100, 100), np.random.default_rng(seed), zoom=(1, 1)).target
        areas = (target.boxes[:, 2:] - target.boxes[:, :2]).prod(dim=1)
        objects, regions = target.labels == 0, target.labels == 1
        assert torch.equal(target.boxes[objects], target.boxes[regions]) and len(target) == 8
        assert target.ignore[regions].all()  # they stay what they are, objects only from a quarter on
        assert target.ignore[objects].tolist() == [area < 2499 for area in areas[objects].tolist()]
        assert torch.allclose(target.areas, areas / 2)


def test_a_mosaic_needs_four_images() -> None:
    with pytest.raises(ValueError, match="4 images, got 3"):
        make_mosaic(four([])[:3], (64, 64), np.random.default_rng(0))


def test_extreme_shapes_fit_in() -> None:
    images = [
        LabelledImage(np.full((height, width, 3), 200, dtype=np.uint8), make_target([[0, 0, width, height]]))
        for height, width in [(1, 1), (1, 500), (500, 1), (3, 2)]
    ]
    mosaic = make_mosaic(images, (64, 96), np.random.default_rng(0))
    assert mosaic.image.shape == (64, 96, 3)
    assert (mosaic.target.boxes >= 0).all()


def test_mixup_is_the_mean_with_the_objects_of_both() -> None:
    first = LabelledImage(np.full((4, 4, 3), 100, dtype=np.uint8), make_target([[0, 0, 2, 2]], labels=[3]))
    second = LabelledImage(np.full((4, 4, 3), 50, dtype=np.uint8), make_target([[1, 1, 3, 3]], ignore=[True]))
    mixed = mixup(first, second)
    assert (mixed.image == 75).all()
    assert mixed.target.boxes.tolist() == [[0, 0, 2, 2], [1, 1, 3, 3]]
    assert mixed.target.labels.tolist() == [3, 0] and mixed.target.ignore.tolist() == [False, True]
    with pytest.raises(ValueError, match="mixed"):
        mixup(first, LabelledImage(np.zeros((4, 5, 3), dtype=np.uint8), make_target([])))


def test_joined_targets_of_nothing() -> None:
    joined = join_targets([make_target([]), make_target([])])
    assert joined.boxes.shape == (0, 4) and joined.labels.dtype == torch.int64 and joined.ignore.dtype == torch.bool


def test_every_part_of_a_large_image_gets_its_turn() -> None:
    images = [make_mosaic(four([]), (100, 100), np.random.default_rng(seed), zoom=(1, 1)).image for seed in range(30)]
    for axis in (0, 1):
        assert min(image[:, :, axis].min() for image in images) == 0
        assert max(image[:, :, axis].max() for image in images) == 99
        assert len({int(image[0, 0, axis]) for image in images}) > 10
