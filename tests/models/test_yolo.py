"""The whole one-stage detector: shapes, the two faces of forward, and learning one image by heart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.cases import make_target
from tests.models.small import small_config, small_model
from yolofpn.config import load_config
from yolofpn.detector import Detector
from yolofpn.models.build import build_yolo
from yolofpn.models.yolo import YOLO
from yolofpn.ops.boxes import box_iou
from yolofpn.structures import Detections, Limits, Target

CFG = Path(__file__).parents[2] / "cfg"


@pytest.fixture(scope="module")
def yolov3() -> YOLO:
    """The full model without numbers."""
    config = load_config(CFG / "yolofpn.yaml")
    with torch.device("meta"):
        return build_yolo(config.model, 80, config.input, config.postprocess).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "cells"),
    [
        ((416, 416), [(52, 52), (26, 26), (13, 13)]),
        ((1088, 32), [(136, 4), (68, 2), (34, 1)]),
    ],
    ids=str,
)
def test_255_channels_at_strides_8_16_32(yolov3: YOLO, size: tuple[int, int], cells: list[tuple[int, int]]) -> None:
    maps = yolov3.dense(torch.zeros(2, 3, *size, dtype=torch.uint8, device="meta"))
    assert {name: tuple(m.shape) for name, m in maps.items()} == {
        f"p{k}": (2, 255, *cell) for k, cell in zip((3, 4, 5), cells, strict=True)
    }


def test_a_yolo_is_a_detector(yolov3: YOLO) -> None:
    detector: Detector = yolov3
    assert (detector.num_classes, detector.size_divisor) == (80, 32)
    assert detector.limits == Limits(0.25, 0.45, 300)


def test_its_parts_stand_first_in_the_state_dict(yolov3: YOLO) -> None:
    assert {name.split(".")[0] for name in yolov3.state_dict()} == {"backbone", "neck", "head"}
    assert {name.split(".")[1] for name in yolov3.state_dict() if name.startswith("neck.")} == {"p3", "p4", "p5"}


def test_without_targets_it_detects_and_with_them_it_gives_losses_in_either_mode() -> None:
    model = small_model(small_config())
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    targets = [make_target([(5, 9, 40, 50)]), make_target([])]
    for mode in (True, False):
        model.train(mode)
        losses = model(images, targets)
        assert isinstance(losses, dict)
        assert set(losses) == {"loss_box", "loss_objectness", "loss_class"}
        detections = model(images)
        assert isinstance(detections, list)
        assert len(detections) == 2


def test_forward_is_dense_and_postprocess() -> None:
    model = small_model(small_config()).eval()
    model.limits = Limits(score_thresh=0.0, detections_per_img=20)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        whole = model(images)
        parts = model.postprocess(model.dense(images), [(64, 96)] * 2)
        fewer = model.postprocess(model.dense(images), [(64, 96)] * 2, Limits(0.0, detections_per_img=5))
    assert isinstance(whole, list)
    for a, b, c in zip(whole, parts, fewer, strict=True):
        assert len(a) == 20
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.scores[:5], c.scores)


def test_bytes_and_floats_give_the_same() -> None:
    model = small_model(small_config()).eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        for a, b in zip(model.dense(images).values(), model.dense(images.float()).values(), strict=True):
            assert torch.equal(a, b)


def test_losses_are_computed_in_float32_under_autocast() -> None:
    model = small_model(small_config())
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images, [make_target([(5, 9, 40, 50)]), make_target([])])
    assert isinstance(losses, dict)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())


# Two boxes beside each other and one within another, of two classes.
SCENE = make_target([(6, 8, 40, 44), (52, 30, 90, 84), (60, 40, 76, 60)], [0, 1, 0])


def scene() -> Tensor:
    """The boxes of SCENE in the colours of their classes on dark noise, [1, 3, 96, 96]."""
    image = torch.randint(0, 40, (3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for (x1, y1, x2, y2), label in zip(SCENE.boxes.int().tolist(), SCENE.labels.tolist(), strict=True):
        image[:, y1:y2, x1:x2] = torch.tensor([[220, 60, 60], [60, 90, 230]], dtype=torch.uint8)[label][:, None, None]
    return image[None]


def learn(model: YOLO, images: Tensor, targets: list[Target], steps: int) -> list[float]:
    """The sum of the losses before every step."""
    optimizer = torch.optim.Adam(model.parameters())
    history = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(1, 2 * (1 - step / steps))
        losses = model.train()(images, targets)
        assert isinstance(losses, dict)
        total = torch.stack(list(losses.values())).sum()
        history.append(total.item())
        parameters = list(model.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(total, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
    return history


CONCAT = {"channels": [32, 32, 32]}
PAPER = {"assigner": {"type": "best_anchor"}, "iou_aware_classes": False, "box_weight": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("neck", "head", "left"),
    [
        (CONCAT, {"scale_x_y": 2.0}, 0.2),
        ({"type": "add", "channels": 32}, {"scale_x_y": 2.0, "loss": {"box": "giou"}}, 0.2),
        (CONCAT, {"xy": "linear", "classes": "softmax", "loss": {**PAPER, "box": "squared", "focal_gamma": 2.0}}, 0.02),
    ],
    ids=["default", "add giou", "linear softmax focal"],
)
def test_one_image_is_learned_by_heart(neck: dict[str, Any], head: dict[str, Any], left: float) -> None:
    model = small_model(small_config(neck, head, {"type": "strided", "width": 8}))
    history = learn(model, scene(), [SCENE], 40)
    assert history[-1] < left * history[0]
    # In training mode: of the nine cells of p5 the running variance (n - 1) is another one than the batch's (n).
    with torch.no_grad():
        (detections,) = model(scene())
    assert isinstance(detections, Detections)
    sure = detections.filter(score_thresh=0.5)
    assert len(sure) == len(SCENE)
    best, found = box_iou(SCENE.boxes, sure.torch()["boxes"]).max(dim=1)
    assert best.min() > 0.8
    assert np.array_equal(sure.labels[found], SCENE.labels)
