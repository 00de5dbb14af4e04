import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from yolofpn.models.box_coder import xyxy_to_yolo_targets, yolo_box_to_xyxy


def decode(deltas: list[float], scale_x_y: float = 1.0, *, linear_xy: bool = False) -> list[float]:
    """With anchor 10 x 20, in column 2 of row 3 of a map of stride 8."""
    anchor, cell = torch.tensor([10.0, 20.0]), torch.tensor([2.0, 3.0])
    return yolo_box_to_xyxy(torch.tensor(deltas), anchor, cell, 8, scale_x_y, linear_xy=linear_xy).tolist()


def test_zeros_are_the_anchor_in_the_middle_of_the_cell() -> None:
    # Centre (2.5 * 8, 3.5 * 8) = (20, 28), size 10 x 20.
    assert decode([0, 0, 0, 0]) == [15, 18, 25, 38]


def test_sigmoid_moves_the_centre_within_the_cell_and_exp_scales_the_anchor() -> None:
    # sigmoid(ln 3) = 3 / 4, sigmoid(-ln 3) = 1 / 4: centre (2.75 * 8, 3.25 * 8) = (22, 26); size 10 * 2 x 20 / 4.
    log3 = math.log(3)
    assert decode([log3, -log3, math.log(2), -math.log(4)]) == pytest.approx([12, 23.5, 32, 28.5])


def test_scale_x_y_stretches_the_sigmoid_about_its_middle() -> None:
    # With scale 2: 3 / 4 * 2 - 1 / 2 = 1 and 1 / 4 * 2 - 1 / 2 = 0: centre (3 * 8, 3 * 8).
    log3 = math.log(3)
    assert decode([log3, -log3, 0, 0], scale_x_y=2) == pytest.approx([19, 14, 29, 34])
    assert decode([0, 0, 0, 0], scale_x_y=2) == pytest.approx([15, 18, 25, 38])
    # Without it no centre leaves the cell, with it one reaches half a cell beyond each border.
    assert decode([99, -99, 0, 0])[:2] == pytest.approx([24 - 5, 24 - 10])
    assert decode([99, -99, 0, 0], scale_x_y=2)[:2] == pytest.approx([28 - 5, 20 - 10])


def test_linear_centres_take_t_as_it_is() -> None:
    # Centre ((2 + 1.5) * 8, (3 - 2) * 8) = (28, 8).
    assert decode([1.5, -2, 0, 0], linear_xy=True) == [23, -2, 33, 18]
    assert decode([1.5, -2, 0, 0], scale_x_y=2, linear_xy=True) == [23, -2, 33, 18]


def test_wild_sizes_stay_finite() -> None:
    box = decode([0, 0, 1e9, math.inf])
    assert box == pytest.approx(
        [20 - h / 2 if i < 2 else 20 + h / 2 for i, h in _sizes(10, 20, math.exp(10))], rel=1e-4
    )
    assert decode([0, 0, -math.inf, -1e9]) == [20, 28, 20, 28]


def _sizes(width: float, height: float, factor: float) -> list[tuple[int, float]]:
    sides = [width * factor, height * factor]
    return [(i, sides[i % 2]) for i in range(4)]


def test_leading_dimensions_broadcast() -> None:
    deltas = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    anchors, cells, strides = torch.rand(5, 2) * 50, torch.arange(10.0).view(5, 2), torch.full((5, 1), 8.0)
    boxes = yolo_box_to_xyxy(deltas, anchors, cells, strides)
    assert boxes.shape == (3, 5, 4)
    for i in range(3):
        for n in range(5):
            torch.testing.assert_close(boxes[i, n], yolo_box_to_xyxy(deltas[i, n], anchors[n], cells[n], 8))


def round_trip(box: Tensor, anchor: Tensor, cell: Tensor, stride: int, scale: float, *, linear: bool) -> Tensor:
    """Encode, turn the wanted sigmoid into its t, decode."""
    xy, wh = xyxy_to_yolo_targets(box, anchor, cell, stride, scale, linear_xy=linear)
    if not linear:
        assert ((xy >= -1e-6) & (xy <= 1 + 1e-6)).all(), "the cell reaches the centre"
        xy = torch.logit(xy.clamp(0, 1))
    return yolo_box_to_xyxy(torch.cat([xy, wh]), anchor, cell, stride, scale, linear_xy=linear)


sides = st.floats(0.5, 4096)
fractions = st.floats(0, 1)


@pytest.mark.slow
@given(
    stride=st.sampled_from([4, 8, 16, 32]),
    fraction=st.tuples(fractions, fractions),
    place=st.tuples(fractions, fractions),
    size=st.tuples(sides, sides),
    anchor=st.tuples(st.floats(1, 600), st.floats(1, 600)),
    scale=st.sampled_from([1.0, 1.05, 2.0]),
    linear=st.booleans(),
)
def test_encoding_inverts_decoding_within_a_thousandth_of_a_pixel(
    stride: int,
    fraction: tuple[float, float],
    place: tuple[float, float],
    size: tuple[float, float],
    anchor: tuple[float, float],
    scale: float,
    linear: bool,
) -> None:
    cell = (torch.tensor(place, dtype=torch.float64) * (4096 / stride - 1)).floor()
    centre = (cell + torch.tensor(fraction, dtype=torch.float64)) * stride
    half = torch.tensor(size, dtype=torch.float64) / 2
    box, prior = torch.cat([centre - half, centre + half]), torch.tensor(anchor, dtype=torch.float64)
    back = round_trip(box, prior, cell, stride, scale, linear=linear)
    torch.testing.assert_close(back, box, rtol=0, atol=1e-3)


@given(size=st.floats(4096, 1e7), factor=st.floats(1e-3, 1e3))
def test_beyond_4096_pixels_the_inverse_holds_relatively(size: float, factor: float) -> None:
    box = torch.tensor([0, 0, size, size / 2], dtype=torch.float64)
    anchor, cell = torch.full((2,), size * factor, dtype=torch.float64), (box[2:] / 2 / 32).floor()
    torch.testing.assert_close(round_trip(box, anchor, cell, 32, 1.0, linear=False), box, rtol=1e-6, atol=size * 1e-6)


@pytest.mark.slow
@given(fraction=fractions, column=st.integers(0, 127), side=st.floats(1, 4096), factor=st.floats(0.25, 4))
def test_in_single_precision_too_where_the_anchor_fits(
    fraction: float, column: int, side: float, factor: float
) -> None:
    centre, half = (column + fraction) * 32, side / 2
    box = torch.tensor([centre - half, centre - half, centre + half, centre + half])
    cell, anchor = torch.full((2,), float(column)), torch.full((2,), side * factor)
    # A corner beyond 4096 is rounded to 2^-11 of a pixel before anything is computed.
    torch.testing.assert_close(round_trip(box, anchor, cell, 32, 1.0, linear=False), box, rtol=0, atol=1.5e-3)
