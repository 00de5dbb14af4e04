"""The second stage with a head that says the same of every region: losses and detections worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.cases import make_target
from yolofpn.config import RoIHeadsConfig
from yolofpn.models.two_stage import roi_heads as module
from yolofpn.models.two_stage.box_head import BoxHead
from yolofpn.models.two_stage.build_two_stage import build_roi_heads
from yolofpn.models.two_stage.roi_heads import RoIHeads
from yolofpn.ops import roi_align
from yolofpn.structures import FeatureInfo, Limits

CLASSES = 3
SIZE = (128, 160)  # height, width
PYRAMID = {"p4": torch.zeros(2, 2, 8, 10)}


def roi_heads(**changes: int) -> RoIHeads:
    section = RoIHeadsConfig.model_validate({"size": 2, **changes})
    return build_roi_heads(section, {"p4": FeatureInfo(2, 16)}, CLASSES)


def constant_head(logits: Sequence[float], deltas: Sequence[Sequence[float]]) -> BoxHead:
    head = BoxHead(nn.Flatten(), 2 * 2 * 2, len(logits))
    with torch.no_grad():
        for layer, bias in ((head.classes, torch.tensor(logits)), (head.deltas, torch.tensor(deltas).flatten())):
            layer.weight.zero_()
            layer.bias.copy_(bias)
    return head


def smooth_l1(difference: float) -> float:
    """Below 1/9 the loss is 9 d^2 / 2, else d - 1/18."""
    return 4.5 * difference**2 if abs(difference) < 1 / 9 else abs(difference) - 1 / 18


def test_losses_by_hand() -> None:
    # Of class 2: 100 x 100 about (50, 50). The proposal: 80 x 100 about (40, 50), IoU .8; and one on background.
    proposals = [torch.tensor([[0.0, 0, 80, 100], [120.0, 90, 150, 120]]), torch.tensor([[30.0, 30, 60, 60]])]
    targets = [make_target([(0, 0, 100, 100)], [2]), make_target([(100, 100, 140, 120)], [0])]
    logits = (0.3, -1.0, 0.5, 2.0)  # background, then the classes 0, 1, 2
    deltas = ((9.0, 9.0, 9.0, 9.0), (1.0, 0.1, -2.0, 0.0), (7.0, 7.0, 7.0, 7.0), (1.0, 0.05, 1.5, -0.4))
    losses = roi_heads().losses(constant_head(logits, deltas), PYRAMID, proposals, targets)

    # The objects themselves are looked at too: labels 3 (proposal), 3 (object), 0; and 1 (object), 0.
    total = math.log(sum(math.exp(logit) for logit in logits))
    cross_entropy = sum(total - logits[label] for label in (3, 3, 0, 1, 0))
    assert losses["loss_class"].item() == pytest.approx(cross_entropy / 5, rel=1e-5)
    to_the_object = (10 * 10 / 80, 0.0, 5 * math.log(100 / 80), 0.0)
    nowhere = (0.0, 0.0, 0.0, 0.0)
    box = sum(
        smooth_l1(said - wanted)
        for own, target in ((deltas[3], to_the_object), (deltas[3], nowhere), (deltas[1], nowhere))
        for said, wanted in zip(own, target, strict=True)
    )
    assert losses["loss_box"].item() == pytest.approx(box / 5, rel=1e-5)  # divided by all, not by the positive ones


def test_a_quarter_of_those_looked_at_are_positive() -> None:
    proposals = [torch.tensor([[0.0, 0, 40, 40]] * 30 + [[90.0, 90, 120, 120]] * 30)]
    logits = (0.0, 1.0, 2.0, 3.0)
    losses = roi_heads(batch_size_per_img=16).losses(
        constant_head(logits, [[1.0, 0.0, 0.0, 0.0]] * 4), PYRAMID, proposals, [make_target([(0, 0, 40, 40)], [1])]
    )
    total = math.log(sum(math.exp(logit) for logit in logits))
    assert losses["loss_class"].item() == pytest.approx((4 * (total - 2) + 12 * total) / 16, rel=1e-5)
    assert losses["loss_box"].item() == pytest.approx(4 * smooth_l1(1.0) / 16, rel=1e-5)


def test_every_class_has_a_box_of_its_own() -> None:
    # From 40 x 40 about (40, 40); neither the background's box nor that of an unused output is ever a detection.
    proposals = [torch.tensor([[20.0, 20, 60, 60]])]
    logits = (0.5, 1.0, 3.0, 2.0, 4.0)
    deltas = (
        (-5.0, -5.0, 0.0, 0.0),
        (10 * 0.1, 0.0, 0.0, 0.0),  # 4 pixels to the right
        (0.0, 10 * 0.2, 0.0, 0.0),  # 8 pixels down
        (0.0, 0.0, 5 * math.log(1.5), 5 * math.log(0.5)),  # 60 x 20
        (20.0, 20.0, 0.0, 0.0),
    )
    (found,) = roi_heads(unused_outputs=1).detect(
        constant_head(logits, deltas), PYRAMID, proposals, [SIZE], Limits(0.01, 0.5, 10)
    )
    assert found.labels.tolist() == [1, 2, 0]
    total = sum(math.exp(logit) for logit in logits)
    assert found.scores.tolist() == pytest.approx([math.exp(logit) / total for logit in (3, 2, 1)], rel=1e-5)
    expected = [[20, 28, 60, 68], [10, 30, 70, 50], [24, 20, 64, 60]]
    np.testing.assert_allclose(found.boxes, expected, rtol=1e-6)


def test_boxes_of_one_class_suppress_each_other_and_no_others() -> None:
    proposals = [torch.tensor([[20.0, 20, 60, 60], [21.0, 20, 61, 60]]), torch.tensor([[100.0, 90, 190, 200]])]
    head = constant_head((0.0, 2.0, 1.0, 1.5), [[0.0] * 4] * 4)
    first, second = roi_heads().detect(head, PYRAMID, proposals, [SIZE, (120, 150)], Limits(0.01, 0.5, 10))
    assert first.labels.tolist() == second.labels.tolist() == [0, 2, 1]
    assert first.boxes.tolist() == [[20, 20, 60, 60]] * 3
    assert second.boxes.tolist() == [[100, 90, 150, 120]] * 3  # clipped to its image


def test_maps_are_brought_into_order_once_for_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[torch.Tensor] = []
    cells_in_rows = roi_align._cells_in_rows

    def watching(feature: torch.Tensor) -> torch.Tensor:
        rows.append(cells_in_rows(feature))  # kept, so that no other memory gets the same address
        return rows[-1]

    monkeypatch.setattr(roi_align, "_cells_in_rows", watching)
    monkeypatch.setitem(module._POOLED_AT_ONCE, "cpu", 2 * 2 * 2)
    pyramid = {"p4": torch.randn(2, 2, 8, 10, generator=torch.Generator().manual_seed(0))}
    proposals = [torch.tensor([[20.0, 20, 60, 60], [90.0, 0, 130, 90]]), torch.tensor([[100.0, 90, 190, 200]])]
    torch.manual_seed(0)
    head = BoxHead(nn.Flatten(), 2 * 2 * 2, 4)
    heads, limits = roi_heads(), Limits(0.01, 1.0, 10)
    found = heads.detect(head, pyramid, proposals, [SIZE] * 2, limits)
    assert len(rows) == 3 and len({each.data_ptr() for each in rows}) == 1
    monkeypatch.setitem(module._POOLED_AT_ONCE, "cpu", 2**22)
    together = heads.detect(head, pyramid, proposals, [SIZE] * 2, limits)
    for one, other in zip(found, together, strict=True):
        torch.testing.assert_close((one.boxes, one.scores), (other.boxes, other.scores))
