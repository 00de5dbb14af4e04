"""Augmentation of images with other channels than 8-bit colours."""

import numpy as np
import pytest
import torch

from yolofpn.data.mosaic import LabelledImage, make_mosaic, mixup
from yolofpn.data.transforms import Augmentation, RandomView, to_rgb, vary_bands
from yolofpn.ops.resize import resize_image
from yolofpn.structures import Target


def labelled(channels: int, value: float = 300.25) -> LabelledImage:
    target = Target(torch.tensor([[2.0, 2, 8, 8]]), torch.zeros(1, dtype=torch.long), torch.zeros(1) > 0, torch.ones(1))
    return LabelledImage(np.full((20, 30, channels), value, np.float32), target)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 13])
def test_views_move_all_bands_alike_and_fill_all_with_the_middle_of_the_range(channels: int) -> None:
    view = RandomView(Augmentation(brightness=0, scale=(0.5, 0.5), translate=0), move=True)
    found = view(labelled(channels), np.random.default_rng(0))
    assert found.image.shape == (20, 30, channels)
    assert found.image.dtype == np.float32
    assert (found.image[0, 0] == 128).all()
    assert (found.image[10, 15] == 300.25).all()
    assert len(found.target) == 1


def test_brightness_and_contrast_change_by_parts_of_the_range_and_colours_not_at_all() -> None:
    image = np.array([[[0.0, 127.5, 255.0]]], np.float32)
    for seed in range(20):
        low, middle, high = vary_bands(image, 0.2, np.random.default_rng(seed))[0, 0]
        assert abs(middle - 127.5) <= 0.1 * 255 + 1e-3
        assert 0.8 - 1e-5 <= (high - low) / 255 <= 1.2 + 1e-5
        assert high - middle == pytest.approx(middle - low, abs=1e-3)
    assert vary_bands(image, 0, np.random.default_rng(0)) is image


@pytest.mark.parametrize("channels", [1, 6])
def test_mosaic_mixup_and_letterbox_keep_bands_and_what_8_bits_cannot_hold(channels: int) -> None:
    mosaic = make_mosaic([labelled(channels)] * 4, (32, 32), np.random.default_rng(0))
    assert mosaic.image.shape == (32, 32, channels)
    assert set(np.unique(mosaic.image)) <= {128.0, 300.25}
    mixed = mixup(labelled(channels), labelled(channels, 100.25))
    assert mixed.image.shape == (20, 30, channels)
    assert (mixed.image == 200.25).all()
    resized, _ = resize_image(labelled(channels).image, (32, 32), "letterbox")
    assert resized.shape == (32, 32, channels)
    assert resized[0, 0, 0] == 128 and resized[16, 16, channels - 1] == 300.25


def test_three_bands_are_turned_like_colours_and_others_are_not() -> None:
    three = LabelledImage(np.array([[[1, 2, 3]]], np.float32), labelled(3).target)
    assert to_rgb(three).image[0, 0].tolist() == [3, 2, 1]
    four = LabelledImage(np.array([[[1, 2, 3, 4]]], np.float32), labelled(4).target)
    assert to_rgb(four).image[0, 0].tolist() == [1, 2, 3, 4]
