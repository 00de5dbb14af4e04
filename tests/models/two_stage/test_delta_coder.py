"""Deltas of boxes: worked out by hand, against a plain loop, there and back, and their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from yolofpn.models.two_stage.delta_coder import DeltaCoder

Floats = NDArray[np.float64]


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 300
    return torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * 200], dim=1)


def encode_slowly(box: Floats, reference: Floats, weights: tuple[float, ...]) -> list[float]:
    width, height = reference[2] - reference[0], reference[3] - reference[1]
    dx = ((box[0] + box[2]) / 2 - (reference[0] + reference[2]) / 2) / width
    dy = ((box[1] + box[3]) / 2 - (reference[1] + reference[3]) / 2) / height
    dw, dh = math.log((box[2] - box[0]) / width), math.log((box[3] - box[1]) / height)
    return [weight * delta for weight, delta in zip(weights, (dx, dy, dw, dh), strict=True)]


def test_by_hand() -> None:
    reference = torch.tensor([10.0, 20.0, 30.0, 60.0])  # 20 x 40 about (20, 40)
    box = torch.tensor([15.0, 20.0, 55.0, 40.0])  # 40 x 20 about (35, 30)
    deltas = DeltaCoder((10, 10, 5, 5)).encode(box, reference)
    assert deltas.tolist() == pytest.approx([10 * 15 / 20, 10 * -10 / 40, 5 * math.log(2), 5 * math.log(0.5)])


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_against_a_loop_and_back(weights: tuple[float, float, float, float]) -> None:
    boxes, references = random_boxes(50, 0), random_boxes(50, 1)
    coder = DeltaCoder(weights)
    deltas = coder.encode(boxes, references)
    slow = [encode_slowly(box, ref, weights) for box, ref in zip(boxes.numpy(), references.numpy(), strict=True)]
    np.testing.assert_allclose(deltas.numpy(), slow, atol=1e-12)
    torch.testing.assert_close(coder.decode(deltas, references), boxes)


def test_one_reference_for_the_boxes_of_many_classes() -> None:
    references = random_boxes(3, 2)
    deltas = torch.zeros(3, 5, 4, dtype=torch.float64)
    deltas[:, 2, 0] = 0.5
    decoded = DeltaCoder().decode(deltas, references[:, None])
    torch.testing.assert_close(decoded[:, 0], references)
    width = references[:, 2] - references[:, 0]
    torch.testing.assert_close(decoded[:, 2, 0], references[:, 0] + width / 2)


def test_no_step_scales_by_more_than_1000_to_16() -> None:
    decoded = DeltaCoder().decode(torch.tensor([0.0, 0.0, 90.0, -90.0]), torch.tensor([0.0, 0.0, 16.0, 16.0]))
    assert decoded.tolist() == pytest.approx([8 - 500, 8, 8 + 500, 8], rel=1e-6)


def test_gradients() -> None:
    references = random_boxes(4, 3)
    deltas = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    coder = DeltaCoder((10, 10, 5, 5))
    assert torch.autograd.gradcheck(lambda d: coder.decode(d, references), (deltas,))
    boxes = random_boxes(4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda b: coder.encode(b, references), (boxes,))
