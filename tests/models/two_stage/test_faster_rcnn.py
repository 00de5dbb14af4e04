"""The two-stage detector as a whole: losses, proposals and detections on a network small enough for hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.cases import make_target
from tests.models.small import BACKBONE
from yolofpn.config import InputConfig, ModelConfig, PostprocessConfig
from yolofpn.models.build import build_model
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.ops import array_boxes
from yolofpn.ops.boxes import box_iou
from yolofpn.structures import Limits, Target

SIZES = {2: [8], 3: [16], 4: [32], 5: [64], 6: [128]}
LIMITS = PostprocessConfig(score_thresh=0.05, nms_thresh=0.5, detections_per_img=100)


def config(
    levels: tuple[int, ...] = (3, 4, 5),
    *,
    neck: str = "concat",
    top: bool = True,
    backbone: dict[str, object] = BACKBONE,
    **roi: object,
) -> ModelConfig:
    """A small network; ``top``: with a level above for the proposals."""
    grid = [SIZES[k] for k in (*levels, levels[-1] + 1)[: len(levels) + top]]
    neck_section = {"type": neck, "levels": levels, "top_down": len(levels) > 1} | (
        {"channels": 16} if neck == "add" else {}
    )
    head = {"type": "rcnn", "channels": 16, "anchors": {"sizes": grid}, "roi": {"width": 32, **roi}}
    return ModelConfig.model_validate({"backbone": backbone, "neck": neck_section, "head": head})


def make(model: ModelConfig, num_classes: int = 2) -> FasterRCNN:
    torch.manual_seed(0)
    detector = build_model(model, num_classes, InputConfig(), LIMITS)
    assert isinstance(detector, FasterRCNN)
    return detector


def random_images(count: int = 2, size: tuple[int, int] = (96, 128), seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def losses_of(model: FasterRCNN, targets: list[Target], images: Tensor | None = None) -> dict[str, Tensor]:
    losses = model(random_images(len(targets)) if images is None else images, targets)
    assert isinstance(losses, dict)
    return losses


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        config(),
        config((2, 3, 4, 5)),
        config((2, 3, 4, 5), neck="add"),
        config((4,), neck="add", top=False),
        config((3, 4, 5), pool="max"),
        config((3, 4, 5), aligned=True, sampling_ratio=0),
    ],
    ids=["concat", "concat from p2", "add", "one map", "max pooling", "aligned"],
)
def test_all_parameters_learn(model: ModelConfig) -> None:
    detector = make(model)
    losses = losses_of(detector, [make_target([(5, 9, 40, 50), (30, 30, 110, 90)], [1, 0]), make_target([])])
    assert set(losses) == {"loss_objectness", "loss_rpn_box", "loss_class", "loss_box"}
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    still = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # The finest levels pool no box of this size, but the proposal network looks at them.
    assert still == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "targets",
    [
        [make_target([]), make_target([])],
        [make_target([(3, 3, 3, 40)]), make_target([(9, 9, 5, 5)])],
        [make_target([(0, 0, 128, 96)], ignore=[True]), make_target([(0, 0, 1e-6, 1e-6)])],
        [make_target([(0, 0, 0.5, 0.5)]), make_target([(500, 500, 600, 600)])],
    ],
    ids=["none", "degenerate", "only regions to ignore", "tiny and outside"],
)
def test_losses_and_gradients_stay_finite(targets: list[Target]) -> None:
    detector = make(config())
    losses = losses_of(detector, targets)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(value.isfinite() for value in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in detector.parameters())


def test_first_losses_are_those_of_guessing() -> None:
    detector = make(config(), num_classes=5)
    losses = losses_of(detector, [make_target([(5, 9, 40, 50)]), make_target([(30, 30, 90, 90)])])
    assert losses["loss_objectness"].item() == pytest.approx(0.693, abs=0.02)  # log 2
    assert losses["loss_class"].item() == pytest.approx(1.792, abs=0.05)  # log 6: five classes and the background


def test_losses_do_not_depend_on_the_mode_but_on_the_seed() -> None:
    detector = make(config()).eval()
    targets = [make_target([(5, 9, 40, 50), (30, 30, 110, 90)]), make_target([(8, 8, 60, 60)])]
    torch.manual_seed(1)
    first = losses_of(detector, targets)
    torch.manual_seed(1)
    again = losses_of(detector, targets)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_proposals_lie_in_their_image_best_first_and_apart() -> None:
    detector = make(config((2, 3, 4, 5))).eval()
    with torch.inference_mode():
        found = detector.propose(detector.dense(random_images()), [(96, 128), (50, 70)])
    for (boxes, scores), (height, width) in zip(found, [(96, 128), (50, 70)], strict=True):
        assert 10 < len(boxes) == len(scores) <= 1000
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        assert boxes.min() >= 0 and boxes[:, 2].max() <= width and boxes[:, 3].max() <= height
        assert (boxes[:, 2:] - boxes[:, :2]).min() > 0


def test_proposal_limits() -> None:
    section = config().model_dump()
    section["head"]["rpn"] |= {"pre_nms_top_n": (2000, 7), "post_nms_top_n": (2000, 5), "nms_thresh": 1.0}
    detector = make(ModelConfig.model_validate(section)).eval()
    with torch.inference_mode():
        dense = detector.dense(random_images())
        assert [len(boxes) for boxes, _ in detector.propose(dense, [(96, 128)] * 2)] == [5, 5]


@pytest.mark.slow
def test_an_image_is_the_same_alone_and_in_a_batch() -> None:
    detector = make(config((2, 3, 4, 5))).eval()
    limits = Limits(0.3, 0.5, 100)
    images = random_images(3)
    with torch.inference_mode():
        together = detector.postprocess(detector.dense(images), [(96, 128)] * 3, limits)
        for number, found in enumerate(together):
            (alone,) = detector.postprocess(detector.dense(images[number : number + 1]), [(96, 128)], limits)
            assert len(found) == len(alone) > 0
            torch.testing.assert_close(found.scores, alone.scores, atol=1e-5, rtol=0)
            assert array_boxes.box_iou(found.boxes, alone.boxes).max(axis=1).min() > 0.999


def test_detections_follow_the_limits() -> None:
    detector = make(config()).eval()
    with torch.inference_mode():
        dense = detector.dense(random_images(1))
        many = detector.postprocess(dense, [(96, 128)], Limits(0.0, 1.0, 10_000))[0]
        some = detector.postprocess(dense, [(96, 128)], Limits((1.0, 0.0), 0.5, 10))[0]
    assert set(many.labels.tolist()) == {0, 1}
    assert set(some.labels.tolist()) == {1} and len(some) == 10
    assert many.scores.tolist() == sorted(many.scores.tolist(), reverse=True)
    overlaps = array_boxes.box_iou(some.boxes, some.boxes) - np.eye(10)
    assert overlaps.max() <= 0.5
    with pytest.raises(ValueError, match="3 score thresholds for 2 classes"):
        detector.postprocess(dense, [(96, 128)], Limits((0.1, 0.2, 0.3), 0.5, 10))


def test_no_proposals_no_detections() -> None:
    detector = make(config()).eval()
    with torch.inference_mode():
        dense = detector.dense(random_images(1))
        none = [torch.zeros(0, 4)]
        found = detector.rules.roi_heads.detect(detector.head.box, dense, none, [(96, 128)], Limits())
    assert [len(each) for each in found] == [0]


def test_broken_weights_are_found_out() -> None:
    detector = make(config()).eval()
    with torch.no_grad():
        detector.head.box.body.get_submodule("fc7").get_parameter("weight").fill_(torch.nan)
        with pytest.raises(ValueError, match="NaN"):
            detector(random_images(1))
        detector.head.rpn.objectness.weight.fill_(torch.nan)
        with pytest.raises(ValueError, match="NaN"):
            detector(random_images(1))


def test_padding_takes_no_part_in_proposals() -> None:
    detector = make(config())
    seen: list[list[tuple[int, int]]] = []
    select = detector.rules.first.select.__call__

    class Watching:
        def __call__(self, output: object, sizes: list[tuple[int, int]], limits: object) -> object:
            seen.append(sizes)
            return select(output, sizes, limits)  # type: ignore[arg-type]

    object.__setattr__(detector.rules.first, "select", Watching())
    whole, part = make_target([(5, 9, 40, 50)]), make_target([(5, 9, 40, 50)])
    object.__setattr__(part, "image_size", (60, 100))
    losses_of(detector, [whole, part])
    assert seen == [[(96, 128), (60, 100)]]


@pytest.mark.slow
def test_both_stages_learn() -> None:
    detector = make(config((3, 4), backbone={"type": "strided", "width": 16}, batch_size_per_img=32), num_classes=2)
    images = torch.full((2, 3, 64, 64), 120, dtype=torch.uint8)
    images[0, :, 8:40, 8:40], images[1, :, 20:52, 28:60] = 250, 5
    targets = [make_target([(8, 8, 40, 40)], [0]), make_target([(28, 20, 60, 52)], [1])]
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-2)
    history = []
    for _ in range(40):
        losses = losses_of(detector, targets, images)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    for name, part in (("loss_objectness", 0.1), ("loss_rpn_box", 0.5), ("loss_class", 0.4)):
        assert sum(losses[name] for losses in history[-10:]) / 10 < part * history[0][name], name
    with torch.inference_mode():  # in training mode: the running statistics of 40 steps lag behind
        proposed = detector.propose(detector.dense(images), [(64, 64)] * 2)
    for (boxes, _), target in zip(proposed, targets, strict=True):
        assert box_iou(boxes[:5], target.boxes).max() > 0.7
