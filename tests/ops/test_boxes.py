import math
from itertools import pairwise
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.ops.formats import xywh_to_xyxy
from yolofpn.ops.boxes import (
    IoUKind,
    box_area,
    box_iou,
    clip_boxes,
    elementwise_iou,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)

KINDS: tuple[IoUKind, ...] = get_args(IoUKind)
IDENTICAL = ((10.0, 20.0, 30.0, 60.0), (10.0, 20.0, 30.0, 60.0))
DISJOINT = ((0.0, 0.0, 10.0, 10.0), (20.0, 30.0, 25.0, 31.0))
TOUCHING = ((0.0, 0.0, 10.0, 10.0), (10.0, 0.0, 20.0, 10.0))
INSIDE = ((0.0, 0.0, 10.0, 10.0), (2.0, 2.0, 8.0, 4.0))
POINT_IN_BOX = ((5.0, 5.0, 5.0, 5.0), (0.0, 0.0, 10.0, 10.0))
LINE_AND_LINE = ((0.0, 5.0, 10.0, 5.0), (0.0, 0.0, 0.0, 10.0))
SAME_POINT = ((5.0, 5.0, 5.0, 5.0), (5.0, 5.0, 5.0, 5.0))
PAIRS = (IDENTICAL, DISJOINT, TOUCHING, INSIDE, POINT_IN_BOX, LINE_AND_LINE, SAME_POINT)

coordinate = st.integers(-40, 40).map(lambda quarter: quarter / 4)
side = st.integers(0, 40).map(lambda quarter: quarter / 4)
xywh = st.tuples(coordinate, coordinate, side, side)


def boxes_of(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_formats_of_one_box() -> None:
    corners = torch.tensor([10.0, 20.0, 30.0, 60.0])
    assert xyxy_to_cxcywh(corners).tolist() == [20, 40, 20, 40]
    assert xyxy_to_xywh(corners).tolist() == [10, 20, 20, 40]


@pytest.mark.slow
@given(st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 4), min_size=1, max_size=8))
def test_formats_keep_the_corners(rows: list[tuple[float, float, float, float]]) -> None:
    boxes = boxes_of(*rows)
    centre, sides = xyxy_to_cxcywh(boxes).chunk(2, dim=-1)
    corners = torch.cat([centre - sides / 2, centre + sides / 2], dim=-1)
    torch.testing.assert_close(corners, boxes, atol=1e-9, rtol=0)
    torch.testing.assert_close(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes, atol=1e-9, rtol=0)


def test_leading_dimensions_are_free() -> None:
    boxes = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    for convert in (xyxy_to_cxcywh, xyxy_to_xywh):
        assert convert(boxes).shape == boxes.shape
        assert torch.equal(convert(boxes)[1, 2], convert(boxes[1, 2]))
    assert box_area(boxes).shape == (2, 3, 5)
    assert box_iou(boxes, boxes).shape == (2, 3, 5, 5)
    assert box_iou(boxes[0, 0], torch.empty(0, 4)).shape == (5, 0)


def test_clip_boxes() -> None:
    boxes = torch.tensor([[-5.0, -6.0, 700.0, 500.0], [10.0, 20.0, 30.0, 40.0], [650.0, 10.0, 700.0, 20.0]])
    # Height 480 bounds y, width 640 bounds x; the last box lies right of the image.
    expected = [[0, 0, 640, 480], [10, 20, 30, 40], [640, 10, 640, 20]]
    assert clip_boxes(boxes, (480, 640)).tolist() == expected
    assert boxes[0].tolist() == [-5, -6, 700, 500]


def test_area_of_an_inverted_box_is_0() -> None:
    assert box_area(torch.tensor([[0.0, 0.0, 4.0, 3.0], [4.0, 3.0, 0.0, 0.0], [4.0, 0.0, 0.0, 3.0]])).tolist() == [
        12,
        0,
        0,
    ]


def test_box_iou_of_hand_worked_boxes() -> None:
    boxes1 = boxes_of((0, 0, 10, 10), (0, 0, 4, 5), (3, 3, 3, 9))
    boxes2 = boxes_of((0, 0, 10, 10), (5, 0, 15, 10), (20, 20, 30, 30), (3, 3, 3, 9))
    # (5, 0, 15, 10) shares 50 of 150 with the first box.
    expected = boxes_of((1, 1 / 3, 0, 0), (20 / 100, 0, 0, 0), (0, 0, 0, 0))
    assert torch.equal(box_iou(boxes1, boxes2), expected)


def test_half_precision_does_not_overflow() -> None:
    boxes = torch.tensor([[0.0, 0.0, 600.0, 600.0], [0.0, 0.0, 600.0, 300.0]], dtype=torch.float16)
    assert box_iou(boxes, boxes).tolist() == [[1, 0.5], [0.5, 1]]


def test_box_iou_is_never_nan() -> None:
    infinity = math.inf
    boxes = boxes_of(
        (0, 0, 1, 1),
        (0, 0, 0, 0),
        (-infinity, -infinity, infinity, infinity),
        (infinity, infinity, infinity, infinity),
        (0, 0, infinity, 0),
        (1e300, 1e300, 1.5e300, 1.5e300),
        (5, 5, 1, 1),
    )
    assert not box_iou(boxes, boxes).isnan().any()
    assert not box_iou(boxes.float(), boxes.float()).isnan().any()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # a = 4 x 4 at (0, 0), b = 4 x 2 at (2, 2): intersection 2 x 2 = 4, union 16 + 8 - 4 = 20, hull 6 x 4 = 24,
        # centres (2, 2) and (4, 3): squared distance 5, squared diagonal 36 + 16 = 52.
        ("iou", 4 / 20),
        ("giou", 4 / 20 - (24 - 20) / 24),
        ("diou", 4 / 20 - 5 / 52),
    ],
)
def test_elementwise_iou_by_hand(kind: IoUKind, expected: float) -> None:
    value = elementwise_iou(boxes_of((0, 0, 4, 4)), boxes_of((2, 2, 6, 4)), kind)
    assert value.tolist() == pytest.approx([expected], abs=1e-12)


def test_ciou_by_hand() -> None:
    # Ratios 1 and sqrt(3): angles 45 and 60 degrees, so v = 4 / pi^2 * (pi / 12)^2 = 1 / 36.
    # Same centre, so no distance; the square of side 1 lies inside sqrt(3) x 1: IoU = 1 / sqrt(3).
    width = math.sqrt(3)
    iou, v = 1 / width, 1 / 36
    expected = iou - v / (1 - iou + v) * v
    value = elementwise_iou(boxes_of((-0.5, 0, 0.5, 1)), boxes_of((-width / 2, 0, width / 2, 1)), "ciou")
    assert value.tolist() == pytest.approx([expected], abs=1e-12)


def test_penalties_of_disjoint_boxes_by_hand() -> None:
    # Hull 25 x 31 = 775 of which 105 are covered; centres (5, 5) and (22.5, 30.5).
    # Ratios 1 and 5; IoU is 0, so alpha = v / (1 + v).
    first, second = (boxes_of(box) for box in DISJOINT)
    diou = -(17.5**2 + 25.5**2) / (25**2 + 31**2)
    v = 4 / math.pi**2 * (math.atan(5) - math.atan(1)) ** 2
    assert elementwise_iou(first, second, "iou").item() == 0
    assert elementwise_iou(first, second, "giou").item() == pytest.approx(-670 / 775)
    assert elementwise_iou(first, second, "diou").item() == pytest.approx(diou)
    assert elementwise_iou(first, second, "ciou").item() == pytest.approx(diou - v * v / (1 + v))


@pytest.mark.parametrize("kind", KINDS)
def test_identical_boxes_are_perfect(kind: IoUKind) -> None:
    first, second = (torch.tensor(box) for box in IDENTICAL)
    assert elementwise_iou(first, second, kind).item() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_farther_is_worse_for_all_but_iou(kind: IoUKind) -> None:
    fixed = boxes_of((0, 0, 10, 10))
    scores = [elementwise_iou(fixed, fixed + offset, kind).item() for offset in (0, 5, 15, 40)]
    assert scores[0] > scores[1] > scores[2]
    assert scores[2] == scores[3] if kind == "iou" else scores[2] > scores[3]


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="siou"):
        elementwise_iou(torch.zeros(1, 4), torch.zeros(1, 4), "siou")  # type: ignore[arg-type]


@pytest.mark.slow
@given(st.lists(st.tuples(xywh, xywh), min_size=1, max_size=20))
def test_family_is_symmetric_and_in_range(pairs: list[tuple[tuple[float, ...], tuple[float, ...]]]) -> None:
    boxes1, boxes2 = (xywh_to_xyxy(torch.tensor(rows)) for rows in zip(*pairs, strict=True))
    lowest_of: dict[IoUKind, float] = {"iou": 0.0, "giou": -1.0, "diou": -1.0, "ciou": -1.5}
    for kind in KINDS:
        values = elementwise_iou(boxes1, boxes2, kind)
        torch.testing.assert_close(values, elementwise_iou(boxes2, boxes1, kind))
        assert (values >= lowest_of[kind] - 1e-6).all() and (values <= 1 + 1e-6).all()
    assert torch.equal(elementwise_iou(boxes1, boxes2, "iou"), box_iou(boxes1, boxes2).diagonal())
    assert torch.equal(box_iou(boxes1, boxes2), box_iou(boxes2, boxes1).T)


@pytest.mark.slow
@given(xywh, xywh, st.sampled_from([0.125, 2.0, 1024.0]), coordinate)
def test_family_does_not_depend_on_scale_and_place(
    first: tuple[float, ...], second: tuple[float, ...], scale: float, offset: float
) -> None:
    boxes1, boxes2 = (xywh_to_xyxy(torch.tensor(box, dtype=torch.float64)) for box in (first, second))
    for kind in KINDS:
        before = elementwise_iou(boxes1, boxes2, kind)
        after = elementwise_iou(boxes1 * scale + offset, boxes2 * scale + offset, kind)
        torch.testing.assert_close(before, after, atol=1e-9, rtol=0)


def counted_iou(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """IoU by counting unit cells: a reference that knows no formula."""
    cells1, cells2 = (
        {(x, y) for x in range(box[0], box[0] + box[2]) for y in range(box[1], box[1] + box[3])}
        for box in (first, second)
    )
    return len(cells1 & cells2) / len(cells1 | cells2) if cells1 | cells2 else 0.0


small = st.integers(0, 7)


@pytest.mark.slow
@given(st.lists(st.tuples(small, small, small, small), min_size=2, max_size=8))
def test_iou_agrees_with_counting_cells(rows: list[tuple[int, int, int, int]]) -> None:
    boxes = xywh_to_xyxy(torch.tensor(rows, dtype=torch.float64))
    for index, (first, second) in enumerate(pairwise(rows)):
        assert box_iou(boxes, boxes)[index, index + 1].item() == counted_iou(first, second)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pair", PAIRS)
def test_gradients_are_finite(kind: IoUKind, dtype: torch.dtype, pair: tuple[tuple[float, ...], ...]) -> None:
    predicted, target = (torch.tensor(box, dtype=dtype, requires_grad=True) for box in pair)
    for gradient in torch.autograd.grad(elementwise_iou(predicted, target, kind), (predicted, target)):
        assert gradient.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_descent_brings_a_disjoint_box_to_its_target(kind: IoUKind) -> None:
    target = boxes_of((20, 30, 40, 44))
    predicted = boxes_of((0, 0, 10, 10)).requires_grad_()
    optimiser = torch.optim.Adam([predicted], lr=1.0)
    for _ in range(150):
        predicted.grad = torch.autograd.grad(1 - elementwise_iou(predicted, target, kind), predicted)[0]
        optimiser.step()
    assert box_iou(predicted.detach(), target).item() > 0.9


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])
def test_gradients_agree_with_finite_differences(kind: IoUKind) -> None:
    predicted = boxes_of((0, 0, 4, 4.5), (1, 1, 9, 3)).requires_grad_()
    target = boxes_of((2, 2, 6, 4), (0, 2, 5, 8))
    assert torch.autograd.gradcheck(lambda boxes: elementwise_iou(boxes, target, kind), predicted)


def test_ciou_gradient_takes_alpha_for_a_constant() -> None:
    predicted = boxes_of((0, 0, 4, 4.5)).requires_grad_()
    target = boxes_of((2, 2, 6, 4))

    def aspect(boxes: Tensor) -> Tensor:  # v; the target is 4 x 2
        return (
            4 / math.pi**2 * (math.atan(2) - torch.atan((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]))) ** 2
        )

    fixed = predicted.detach()
    v = aspect(fixed)
    alpha = v / (1 - elementwise_iou(fixed, target) + v)
    (expected,) = torch.autograd.grad(elementwise_iou(predicted, target, "diou") - alpha * aspect(predicted), predicted)
    (gradient,) = torch.autograd.grad(elementwise_iou(predicted, target, "ciou"), predicted)
    torch.testing.assert_close(gradient, expected)
