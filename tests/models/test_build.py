"""From config to detector: every shipped file and every legal combination of switches, trained for one step."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.cases import make_target
from tests.models.small import small_config, small_model
from yolofpn.config import InputConfig, ModelConfig, PostprocessConfig, YOLOHeadConfig, load_config
from yolofpn.models.backbones.darknet import Darknet19
from yolofpn.models.build import NativeDetector, build_limits, build_model, build_yolo
from yolofpn.models.heads.assigner import BestAnchorAssigner, SimOTAAssigner
from yolofpn.models.necks.fpn import AddFPN, ConcatFPN
from yolofpn.structures import Limits, Target

CFG = Path(__file__).parents[2] / "cfg"
SHIPPED = sorted([*CFG.glob("*.yaml"), *(CFG / "two-stage").glob("*.yaml")])
WHOLE = ("yolofpn", "faster_rcnn-r50-fpn")  # train as they are: Darknet-53, and a ResNet with bottlenecks
DEEPER = ("faster_rcnn-r34-fpn", "faster_rcnn-r101-fpn")  # than others that are the same but for their depth
TARGETS = [make_target([(5, 9, 40, 50), (30, 30, 40, 41)], [1, 0]), make_target([])]


def one_step(
    model: NativeDetector, size: tuple[int, int] = (64, 64), targets: list[Target] = TARGETS
) -> dict[str, Tensor]:
    """Losses of two images after one step of plain gradient descent on the losses before."""
    model.train()
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = model(images, targets)
    assert isinstance(losses, dict)
    total = torch.stack(list(losses.values())).sum()
    for parameter, gradient in zip(
        model.parameters(), torch.autograd.grad(total, list(model.parameters())), strict=True
    ):
        parameter.grad = gradient
    optimizer.step()
    with torch.no_grad():
        after = model(images, targets)
    assert isinstance(after, dict)
    return {name: value.detach() for name, value in {**losses, **{f"{n} after": v for n, v in after.items()}}.items()}


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in SHIPPED if path.stem not in DEEPER], ids=lambda path: path.stem)
def test_every_shipped_config_trains_one_step_most_with_a_smaller_backbone(path: Path) -> None:
    config = load_config(path)
    plan = config.model.model_dump()
    if path.stem not in WHOLE and plan["backbone"]["type"] == "darknet53":
        plan["backbone"] = {"type": "darknet", "width": 0.125, "depth": 1}
    elif path.stem not in WHOLE and plan["backbone"]["type"] == "resnet":
        plan["backbone"]["depth"] = 18
    model = build_model(ModelConfig.model_validate(plan), 3, config.input, config.postprocess).train()
    losses = model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), TARGETS)
    assert isinstance(losses, dict)
    expected = {"loss_box", "loss_objectness", "loss_class"} | ({"loss_rpn_box"} if "rcnn" in path.stem else set())
    assert losses.keys() == expected
    gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), list(model.parameters()))
    assert all(value.isfinite().all() for value in (*losses.values(), *gradients))


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEPER)
def test_deeper_configs_differ_from_one_that_trains_in_their_depth_alone(name: str) -> None:
    deep, other = (
        load_config(CFG / "two-stage" / f"{name}.yaml"),
        load_config(CFG / "two-stage/faster_rcnn-r50-fpn.yaml"),
    )
    assert deep.model.backbone != other.model.backbone
    assert deep.model.model_copy(update={"backbone": other.model.backbone}) == other.model
    with torch.device("meta"):
        build_model(deep.model, 3, deep.input, deep.postprocess)


LEGAL = [
    (levels, top_down, lateral)
    for levels in [(2,), (5,), (3, 5), (2, 3, 4, 5)]  # of all others the necks' own tests
    for top_down, lateral in itertools.product((True, False), repeat=2)
    if (top_down or lateral) and (levels != (5,) or not top_down)
]


@pytest.mark.parametrize(("levels", "top_down", "lateral"), LEGAL)
@pytest.mark.parametrize("fusion", ["concat", "add"])
def test_every_parameter_learns_in_every_legal_combination(
    fusion: str, levels: tuple[int, ...], top_down: bool, lateral: bool
) -> None:
    neck: dict[str, object] = {"type": fusion, "levels": levels, "top_down": top_down, "lateral": lateral}
    if fusion == "add":
        neck["channels"] = 8
    model = small_model(small_config(neck))
    losses = model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), TARGETS)
    assert isinstance(losses, dict)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters, allow_unused=True)
    assert [name for name, g in zip(names, gradients, strict=True) if g is None or not g.any()] == []
    assert list(model.head(model.neck(model.backbone(torch.rand(1, 3, 64, 64))))) == [f"p{k}" for k in levels]


@pytest.mark.slow
@pytest.mark.parametrize(
    "head",
    [
        {"xy": "linear"},
        {"classes": "softmax"},
        {"scale_x_y": 2.0},
        {"loss": {"focal_gamma": 2.0}},
        {"loss": {"assigner": {"type": "best_anchor", "ignore_iou_thresh": 0.3, "positive_iou_thresh": 0.7}}},
        {"loss": {"assigner": {"type": "best_anchor"}, "box": "bce", "iou_aware_classes": False, "box_weight": 1}},
        {"xy": "linear", "scale_x_y": 2.0, "classes": "softmax", "loss": {"box": "squared"}},
    ],
    ids=str,
)
def test_what_the_paper_tried_trains(head: dict[str, object]) -> None:
    assert all(value.isfinite() for value in one_step(small_model(small_config(head=head))).values())


def test_values_reach_the_parts_that_use_them() -> None:
    config = small_config(
        {"upsample": "bilinear"},
        {
            "scale_x_y": 1.5,
            "xy": "linear",
            "classes": "softmax",
            "loss": {
                "assigner": {"type": "best_anchor", "ignore_iou_thresh": 0.4, "positive_iou_thresh": 0.8},
                "box": "giou",
                "iou_aware_classes": False,
                "focal_gamma": 1.5,
                "box_weight": 2,
                "objectness_weight": 3,
                "class_weight": 4,
            },
        },
    )
    input_config = InputConfig(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    postprocess = PostprocessConfig(score_thresh=(0.1, 0.2), nms_thresh=0.6, detections_per_img=7)
    model = build_yolo(config, 2, input_config, postprocess)
    assert model.limits == Limits((0.1, 0.2), 0.6, 7) == build_limits(postprocess)
    assert model.normalize.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert model.normalize.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert isinstance(model.neck, ConcatFPN)
    assert model.neck.upsample == "bilinear"
    assert [spec.stride for spec in model.specs.values()] == [8, 16, 32]
    assert isinstance(config.head, YOLOHeadConfig)
    for spec, anchors in zip(model.specs.values(), config.head.anchors, strict=True):
        assert (spec.anchors, spec.scale_x_y, spec.linear_xy, spec.softmax) == (anchors, 1.5, True, True)
    loss = model.loss
    assert isinstance(loss.assigner, BestAnchorAssigner)
    assert (loss.assigner.ignore_iou_thresh, loss.assigner.positive_iou_thresh) == (0.4, 0.8)
    assert (loss.box, loss.iou_aware_classes, loss.focal_gamma) == ("giou", False, 1.5)
    assert list(loss.weights.values()) == [2, 3, 4]


def test_simota_takes_its_numbers() -> None:
    head = {"loss": {"assigner": {"type": "simota", "top_candidates": 4, "iou_weight": 1.5}}}
    assigner = small_model(small_config(head=head)).loss.assigner
    assert isinstance(assigner, SimOTAAssigner)
    assert (assigner.top_candidates, assigner.iou_weight) == (4, 1.5)


def test_backbones_and_fusions_of_the_config() -> None:
    with torch.device("meta"):
        model = small_model(small_config({"type": "add", "channels": 24}, backbone={"type": "darknet19"}))
    assert isinstance(model.backbone, Darknet19)
    assert isinstance(model.neck, AddFPN)
    assert {info.channels for info in model.neck.feature_info.values()} == {24}


def test_epsilon_and_slope_reach_every_layer() -> None:
    config = small_config().model_copy(update={"norm_eps": 1e-3, "leaky_slope": 0.01})
    model = small_model(ModelConfig.model_validate(config.model_dump()))
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}
    assert {m.negative_slope for m in model.modules() if isinstance(m, torch.nn.LeakyReLU)} == {0.01}
