from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from pycocotools import mask as oracle  # type: ignore[import-untyped]

from yolofpn.data.shapes import runs_box, segmentation_box, turned_box


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("compressed", [False, True])
def test_masks_have_the_boxes_that_pycocotools_gives(seed: int, compressed: bool) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2).tolist()
    pixels = np.asfortranarray(rng.random((height, width)) < rng.choice([0.02, 0.3, 0.9])).astype(np.uint8)
    pixels[rng.integers(height), rng.integers(width)] = 1
    encoded = oracle.encode(pixels)
    x, y, w, h = oracle.toBbox(encoded).tolist()
    if compressed:
        counts: object = encoded["counts"].decode()
    else:
        flat = pixels.flatten(order="F")
        edges = np.flatnonzero(np.diff(flat)) + 1
        counts = [*([0] if flat[0] else []), *np.diff([0, *edges, len(flat)]).tolist()]
    assert segmentation_box({"counts": counts, "size": [height, width]}) == (x, y, x + w, y + h)


def test_runs_along_rows_are_those_of_the_transposed_mask() -> None:
    assert runs_box(np.array([7, 2, 3, 2]), 4, 5, by_columns=False) == (2, 1, 4, 3)
    assert runs_box(np.array([3, 4]), 4, 5, by_columns=False) == (0, 0, 5, 2)  # it wraps around


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        {},
        "text",
        [[1, 2, 3]],
        [["a", "b"]],
        {"counts": [5, -1], "size": [4, 4]},
        {"counts": [0, 17], "size": [4, 4]},
        {"counts": "\x7f", "size": [4, 4]},
        {"counts": [16], "size": [4, 4]},
        {"counts": [1, 2], "size": [4]},
    ],
)
def test_what_is_no_segmentation_has_no_box(segmentation: object) -> None:
    assert math.isnan(segmentation_box(segmentation)[0])


def test_several_polygons_have_one_box() -> None:
    assert segmentation_box([[1, 2, 5, 2, 5, 9], ["7", "3", "8", "3", "8", "4"]]) == (1, 2, 8, 9)
    assert segmentation_box([1, 2, 5, 2, 5, 9]) == (1, 2, 5, 9)


@pytest.mark.parametrize("degrees", [0, 30, 90, 137.5, 270, -45])
def test_turned_rectangles_have_the_box_around_opencv_s_corners(degrees: float) -> None:
    corners = cv2.boxPoints(((50.0, 40.0), (60.0, 20.0), degrees))
    expected = (*corners.min(axis=0), *corners.max(axis=0))
    assert turned_box((20, 30, 80, 50), degrees) == pytest.approx(expected, abs=1e-4)


def test_turned_rectangles_are_cut_to_the_image() -> None:
    assert turned_box((0, 40, 100, 50), 90, (60, 80)) == (45, 0, 55, 60)
