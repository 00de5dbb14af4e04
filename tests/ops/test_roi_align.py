"""Both ways to pool RoIs: hand-worked answers, and loops over single samples and cells as a slow reference."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolofpn.ops import roi_align as module
from yolofpn.ops.roi_align import roi_align, roi_max_pool

Array: TypeAlias = NDArray[np.float64]

# Boxes of a 20 x 24 map at stride 8 (160 x 192 pixels) that meet every edge.
BOXES = (
    (16, 24, 120, 100),
    (3.3, 7.7, 90.1, 61.4),
    (0, 0, 192, 160),
    (-40, -30, 50, 60),  # leaves the image at the top left
    (150, 120, 260, 230),  # and at the bottom right
    (400, 10, 500, 90),  # outside
    (-300, -300, -200, -200),
    (64, 64, 64, 64),  # no extent
    (80, 40, 80, 90),  # no width
    (4, 4, 12, 12),  # half-pixel edges
    (188, 156, 196, 164),
    (60.5, 60.5, 61.0, 61.0),  # less than a cell
    (100, 90, 60, 50),  # inverted
)
SCALE = 1 / 8


def random_feature(batch: int = 2, channels: int = 3, height: int = 20, width: int = 24) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0)).double()


def edge_cases() -> tuple[Tensor, Tensor]:
    return torch.tensor(BOXES, dtype=torch.float64), torch.arange(len(BOXES)) % 2


def interpolate(plane: Array, y: float, x: float) -> float:
    """The value at (y, x), where whole numbers are the centres of cells: the mean of four, weighted by nearness."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            nearness = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
            if nearness:
                total += nearness * plane[row, column]
    return total


def slow_align(
    feature: Tensor, boxes: Tensor, indices: Tensor, size: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> Array:
    maps: Array = feature.double().numpy()
    pooled: Array = np.zeros((len(boxes), maps.shape[1], *size))
    for r, (box, image) in enumerate(zip(boxes.tolist(), indices.tolist(), strict=True)):
        x1, y1, x2, y2 = (side * scale - (0.5 if aligned else 0) for side in box)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1), max(height, 1)
        down = ratio if ratio > 0 else math.ceil(height / size[0])
        across = ratio if ratio > 0 else math.ceil(width / size[1])
        for channel in range(maps.shape[1]):
            for i in range(size[0]):
                for j in range(size[1]):
                    samples = [
                        interpolate(
                            maps[image, channel],
                            y1 + (i + (a + 0.5) / down) * height / size[0],
                            x1 + (j + (b + 0.5) / across) * width / size[1],
                        )
                        for a in range(down)
                        for b in range(across)
                    ]
                    pooled[r, channel, i, j] = sum(samples) / max(1, len(samples))
    return pooled


def slow_max(feature: Tensor, boxes: Tensor, indices: Tensor, size: tuple[int, int], scale: float) -> Array:
    maps: Array = feature.double().numpy()
    rows, columns = maps.shape[2:]
    pooled: Array = np.zeros((len(boxes), maps.shape[1], *size))

    def nearest(value: float) -> int:
        return int(math.copysign(math.floor(abs(value) + 0.5), value))

    for r, (box, image) in enumerate(zip(boxes.tolist(), indices.tolist(), strict=True)):
        x1, y1, x2, y2 = (nearest(side * scale) for side in box)
        width, height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        for i in range(size[0]):
            for j in range(size[1]):
                window = [
                    maps[image, :, y, x]
                    for y in range(y1 + i * height // size[0], y1 + math.ceil((i + 1) * height / size[0]))
                    for x in range(x1 + j * width // size[1], x1 + math.ceil((j + 1) * width / size[1]))
                    if 0 <= y < rows and 0 <= x < columns
                ]
                if window:
                    pooled[r, :, i, j] = np.max(window, axis=0)
    return pooled


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [2, 1, 0])
def test_align_against_loops_over_samples(ratio: int, aligned: bool) -> None:
    feature, (boxes, indices) = random_feature(), edge_cases()
    for size in ((3, 2), (1, 4)):
        fast = roi_align(feature, boxes, indices, size, SCALE, ratio, aligned)
        slow = slow_align(feature, boxes, indices, size, SCALE, ratio, aligned)
        np.testing.assert_allclose(fast.numpy(), slow, atol=1e-12)
    assert fast[:2].any() and not fast[5].any() and not fast[6].any()


def test_max_pool_against_loops_over_cells() -> None:
    feature, (boxes, indices) = random_feature(), edge_cases()
    for size in ((3, 2), (7, 7)):
        fast = roi_max_pool(feature, boxes, indices, size, SCALE)
        np.testing.assert_array_equal(fast.numpy(), slow_max(feature, boxes, indices, size, SCALE))


def ramp(height: int = 6, width: int = 8) -> Tensor:
    """A map whose value is 10 y + x in cells; bilinear interpolation gives the same between them."""
    return (10.0 * torch.arange(height)[:, None] + torch.arange(width)).view(1, 1, height, width)


@pytest.mark.parametrize(
    ("box", "aligned", "expected"),
    [
        # 4 x 2 cells from (x 1, y 2): two bins of 2 x 2 cells each, whose samples average to their middles.
        ((2, 4, 10, 8), False, [30 + 2, 30 + 4]),
        ((2, 4, 10, 8), True, [25 + 1.5, 25 + 3.5]),  # the same half a cell further up and left
        # No extent: unaligned a single cell from (3, 2), cut at its middle; aligned all samples at (2.5, 1.5).
        ((6, 4, 6, 4), False, [25 + 3.25, 25 + 3.75]),
        ((6, 4, 6, 4), True, [15 + 2.5, 15 + 2.5]),
        # From x -4 to 4: samples at -3 and -1 (the last one within a cell of the map: column 0), then 1 and 3.
        ((-8, 4, 8, 8), False, [(30 + 0) / 2, 30 + 2]),
        # From x 6 to 10: samples at 6.5 and 7.5 (column 7), then 8.5 and 9.5, outside.
        ((12, 4, 20, 8), False, [30 + 6.75, 0]),
    ],
)
def test_align_by_hand(box: tuple[float, ...], aligned: bool, expected: list[float]) -> None:
    """A ramp of 10 y + x, at two pixels a cell, pooled to 1 x 2 with two samples per bin and direction."""
    pooled = roi_align(ramp(), torch.tensor([box], dtype=torch.float32), torch.tensor([0]), (1, 2), 0.5, 2, aligned)
    assert pooled[0, 0, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("edge", "inside"), [(-1.0, True), (-1.01, False), (6.0, True), (6.01, False)])
def test_a_sample_counts_up_to_a_cell_outside_the_map(edge: float, inside: bool) -> None:
    """A constant map of 6 x 6; a box of 1 x 1 cells whose only sample lies at (edge, 2.5)."""
    box = torch.tensor([[edge - 0.5, 2, edge + 0.5, 3]], dtype=torch.float64)
    feature = torch.full((1, 1, 6, 6), 5.0, dtype=torch.float64)
    assert roi_align(feature, box, torch.tensor([0]), (1, 1), 1.0, 1).item() == (5.0 if inside else 0.0)


def test_the_number_of_samples_follows_the_box() -> None:
    """Sampling 0 on a 1 x 1 output takes one sample per cell begun: a spike is found by fine sampling alone."""
    feature = torch.zeros(1, 1, 8, 8)
    feature[0, 0, 3, 3] = 1
    box, index = torch.tensor([[0.5, 0.5, 5.5, 5.5]]), torch.tensor([0])
    # 5 x 5 samples at whole cells 1 .. 5, one of which is the spike; the one sample of ratio 1 lies on it too.
    assert roi_align(feature, box, index, (1, 1), 1.0, 0).item() == pytest.approx(1 / 25)
    assert roi_align(feature, box, index, (1, 1), 1.0, 1).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((2, 4, 7, 7), [40 + 2, 40 + 4]),  # cells 1 .. 4 (3.5 rounds up) by 2 .. 4: columns 1, 2 and 3, 4
        ((2, 4, 6, 4), [20 + 2, 20 + 3]),  # columns 1 .. 3: the middle one belongs to both bins
        ((6, 4, 6, 4), [23, 23]),
        ((-1, 4, 3, 4), [20, 20 + 2]),  # -0.5 rounds to -1, 1.5 to 2: columns -1, 0 and 1, 2
        ((-20, 4, 2, 4), [0, 20 + 1]),  # columns -10 .. -5 have no cells
        ((40, 40, 50, 50), [0, 0]),
    ],
)
def test_max_pool_by_hand(box: tuple[float, ...], expected: list[float]) -> None:
    pooled = roi_max_pool(ramp(), torch.tensor([box], dtype=torch.float32), torch.tensor([0]), (1, 2), 0.5)
    assert pooled[0, 0, 0].tolist() == expected


@pytest.mark.slow
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [2, 0])
def test_gradients_of_align(ratio: int, aligned: bool) -> None:
    feature = random_feature(2, 1, 5, 6).requires_grad_()
    boxes = torch.tensor([[3.1, 2.2, 30, 35], [-9, -9, 20, 50], [16, 16, 16, 16], [900, 0, 950, 9]]).double()
    indices = torch.tensor([0, 1, 1, 0])

    def pool(x: Tensor) -> Tensor:
        return roi_align(x, boxes, indices, (2, 3), SCALE, ratio, aligned)

    assert torch.autograd.gradcheck(pool, (feature,))


@pytest.mark.slow
def test_gradients_of_max_pool() -> None:
    feature = random_feature(2, 1, 5, 6).requires_grad_()
    boxes, indices = (
        torch.tensor([[3.1, 2.2, 30, 35], [-9, -9, 20, 50], [900, 0, 950, 9]]).double(),
        torch.arange(3) % 2,
    )

    def pool(x: Tensor) -> Tensor:
        return roi_max_pool(x, boxes, indices, (2, 3), SCALE)

    assert torch.autograd.gradcheck(pool, (feature,))


def test_the_first_of_equal_maxima_learns() -> None:
    feature = torch.zeros(1, 1, 4, 4, requires_grad=True)
    pooled = roi_max_pool(feature, torch.tensor([[1.0, 1.0, 3.0, 3.0]]), torch.tensor([0]), (1, 1), 1.0)
    (gradient,) = torch.autograd.grad(pooled.sum(), feature)
    assert gradient.nonzero().tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("ratio", [2, 0])
def test_a_few_boxes_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch, ratio: int) -> None:
    feature, (boxes, indices) = random_feature(), edge_cases()
    whole = (
        roi_align(feature, boxes, indices, (3, 2), SCALE, ratio),
        roi_max_pool(feature, boxes, indices, (3, 2), SCALE),
    )
    monkeypatch.setattr(module, "_TAPS_AT_ONCE", 3 * 3 * 2 * 16)
    monkeypatch.setattr(module, "_ROIS_AT_ONCE", 5)
    parts = (
        roi_align(feature, boxes, indices, (3, 2), SCALE, ratio),
        roi_max_pool(feature, boxes, indices, (3, 2), SCALE),
    )
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype: torch.dtype) -> None:
    feature, (boxes, indices) = random_feature().to(dtype), edge_cases()
    for aligned in (False, True):
        pooled = roi_align(feature, boxes.float(), indices, (7, 7), SCALE, 2, aligned)
        exact = roi_align(feature.float(), boxes.float(), indices, (7, 7), SCALE, 2, aligned)
        assert pooled.dtype == dtype and torch.equal(pooled, exact.to(dtype))
    peaks = roi_max_pool(feature, boxes.float(), indices, (7, 7), SCALE)
    assert peaks.dtype == dtype
    assert torch.equal(peaks.double(), roi_max_pool(feature.double(), boxes, indices, (7, 7), SCALE))


@pytest.mark.parametrize("pool", [roi_align, roi_max_pool])
def test_memory_format_does_not_matter(pool: Any) -> None:
    feature, (boxes, indices) = random_feature(), edge_cases()
    other = feature.to(memory_format=torch.channels_last)
    assert torch.equal(pool(feature, boxes, indices, (3, 3), SCALE), pool(other, boxes, indices, (3, 3), SCALE))


@pytest.mark.parametrize("pool", [roi_align, roi_max_pool])
def test_no_boxes(pool: Any) -> None:
    feature = random_feature().requires_grad_()
    pooled = pool(feature, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), (7, 5), SCALE)
    assert pooled.shape == (0, 3, 7, 5) and pooled.dtype == feature.dtype


@pytest.mark.parametrize("pool", [roi_align, roi_max_pool])
def test_coordinates_that_are_no_numbers_leave_numbers(pool: Any) -> None:
    boxes = torch.tensor([[math.nan] * 4, [-math.inf, 0, math.inf, 9]])
    assert pool(random_feature(), boxes, torch.tensor([0, 1]), (2, 2), SCALE).isfinite().all()


@pytest.mark.parametrize("pool", [roi_align, roi_max_pool])
@pytest.mark.parametrize(
    ("feature", "boxes", "indices"),
    [((3, 9, 9), (1, 4), (1,)), ((1, 3, 9, 9), (2, 5), (2,)), ((1, 3, 9, 9), (2, 4), (1,))],
)
def test_shapes_that_do_not_fit(
    pool: Any, feature: tuple[int, ...], boxes: tuple[int, ...], indices: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"must be \[B, C, H, W\], \[R, 4\] and \[R\]"):
        pool(torch.zeros(feature), torch.zeros(boxes), torch.zeros(indices, dtype=torch.int64), (7, 7), SCALE)
