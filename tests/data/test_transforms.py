from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import yolofpn
from tests.data.small_dataset import bright_boxes, bright_extent, make_target
from yolofpn.data.mosaic import LabelledImage
from yolofpn.data.transforms import Augmentation, RandomView, random_safe_crop, random_tile, to_rgb

STILL = Augmentation(flip=0, hue=0, saturation=0, brightness=0, scale=(1, 1), translate=0, crop=0, mosaic=0)


def varied(**changes: object) -> Augmentation:
    return Augmentation(**{**vars(STILL), **changes})


def same(first: LabelledImage, second: LabelledImage) -> bool:
    pairs = [(getattr(first.target, name), getattr(second.target, name)) for name in ("boxes", "labels", "areas")]
    return np.array_equal(first.image, second.image) and all(torch.equal(a, b) for a, b in pairs)


def test_albumentations_does_not_look_for_updates() -> None:
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


def test_one_file_imports_albumentations() -> None:
    """It is no longer maintained: what replaces it should have to replace one file."""
    package = Path(yolofpn.__file__).parent
    using = [path.relative_to(package) for path in package.rglob("*.py") if "import albumentations" in path.read_text()]
    assert using == [Path("data/transforms.py")]


def test_without_variation_nothing_changes() -> None:
    labelled = bright_boxes((60, 80), make_target([[5, 5, 25, 35]]))
    result = RandomView(STILL, move=True)(labelled, np.random.default_rng(0))
    assert np.array_equal(result.image, labelled.image)
    assert torch.allclose(result.target.boxes, labelled.target.boxes, atol=1e-4)
    assert torch.allclose(result.target.areas, labelled.target.areas, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"flip": 1.0}, [55, 5, 75, 35]), ({"vertical_flip": 1.0}, [5, 25, 25, 55])],
)
def test_flips_take_the_boxes_along(changes: dict[str, float], expected: list[float]) -> None:
    labelled = bright_boxes((60, 80), make_target([[5, 5, 25, 35]]))
    result = RandomView(varied(**changes), move=False)(labelled, np.random.default_rng(0))
    assert bright_extent(result.image).tolist() == expected
    assert result.target.boxes.flatten().tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_two_transforms_of_probability_one_half_are_independent() -> None:
    view = RandomView(varied(flip=0.5, vertical_flip=0.5), move=False)
    labelled = bright_boxes((16, 16), make_target([[0, 0, 4, 4]]))
    outcomes: Counter[tuple[bool, bool]] = Counter()
    for seed in range(200):
        x1, y1 = bright_extent(view(labelled, np.random.default_rng(seed)).image)[:2]
        outcomes[bool(x1 > 0), bool(y1 > 0)] += 1
    chi_square = sum((outcomes[a, b] - 50) ** 2 / 50 for a in (False, True) for b in (False, True))
    assert chi_square < 16.3, outcomes  # three degrees of freedom: exceeded by chance once in 1,000


def test_the_generator_alone_decides() -> None:
    augmentation = Augmentation(vertical_flip=0.5)
    labelled = bright_boxes((60, 80), make_target([[5, 5, 25, 35], [40, 20, 70, 50]], labels=[0, 1]))
    view = RandomView(augmentation, move=True)
    results = [view(labelled, np.random.default_rng(seed)) for seed in range(5)]
    np.random.seed(99)  # noqa: NPY002
    other = RandomView(augmentation, move=True)
    for seed in (3, 1, 4, 0, 2):
        assert same(other(labelled, np.random.default_rng(seed)), results[seed])
    assert not any(np.array_equal(results[0].image, result.image) for result in results[1:])


@pytest.mark.parametrize("seed", range(20))
def test_scale_and_translate_move_image_and_box_alike(seed: int) -> None:
    labelled = bright_boxes((120, 160), make_target([[50, 40, 110, 70]]))
    view = RandomView(varied(scale=(0.5, 1.5), translate=0.4, flip=0.5), move=True)
    result = view(labelled, np.random.default_rng(seed))
    assert result.image.shape == (120, 160, 3)
    (box,) = result.target.boxes.numpy()
    assert np.abs(bright_extent(result.image) - box).max() <= 1.0
    assert result.target.areas.item() == pytest.approx((box[2] - box[0]) * (box[3] - box[1]) / 2, rel=1e-3)


@pytest.mark.slow
def test_scale_and_translate_apply_the_visibility_rule() -> None:
    # The second box is never cut, so it tells the scale; the third is the first again as an ignore region.
    boxes = [[0.0, 40.0, 40.0, 80.0], [70.0, 50.0, 90.0, 70.0], [0.0, 40.0, 40.0, 80.0]]
    labelled = bright_boxes((120, 160), make_target(boxes, labels=[0, 1, 2], ignore=[False, False, True]))
    view = RandomView(varied(scale=(0.8, 1.2), translate=0.3), move=True)
    outcomes: Counter[str] = Counter()
    for seed in range(150):
        target = view(labelled, np.random.default_rng(seed)).target
        by_label = {int(label): box for label, box in zip(target.labels, target.boxes.tolist(), strict=True)}
        ignored = dict(zip(target.labels.tolist(), target.ignore.tolist(), strict=True))
        reference = by_label[1]
        scale = (reference[2] - reference[0]) / 20
        right = reference[0] - 30 * scale  # of the first box, had it not been cut
        visible = min(right, 40 * scale) / (40 * scale)
        if abs(right - 2) > 0.1:
            assert (2 in by_label) == (right > 2)
        assert by_label.get(0) == by_label.get(2)
        if 0 in by_label and abs(visible - 0.25) > 0.01:
            assert ignored[0] == (visible < 0.25)
        assert ignored.get(2, True) and not ignored[1]
        outcomes["nothing" if 0 not in by_label else "region" if ignored[0] else "object"] += 1
    assert min(outcomes[what] for what in ("object", "region", "nothing")) > 3, outcomes


def test_colours_change_and_gray_stays_gray() -> None:
    view = RandomView(varied(hue=0.1, saturation=0.8, brightness=0.5), move=False)
    gray = LabelledImage(np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (1, 8, 3)), make_target([]))
    coloured = LabelledImage(np.full((8, 8, 3), (200, 90, 30), dtype=np.uint8), make_target([]))
    for seed in range(10):
        image = view(gray, np.random.default_rng(seed)).image.astype(int)
        assert np.abs(image - image[:, :, :1]).max() <= 1
        assert not np.array_equal(view(coloured, np.random.default_rng(seed)).image, coloured.image)


def test_brightness_and_saturation_stay_in_their_ranges() -> None:
    view = RandomView(varied(brightness=0.3), move=False)
    gray = LabelledImage(np.full((8, 8, 3), 100, dtype=np.uint8), make_target([]))
    levels = [int(view(gray, np.random.default_rng(seed)).image[0, 0, 0]) for seed in range(100)]
    assert 69 <= min(levels) < 80 and 120 < max(levels) <= 131


def test_the_input_is_left_as_it_is() -> None:
    labelled = bright_boxes((60, 80), make_target([[5, 5, 25, 35]]))
    image, boxes = labelled.image.copy(), labelled.target.boxes.clone()
    view = RandomView(Augmentation(flip=1, vertical_flip=1), move=True)
    view(random_safe_crop(labelled, np.random.default_rng(1)), np.random.default_rng(0))
    assert np.array_equal(labelled.image, image) and torch.equal(labelled.target.boxes, boxes)


def test_an_image_without_boxes() -> None:
    labelled = LabelledImage(np.zeros((20, 20, 3), dtype=np.uint8), make_target([]))
    result = RandomView(Augmentation(), move=True)(labelled, np.random.default_rng(0))
    assert len(result.target) == 0 and result.target.boxes.shape == (0, 4)


def test_boxes_partly_outside_are_clipped_first() -> None:
    labelled = LabelledImage(np.zeros((20, 20, 3), dtype=np.uint8), make_target([[-5, -5, 10, 10], [30, 30, 40, 40]]))
    result = RandomView(STILL, move=False)(labelled, np.random.default_rng(0))
    assert result.target.boxes.tolist() == [[0, 0, 10, 10]]


@pytest.mark.parametrize("seed", range(30))
def test_a_crop_holds_all_objects_whole(seed: int) -> None:
    target = make_target([[30, 20.5, 45.2, 40], [50, 60, 70.9, 75.5]], labels=[4, 2])
    pixels = np.arange(100 * 120, dtype=np.int64).reshape(100, 120)
    image = np.stack([pixels % 120, pixels // 120, pixels * 0], axis=2).astype(np.uint8)  # x, y, 0
    crop = random_safe_crop(LabelledImage(image, target), np.random.default_rng(seed), crop_scale=0.4)
    height, width = crop.image.shape[:2]
    left, top = crop.image[0, 0, :2].tolist()
    assert np.array_equal(crop.image, image[top : top + height, left : left + width])
    assert torch.allclose(crop.target.boxes, target.boxes - torch.tensor([left, top, left, top]), atol=1e-4)
    assert crop.target.labels.tolist() == [4, 2]
    assert width >= 48 and height >= 55
    assert crop.target.boxes.min() >= 0 and (crop.target.boxes[:, 2:] <= torch.tensor([width, height])).all()


def test_crops_vary_and_a_tiny_object_is_not_blown_up() -> None:
    labelled = bright_boxes((100, 120), make_target([[60, 50, 60.5, 50.5]]))
    crops = [random_safe_crop(labelled, np.random.default_rng(seed), crop_scale=0.5) for seed in range(40)]
    assert all(len(crop.target) == 1 and crop.image.shape[0] >= 50 and crop.image.shape[1] >= 60 for crop in crops)
    assert len({crop.image.shape for crop in crops}) > 30


def test_a_crop_may_cut_ignore_regions_but_keeps_what_is_left() -> None:
    target = make_target([[0, 0, 100, 100], [40, 40, 60, 60]], labels=[0, 1], ignore=[True, False])
    labelled = bright_boxes((100, 100), target)
    crop = random_safe_crop(labelled, np.random.default_rng(3), crop_scale=0.5)
    height, width = crop.image.shape[:2]
    assert (height, width) != (100, 100)
    assert crop.target.boxes[0].tolist() == [0, 0, width, height]
    assert crop.target.ignore.tolist() == [True, False]


def test_a_crop_of_an_image_without_objects() -> None:
    labelled = bright_boxes((100, 100), make_target([]))
    sizes = {random_safe_crop(labelled, np.random.default_rng(seed)).image.shape[:2] for seed in range(20)}
    assert len(sizes) > 10 and min(min(size) for size in sizes) >= 50


def test_to_rgb_reverses_the_channels() -> None:
    labelled = LabelledImage(np.full((2, 2, 3), (1, 2, 3), dtype=np.uint8), make_target([]))
    assert to_rgb(labelled).image[0, 0].tolist() == [3, 2, 1]


def xy_image(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Each pixel holds its own position."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, columns * 0], axis=2).astype(np.uint8)


@pytest.mark.parametrize("seed", range(10))
def test_a_tile_keeps_the_scale_and_clips_boxes_by_the_visibility_rule(seed: int) -> None:
    target = make_target([[30, 20, 50, 40], [70, 60, 110, 90], [0, 90, 120, 100]], labels=[4, 2, 1])
    image = xy_image(100, 120)
    tile = random_tile(LabelledImage(image, target), np.random.default_rng(seed), side=50, min_visibility=0.25)
    assert tile.image.shape == (50, 50, 3)
    left, top = tile.image[0, 0, :2].tolist()
    assert np.array_equal(tile.image, image[top : top + 50, left : left + 50])
    expected = []
    for (x1, y1, x2, y2), label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
        box = [max(x1 - left, 0), max(y1 - top, 0), min(x2 - left, 50), min(y2 - top, 50)]
        area = max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
        if area > 0:
            expected.append((box, label, area < 0.25 * (x2 - x1) * (y2 - y1)))
    found = zip(tile.target.boxes.tolist(), tile.target.labels.tolist(), tile.target.ignore.tolist(), strict=True)
    assert list(found) == expected


def test_tiles_reach_every_part_and_show_objects_often() -> None:
    target = make_target([[0, 0, 10, 10]])
    labelled = LabelledImage(xy_image(100, 200), target)
    rng = np.random.default_rng(0)
    tiles = [random_tile(labelled, rng, side=40, min_visibility=0.25) for _ in range(300)]
    corners = np.array([tile.image[0, 0, :2] for tile in tiles])
    assert corners.max(axis=0).tolist() == pytest.approx([160, 60], abs=5)
    assert sum(len(tile.target) > 0 for tile in tiles) > 120
    small = LabelledImage(xy_image(30, 40), target)
    assert random_tile(small, rng, side=40, min_visibility=0.25) is small
    wide = random_tile(LabelledImage(xy_image(30, 90), make_target([])), rng, side=40, min_visibility=0.25)
    assert wide.image.shape == (30, 40, 3)
