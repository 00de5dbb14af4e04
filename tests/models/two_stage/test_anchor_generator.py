"""Anchors against loops over sizes, ratios, rows and columns, and against published numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yolofpn.models.two_stage.anchor_generator import AnchorGenerator, base_anchors, place_anchors

RATIOS = (0.5, 1.0, 2.0)


def test_the_published_anchors_of_32_pixels() -> None:
    # 32 / sqrt(.5) = 45.25, 32 * sqrt(.5) = 22.63; half of each is rounded to whole pixels
    assert base_anchors([32], RATIOS).tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]


def test_five_areas_and_three_ratios() -> None:
    sizes = (32, 64, 128, 256, 512)
    anchors = base_anchors(sizes, RATIOS).double().numpy()
    row = 0
    for ratio in RATIOS:
        for size in sizes:
            x1, y1, x2, y2 = anchors[row]
            assert ((x1 + x2) / 2, (y1 + y2) / 2) == (0, 0)
            assert (x2 - x1) * (y2 - y1) == pytest.approx(size**2, rel=0.07)
            assert (y2 - y1) / (x2 - x1) == pytest.approx(ratio, rel=0.07)
            row += 1
    assert row == len(anchors) == 15


def test_every_cell_has_its_anchors_row_by_row() -> None:
    base = torch.tensor([[-2.0, -1.0, 2.0, 1.0], [-1.0, -3.0, 1.0, 3.0]])
    placed = place_anchors(base, (2, 3), (32, 48)).numpy()
    expected = []
    for row in range(2):
        for column in range(3):
            for anchor in base.tolist():
                shift = np.array([16 * column, 16 * row, 16 * column, 16 * row])
                expected.append(np.array(anchor) + shift)
    np.testing.assert_array_equal(placed, np.array(expected, dtype=np.float32))


def test_a_rounded_half_has_cells_nearer_to_each_other() -> None:
    # 800 pixels: p5 has 25 rows, p6 every other of them, 13, which are 800 // 13 = 61 pixels apart and not 64
    placed = place_anchors(torch.zeros(1, 4), (13, 21), (800, 1344)).view(13, 21, 4)
    assert placed[1, 0].tolist() == [0, 61, 0, 61]
    assert placed[0, 1].tolist() == [64, 0, 64, 0]


def test_levels_have_their_own_sizes() -> None:
    generator = AnchorGenerator([[8], [16]], RATIOS)
    fine, coarse = generator([(4, 6), (2, 3)], (32, 48))
    assert generator.num_anchors == 3
    assert (fine.shape, coarse.shape) == ((4 * 6 * 3, 4), (2 * 3 * 3, 4))
    assert fine[1].tolist() == [-4, -4, 4, 4]
    assert coarse[1].tolist() == [-8, -8, 8, 8]


def test_levels_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="same number"):
        AnchorGenerator([[8], [16, 32]], RATIOS)
