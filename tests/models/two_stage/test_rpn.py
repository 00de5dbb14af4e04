"""The first stage: the choice of proposals against plain loops, and the losses worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.models.cases import make_target
from tests.models.small import BACKBONE
from yolofpn.config import InputConfig, ModelConfig, PostprocessConfig, RPNConfig
from yolofpn.models.build import build_model
from yolofpn.models.two_stage.anchor_generator import AnchorGenerator
from yolofpn.models.two_stage.build_two_stage import build_first_stage
from yolofpn.models.two_stage.delta_coder import DeltaCoder
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.models.two_stage.rpn import ProposalLimits, ProposalSelector, RPNOutput

IMAGE = (96, 128)  # height, width
COUNTS = (40, 20, 12)
Scored = tuple[float, list[float]]


def random_output(batch: int = 2) -> RPNOutput:
    """Three levels whose boxes overlap within a level and across levels; some leave the image, one altogether."""
    generator = torch.Generator().manual_seed(0)
    count = sum(COUNTS)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([110.0, 80.0]) - 10
    size = 25 + 15 * torch.rand(count, 2, generator=generator)
    anchors = torch.cat([corner, corner + size], dim=1)
    anchors[5] = torch.tensor([-90.0, -90.0, -60.0, -60.0])
    logits = torch.randn(batch, count, generator=generator)
    logits[:, 5] = 9.0
    return RPNOutput(logits, 0.2 * torch.randn(batch, count, 4, generator=generator), anchors, COUNTS)


def decode_slowly(deltas: Sequence[float], anchor: Sequence[float], size: tuple[int, int]) -> list[float]:
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = anchor[0] + width / 2 + deltas[0] * width, anchor[1] + height / 2 + deltas[1] * height
    half_w, half_h = width * math.exp(deltas[2]) / 2, height * math.exp(deltas[3]) / 2
    box = [x - half_w, y - half_h, x + half_w, y + half_h]
    return [min(max(side, 0.0), float(size[1 - index % 2])) for index, side in enumerate(box)]


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (sum(areas) - common)


def select_slowly(output: RPNOutput, image: int, size: tuple[int, int], limits: ProposalLimits) -> list[Scored]:
    kept: list[Scored] = []
    start = 0
    for count in output.counts:
        of_level = [(float(output.objectness[image, index]), index) for index in range(start, start + count)]
        start += count
        kept_here: list[Scored] = []
        for logit, index in sorted(of_level, reverse=True)[: limits.pre_nms_top_n]:
            box = decode_slowly(output.deltas[image, index].tolist(), output.anchors[index].tolist(), size)
            empty = box[2] - box[0] < 1e-3 or box[3] - box[1] < 1e-3
            if not empty and all(overlap(box, other) <= limits.nms_thresh for _, other in kept_here):
                kept_here.append((1 / (1 + math.exp(-logit)), box))
        kept += kept_here
    return sorted(kept, reverse=True)[: limits.post_nms_top_n]


@pytest.mark.parametrize(
    "limits",
    [ProposalLimits(1000, 1000, 0.3), ProposalLimits(15, 1000, 0.5), ProposalLimits(15, 9, 0.4)],
    ids=["NMS", "the best of each level", "the best of all"],
)
def test_selection_against_loops(limits: ProposalLimits) -> None:
    output, sizes = random_output(), [IMAGE, (70, 100)]
    for image, (boxes, scores) in enumerate(ProposalSelector(DeltaCoder())(output, sizes, limits)):
        expected = select_slowly(output, image, sizes[image], limits)
        assert 9 <= len(expected) < min(sum(COUNTS), 3 * limits.pre_nms_top_n)
        assert scores.tolist() == pytest.approx([score for score, _ in expected], abs=1e-6)
        torch.testing.assert_close(boxes, torch.tensor([box for _, box in expected]), rtol=0, atol=1e-3)


def test_the_best_seven_of_each_level() -> None:
    output = random_output(1)
    output.anchors[5] = output.anchors[4] + 1
    # Apart from it all of the finest level score higher than all others.
    output.objectness[0, : COUNTS[0]] += 10
    ((_, scores),) = ProposalSelector(DeltaCoder())(output, [IMAGE], ProposalLimits(7, 1000, 1.0))
    levels = torch.split(output.objectness[0], list(COUNTS))
    best = torch.cat([logits.sort(descending=True).values[:7] for logits in levels])
    assert torch.equal(scores, best.sort(descending=True).values.sigmoid())


def test_boxes_of_other_levels_suppress_nothing() -> None:
    anchors = torch.tensor([[10.0, 10, 50, 50], [11.0, 10, 51, 50], [10.0, 11, 50, 51]])
    output = RPNOutput(torch.tensor([[2.0, 1.0, 0.0]]), torch.zeros(1, 3, 4), anchors, (2, 1))
    ((boxes, _),) = ProposalSelector(DeltaCoder())(output, [IMAGE], ProposalLimits(10, 10, 0.7))
    assert torch.equal(boxes, anchors[[0, 2]])


def bce(logit: float, wanted: int) -> float:
    return math.log(1 + math.exp(-logit if wanted else logit))


def test_losses_by_hand() -> None:
    """One image with 300 anchors on background and one on an object, and one image without objects."""
    first = build_first_stage(AnchorGenerator([[8]], [1.0]), RPNConfig())
    anchors = torch.tensor([[0.0, 0, 40, 20]] + [[200.0, 200, 220, 220]] * 300)
    objectness = torch.full((2, 301), -2.0)
    objectness[0, 0], objectness[1] = 0.5, 1.0
    deltas = torch.full((2, 301, 4), 77.0)  # what background says of its box does not matter
    # Object: 40 x 25 about (22, 12.5), from 40 x 20 about (20, 10).
    wanted = [2 / 40, 2.5 / 20, 0.0, math.log(25 / 20)]
    deltas[0, 0] = torch.tensor(wanted) + torch.tensor([0.05, -0.5, 0.0, 1 / 9])
    losses = first.loss(
        RPNOutput(objectness, deltas, anchors, (301,)), [make_target([(2, 0, 42, 25)]), make_target([])]
    )
    # 256 anchors of either image are looked at, and both losses are divided by all of them.
    looked_at = bce(0.5, 1) + 255 * bce(-2, 0) + 256 * bce(1, 0)
    assert losses["loss_objectness"].item() == pytest.approx(looked_at / 512, rel=1e-5)
    # Below 1/9 the loss is 9 d^2 / 2, else d - 1/18.
    box = 4.5 * 0.05**2 + (0.5 - 1 / 18) + 0 + (1 / 9 - 1 / 18)
    assert losses["loss_rpn_box"].item() == pytest.approx(box / 512, rel=1e-5)


def test_at_most_half_of_those_looked_at_are_positive() -> None:
    first = build_first_stage(AnchorGenerator([[8]], [1.0]), RPNConfig())
    anchors = torch.tensor([[0.0, 0, 40, 20]] * 200 + [[200.0, 200, 220, 220]] * 200)
    objectness = torch.cat([torch.full((1, 200), 0.5), torch.full((1, 200), -2.0)], dim=1)
    target = make_target([(0, 0, 40, 20)])
    losses = first.loss(RPNOutput(objectness, torch.full((1, 400, 4), 0.5), anchors, (400,)), [target])
    assert losses["loss_objectness"].item() == pytest.approx((bce(0.5, 1) + bce(-2, 0)) / 2, rel=1e-5)
    assert losses["loss_rpn_box"].item() == pytest.approx(128 * 4 * (0.5 - 1 / 18) / 256, rel=1e-5)


def test_anchors_that_stick_out_of_the_image_are_learnt_too() -> None:
    """4 x 4 anchors of 16 pixels, 16 apart; that of the first cell, (-8, -8) to (8, 8), is the object's best one."""
    first = build_first_stage(AnchorGenerator([[16]], [1.0]), RPNConfig())
    objectness, deltas = (torch.zeros(1, channels, 4, 4, requires_grad=True) for channels in (1, 4))
    output = first.read({"objectness_p4": objectness, "deltas_p4": deltas}, (64, 64))
    assert output.anchors[0].tolist() == [-8, -8, 8, 8]
    losses = first.loss(output, [make_target([(0, 0, 14, 14)])])
    box_gradient, score_gradient = (
        torch.autograd.grad(losses[name], values)[0]
        for name, values in (("loss_rpn_box", deltas), ("loss_objectness", objectness))
    )
    assert box_gradient.any(dim=1).flatten().nonzero().flatten().tolist() == [0]
    assert score_gradient.flatten().sign().tolist() == [-1] + [1] * 15  # the others at the edge are background


def three_level_detector() -> FasterRCNN:
    head = {"type": "rcnn", "channels": 8, "anchors": {"sizes": [[64], [128], [256], [512]]}, "roi": {"width": 8}}
    tree = {"backbone": BACKBONE, "neck": {"type": "concat", "levels": [3, 4, 5]}, "head": head}
    torch.manual_seed(0)
    detector = build_model(ModelConfig.model_validate(tree), 2, InputConfig(), PostprocessConfig())
    assert isinstance(detector, FasterRCNN)
    return detector.eval()


def test_a_level_above_a_pyramid_of_three() -> None:
    detector = three_level_detector()
    images = torch.randint(0, 256, (1, 3, 96, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        dense = detector.dense(images)
        above = dense["p5"][..., ::2, ::2]
        assert above.shape[2:] == (2, 3)
        scores, deltas = detector.head.rpn(above)
    assert torch.equal(dense["objectness_p6"], scores) and torch.equal(dense["deltas_p6"], deltas)
    assert [name for name in dense if name.startswith("objectness_")] == [f"objectness_p{k}" for k in (3, 4, 5, 6)]
    output = detector.rules.first.read(dense, (96, 160))
    assert output.counts == (12 * 20 * 3, 6 * 10 * 3, 3 * 5 * 3, 2 * 3 * 3)
    for anchors, size in zip(torch.split(output.anchors, list(output.counts)), (64, 128, 256, 512), strict=True):
        assert areas(anchors) == pytest.approx([size**2] * len(anchors), rel=0.02)


def areas(boxes: Tensor) -> list[float]:
    found: list[float] = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).tolist()
    return found
