"""Either stage of Faster R-CNN alone: with its weights it does what it does within the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.cases import make_target
from tests.models.small import BACKBONE
from tests.models.two_stage.test_faster_rcnn import LIMITS, config, make, random_images
from yolofpn.config import InputConfig, ModelConfig
from yolofpn.errors import UserError
from yolofpn.models.build import NativeDetector, build_model
from yolofpn.models.two_stage.fast_rcnn import FastRCNN
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.models.two_stage.proposal_network import ProposalNetwork
from yolofpn.structures import Limits, Target

SIZE = (96, 128)


def alone(whole: ModelConfig, kind: str) -> ModelConfig:
    """One stage of a two-stage model."""
    tree = whole.model_dump()
    tree["head"] = {"type": kind} | {key: tree["head"][key] for key in _KEYS[kind]}
    return ModelConfig.model_validate(tree)


_KEYS = {"rpn": ("channels", "anchors", "rpn"), "fast_rcnn": ("channels", "roi")}


def part_of(whole: FasterRCNN, model: ModelConfig) -> NativeDetector:
    """That stage with the weights that it has in the whole, which must have them all."""
    part = build_model(model, 2, InputConfig(), LIMITS)
    state = whole.state_dict()
    part.load_state_dict({name: state[name] for name in part.state_dict()})
    return part.eval()


def without_parameters(part: nn.Module, prefix: str) -> bool:
    return not any(name.startswith(prefix) for name in part.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("neck", ["concat", "add"])
def test_the_first_stage_alone(neck: str) -> None:
    model = config((2, 3, 4, 5), neck=neck)
    whole = make(model).eval()
    part = part_of(whole, alone(model, "rpn"))
    assert isinstance(part, ProposalNetwork) and without_parameters(part, "head.box")
    images, sizes = random_images(), [SIZE, (50, 70)]
    with torch.inference_mode():
        dense = part.dense(images)
        expected = whole.propose(whole.dense(images), sizes)
        proposed, found = part.propose(dense, sizes), part.postprocess(dense, sizes, Limits(0.0, 0.1, 5000))
        few = part.postprocess(dense, sizes, Limits(float(expected[0][1][20]), 0.1, 7))
    for (boxes, scores), (own_boxes, own_scores), detections in zip(expected, proposed, found, strict=True):
        assert torch.equal(boxes, own_boxes) and torch.equal(scores, own_scores)
        assert np.array_equal(boxes, detections.boxes) and np.array_equal(scores, detections.scores)  # no other NMS
        assert set(detections.labels.tolist()) == {0}
    assert len(few[0]) == 7 and np.array_equal(few[0].boxes, expected[0][0][:7])
    assert [len(each) for each in part.postprocess(dense, sizes, Limits(1.0, 0.5, 10))] == [0, 0]

    targets = [make_target([(5, 9, 40, 50), (30, 30, 110, 90)], [1, 0]), make_target([])]
    torch.manual_seed(4)
    losses = part(images, targets)
    torch.manual_seed(4)
    of_whole = whole(images, targets)
    assert isinstance(losses, dict) and isinstance(of_whole, dict)
    assert set(losses) == {"loss_objectness", "loss_rpn_box"}
    assert all(torch.equal(losses[name], of_whole[name]) for name in losses)


@pytest.mark.slow
@pytest.mark.parametrize("neck", ["concat", "add"])
def test_the_second_stage_alone(neck: str) -> None:
    model = config((2, 3, 4, 5), neck=neck)
    whole = make(model).eval()
    part = part_of(whole, alone(model, "fast_rcnn"))
    assert isinstance(part, FastRCNN) and without_parameters(part, "head.rpn")
    images, sizes, limits = random_images(), [SIZE, SIZE], Limits(0.3, 0.5, 50)
    with torch.inference_mode():
        of_whole = whole.dense(images)
        targets = [with_proposals(boxes) for boxes, _ in whole.propose(of_whole, sizes)]
        expected = whole.postprocess(of_whole, sizes, limits)
        found = part.detect(part.dense(images), targets, sizes, limits)
        nothing = part.detect(part.dense(images), [with_proposals(torch.zeros(0, 4))] * 2, sizes, limits)
    for one, other in zip(found, expected, strict=True):
        assert len(one) > 5
        assert np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)
        assert np.array_equal(one.labels, other.labels)
    assert [len(each) for each in nothing] == [0, 0]


def with_proposals(boxes: torch.Tensor, target: Target | None = None) -> Target:
    return replace(target or make_target([]), proposals=boxes)


def test_it_learns_from_the_proposals_and_the_ground_truth() -> None:
    torch.manual_seed(0)
    part = build_model(alone(config(), "fast_rcnn"), 2, InputConfig(), LIMITS)
    target = make_target([(5, 9, 40, 50), (30, 30, 110, 90)], [1, 0])
    none = torch.zeros(0, 4)
    losses = part(random_images(), [with_proposals(none, target), with_proposals(none)])
    assert isinstance(losses, dict) and set(losses) == {"loss_class", "loss_box"}
    assert losses["loss_class"].item() == pytest.approx(1.0986, abs=0.1)  # log 3: the objects themselves are looked at
    assert losses["loss_box"].item() == pytest.approx(0.0, abs=1e-3)  # they fit, and first deltas are near zero
    shifted = target.boxes + torch.tensor([4.0, 0, 4, 0])
    again = part(random_images(), [with_proposals(shifted, target), with_proposals(none)])
    assert isinstance(again, dict) and again["loss_box"] > 0.05
    torch.stack(list(again.values())).sum().backward()  # type: ignore[no-untyped-call]
    # Each parameter has a gradient, as several processes expect it, though no proposal is of the coarsest level's size.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())


def test_it_needs_proposals() -> None:
    part = build_model(alone(config(), "fast_rcnn"), 2, InputConfig(), LIMITS)
    with pytest.raises(UserError, match="proposals") as error:
        part(random_images())
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="proposals"):
        part(random_images(), [make_target([]), make_target([])])


def test_conv5_as_the_second_stage_alone() -> None:
    neck = {"type": "none", "levels": [4]}
    roi = {"type": "conv5", "size": 14, "batch_size_per_img": 8}
    heads: tuple[dict[str, Any], ...] = (
        {"type": "fast_rcnn", "roi": roi},
        {"type": "rcnn", "anchors": {"sizes": [[16]]}, "roi": roi},
        {"type": "rpn", "anchors": {"sizes": [[16]]}},
    )
    sections = [{"backbone": BACKBONE, "neck": neck, "head": {"channels": 8, **head}} for head in heads]
    models = [build_model(ModelConfig.model_validate(each), 2, InputConfig(), LIMITS) for each in sections]
    fast, whole, first = (set(model.state_dict()) for model in models)
    assert fast <= whole and first <= whole
    assert whole - fast == {name for name in whole if name.startswith("head.rpn.")}
    assert whole - first == {name for name in whole if name.startswith("head.box.")}


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"type": "fast_rcnn", "anchors": {"sizes": [[8]]}}, "anchors"),
        ({"type": "fast_rcnn", "rpn": {}}, "rpn"),
        ({"type": "rpn", "anchors": {"sizes": [[8], [8], [8]]}, "roi": {}}, "roi"),
        ({"type": "rpn", "anchors": {"sizes": [[8]]}}, "has 1 lists: give one for each of the neck's 3 levels"),
        ({"type": "rpn"}, "anchors"),
    ],
)
def test_heads_that_make_no_sense(head: dict[str, Any], message: str) -> None:
    neck = {"type": "concat", "levels": (3, 4, 5)}
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate({"backbone": BACKBONE, "neck": neck, "head": head})
    for kind in ("fast_rcnn", "rpn"):
        with pytest.raises(ValueError, match=f"a head of type {kind} needs consecutive levels"):
            ModelConfig.model_validate(
                {
                    "backbone": BACKBONE,
                    "neck": {"type": "concat", "levels": (3, 5)},
                    "head": {"type": kind} | ({"anchors": {"sizes": [[8], [16]]}} if kind == "rpn" else {}),
                }
            )
