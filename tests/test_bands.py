"""Scaling of values to the network's range, and what people see of them."""

import numpy as np
import pytest

from yolofpn.bands import Bands, drawable, viewable
from yolofpn.errors import InputError


def test_the_range_becomes_0_to_255_and_nothing_is_rounded() -> None:
    values = np.array([[1000, 1001, 1500, 2000]], np.uint16)
    scaled = Bands(1, ((1000, 2000),)).read_values(values, "a")
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[0, :, 0], [0, 0.255, 127.5, 255], atol=1e-4)


def test_without_a_range_the_type_decides() -> None:
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        scaled = Bands(1).read_values(np.array([[0, white]], dtype), "a")
        np.testing.assert_allclose(scaled[0, :, 0], [0, 255])
    with pytest.raises(InputError, match="range"):
        Bands(1).read_values(np.zeros((1, 1), np.int16), "a")


def test_values_far_outside_the_range_and_nan_cannot_drown_the_rest() -> None:
    values = np.array([[-1e9, 0.5, 1.5, 1e9, np.nan, np.inf]], np.float32)
    scaled = Bands(1, ((0, 1),)).read_values(values, "a")
    np.testing.assert_allclose(scaled[0, :, 0], [-255, 127.5, 382.5, 510, 0, 510])


def test_each_band_has_its_own_range_and_three_bands_are_reversed() -> None:
    values = np.array([[[1, 20, 300]]], np.uint16)
    ranges = ((0.0, 1.0), (0.0, 40.0), (200.0, 600.0))
    np.testing.assert_allclose(Bands(3, ranges).read_values(values, "a")[0, 0], [63.75, 127.5, 255])
    four = np.array([[[1, 2, 3, 4]]], np.uint8)
    np.testing.assert_allclose(Bands(4).read_values(four, "a")[0, 0], [1, 2, 3, 4])


def test_chosen_bands_are_drawn_as_red_green_and_blue() -> None:
    image = np.zeros((10, 10, 4), np.float32)
    image[:5, :, 3] = 200  # band 4: the upper half
    image[:, :5, 1] = -50  # band 2: the right half is brighter
    seen = viewable(image, (4, 2, 1))
    assert seen.dtype == np.uint8
    assert seen[0, 0].tolist() == [0, 0, 255]  # BGR: band 4 is red
    assert seen[9, 9].tolist() == [0, 255, 0]


def test_one_band_is_stretched_to_gray_and_colours_stay_as_they_are() -> None:
    ramp = np.linspace(20_000, 20_100, 101, dtype=np.float32).reshape(1, -1, 1)
    seen = viewable(ramp)
    assert seen.shape == (1, 101, 3)
    assert (seen[..., 0] == seen[..., 2]).all()
    assert seen[0, 0, 0] == 0 and seen[0, 50, 0] == 128 and seen[0, 100, 0] == 255
    colours = np.zeros((2, 2, 3), np.uint8)
    assert viewable(colours) is colours
    assert viewable(np.full((4, 4, 1), 7, np.float32)).max() == 0


def test_8_bit_images_are_drawn_on_as_they_are() -> None:
    blue = np.zeros((2, 3, 4), np.uint8)
    blue[:, :, [0, 3]] = 255, 40
    assert drawable(blue)[0, 0].tolist() == [255, 0, 0]
    gray = np.arange(100, 110, dtype=np.uint8).reshape(2, 5)
    for image in (gray, gray[:, :, None]):
        np.testing.assert_array_equal(drawable(image), np.repeat(gray[:, :, None], 3, axis=2))
    assert drawable(gray.astype(np.uint16))[:, :, 0].max() == 255


@pytest.mark.filterwarnings("error")
def test_nan_is_drawn_black_and_does_not_hide_the_rest() -> None:
    values = np.linspace(-3, 7, 101, dtype=np.float32)
    values = np.array([*values, np.nan, np.inf, -np.inf], np.float32)[None]
    seen = drawable(values)[0, :, 0].tolist()
    assert (seen[50], seen[100:]) == (128, [255, 0, 255, 0])
    assert viewable(np.full((2, 2, 1), np.nan, np.float32)).max() == 0
