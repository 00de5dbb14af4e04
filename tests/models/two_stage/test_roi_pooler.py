"""Levels of boxes by hand and by loop, and pooling from several levels against pooling one box at a time."""

from __future__ import annotations

import math

import pytest
import torch

from yolofpn.models.two_stage.roi_pooler import RoIPooler, assign_levels
from yolofpn.ops.roi_align import roi_align, roi_max_pool
from yolofpn.structures import FeatureInfo


@pytest.mark.parametrize(
    ("width", "height", "level"),
    [
        (224, 224, 4),  # the paper's: as ImageNet's images
        (223.9, 223.9, 3),
        (112, 112, 3),  # half of it: one level finer
        (111.9, 111.9, 2),
        (448, 112, 4),  # the area counts, not the shape
        (448, 448, 5),
        (2000, 2000, 5),  # p7 does not exist
        (10, 10, 2),  # nor p0
        (0, 50, 2),
        (0, 0, 2),
    ],
)
def test_levels_by_hand(width: float, height: float, level: int) -> None:
    assert assign_levels(torch.tensor([[7.0, 9.0, 7 + width, 9 + height]]), 2, 5).tolist() == [level]


def test_levels_against_a_loop_on_three_levels() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.rand(200, 2, generator=generator, dtype=torch.float64) * 900 + 1
    boxes = torch.cat([torch.zeros_like(sizes), sizes], dim=1)
    expected = [min(5, max(3, math.floor(4 + math.log2(math.sqrt(w * h) / 224)))) for w, h in sizes.tolist()]
    assert assign_levels(boxes, 3, 5).tolist() == expected
    assert set(expected) == {3, 4, 5}


INFO = {"p3": FeatureInfo(2, 8), "p4": FeatureInfo(2, 16), "p5": FeatureInfo(2, 32)}
PYRAMID = {
    name: torch.randn(
        2, 2, 512 // info.stride, 512 // info.stride, generator=torch.Generator().manual_seed(info.stride)
    )
    for name, info in INFO.items()
}
BOXES = [
    torch.tensor([[0.0, 0, 500, 500], [10, 10, 60, 40], [100, 100, 350, 330]]),
    torch.tensor([[30.0, 200, 90, 280], [5, 5, 460, 470]]),
]


@pytest.mark.parametrize("kind", ["align", "max"])
def test_each_box_is_pooled_from_its_level_and_image(kind: str) -> None:
    pooler = RoIPooler(INFO, 3, kind="max" if kind == "max" else "align", sampling_ratio=2)
    pooled = pooler(PYRAMID, BOXES)
    row = 0
    for image, boxes in enumerate(BOXES):
        for box in boxes:
            (level,) = assign_levels(box[None], 3, 5).tolist()
            stride = 2**level
            feature, index = PYRAMID[f"p{level}"], torch.tensor([image])
            if kind == "max":
                alone = roi_max_pool(feature, box[None], index, (3, 3), 1 / stride)
            else:
                alone = roi_align(feature, box[None], index, (3, 3), 1 / stride, 2)
            torch.testing.assert_close(pooled[row], alone[0])
            row += 1
    assert row == len(pooled)


def test_images_without_boxes() -> None:
    pooler = RoIPooler(INFO, 3)
    none = torch.zeros(0, 4)
    assert pooler(PYRAMID, [none, none]).shape == (0, 2, 3, 3)
    torch.testing.assert_close(pooler(PYRAMID, [none, BOXES[1]]), pooler(PYRAMID, BOXES)[3:])


def test_gradients_reach_the_levels_that_are_used() -> None:
    pyramid = {name: feature.clone().requires_grad_() for name, feature in PYRAMID.items()}
    RoIPooler(INFO, 3)(pyramid, [BOXES[0][:1], BOXES[1][:1]]).sum().backward()  # type: ignore[no-untyped-call]
    used = {name: bool((feature.grad is not None) and feature.grad.any()) for name, feature in pyramid.items()}
    assert used == {"p3": True, "p4": False, "p5": True}
