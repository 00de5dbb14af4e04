"""The last stage of the backbone as the second stage, beside the whole backbone and a plain loop over the regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.models.cases import make_target
from yolofpn.config import InputConfig, ModelConfig, PostprocessConfig
from yolofpn.darknet.native import native_layers
from yolofpn.models.backbones.resnet import ResNet
from yolofpn.models.build import build_backbone, build_model, build_yolo
from yolofpn.models.layers import FrozenBatchNorm2d
from yolofpn.models.two_stage import roi_heads
from yolofpn.models.two_stage.conv5_body import Conv5Body
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.ops.roi_align import roi_align
from yolofpn.structures import Limits
from yolofpn.training.start import StartingWeights, read_starting_weights, take_over
from yolofpn.training.start_darknet import native_state

RESNET: dict[str, object] = {"type": "resnet", "depth": 18, "norm": "frozen"}
DARKNET: dict[str, object] = {"type": "darknet", "width": 0.125, "depth": 0.1}
BACKBONES: list[tuple[dict[str, object], str]] = [
    (RESNET, "layer4"),
    (DARKNET, "stages.4"),
    ({"type": "darknet19"}, "stages.5"),
    ({"type": "strided", "width": 4}, "blocks.4"),
]


def config(backbone: dict[str, object], **roi: Any) -> ModelConfig:
    head = {
        "type": "rcnn",
        "channels": 8,
        "anchors": {"sizes": [[16, 32, 64]]},
        "rpn": {"post_nms_top_n": [20, 20]},
        "roi": {"type": "conv5", "size": 6, "batch_size_per_img": 8, **roi},
    }
    return ModelConfig.model_validate({"backbone": backbone, "neck": {"type": "none", "levels": [4]}, "head": head})


def make(model: ModelConfig) -> FasterRCNN:
    torch.manual_seed(0)
    detector = build_model(model, 2, InputConfig(), PostprocessConfig(score_thresh=0.0, nms_thresh=0.5))
    assert isinstance(detector, FasterRCNN)
    nn.init.normal_(detector.head.box.deltas.weight, std=0.05)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            assert module.running_mean is not None
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.weight, 0.3, 0.8)
    return detector.eval()


def random_images(count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def whole_backbone(detector: FasterRCNN, model: ModelConfig) -> nn.Module:
    """The backbone with its last stage back in its place, by the names of its state dict."""
    neck = {"type": "add", "levels": [5], "top_down": False}
    head = {"type": "yolo", "anchors": [[[9, 9]]]}
    with torch.device("meta"):
        backbone = build_backbone(
            ModelConfig.model_validate({"backbone": model.backbone.model_dump(), "neck": neck, "head": head})
        )
    body = detector.head.box.body
    assert isinstance(body, Conv5Body)
    place = body.taken_from.removeprefix("backbone.")
    state = detector.backbone.state_dict()
    state |= {f"{place}.{name}": tensor for name, tensor in body.stage.state_dict().items()}
    backbone.load_state_dict(state, assign=True)
    return backbone.eval()


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "place"), BACKBONES, ids=lambda value: str(value))
def test_the_stage_leaves_the_backbone_and_is_the_rest_of_it(backbone: dict[str, object], place: str) -> None:
    model = config(backbone)
    detector = make(model)
    whole, images = whole_backbone(detector, model), random_images(1).float() / 255
    body = detector.head.box.body
    assert isinstance(body, Conv5Body) and body.taken_from == f"backbone.{place}"
    assert not any(name.startswith(f"backbone.{place}.") for name in detector.state_dict())
    with torch.inference_mode():
        features, own = whole(images), detector.backbone(images)
        assert list(own) == [name for name in features if name != "c5"]
        # On the whole of c4 the body is conv5 and the mean over its map.
        torch.testing.assert_close(body(own["c4"]), features["c5"].mean(dim=(2, 3)))
    assert features["c5"].shape[1] == body.out_features == detector.head.box.classes.in_features
    assert detector.head.rpn.conv.in_channels == own["c4"].shape[1]
    assert detector.head.rpn.conv.out_channels == 8


def test_dense_is_conv4_and_the_proposal_network() -> None:
    maps = make(config(DARKNET)).dense(random_images())
    assert {name: tuple(raw.shape) for name, raw in maps.items()} == {
        "p4": (2, 64, 4, 6),
        "objectness_p4": (2, 9, 4, 6),
        "deltas_p4": (2, 36, 4, 6),
    }


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 6 * 6 * 64 * 7, 2**26], ids=["one by one", "seven at once", "all at once"])
@torch.inference_mode()
def test_detections_against_a_loop_over_the_regions(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = config(DARKNET)
    detector = make(model)
    monkeypatch.setitem(roi_heads._POOLED_AT_ONCE, "cpu", at_once)
    sizes, limits = [(64, 96), (50, 70)], Limits(0.0, 1.0, 10_000)
    dense = detector.dense(random_images())
    found = detector.postprocess(dense, sizes, limits)
    conv5, head = whole_backbone(detector, model).get_submodule("stages.4"), detector.head.box
    for image, (boxes, _) in enumerate(detector.propose(dense, sizes)):
        expected = []
        for box in boxes:
            region = roi_align(dense["p4"][image : image + 1], box[None], torch.tensor([0]), (6, 6), 1 / 16, 2)
            stage = conv5(region)
            assert stage.shape == (1, 128, 3, 3)
            expected += head.classes(stage.mean(dim=(2, 3)))[0].softmax(dim=0)[1:].tolist()
        assert len(found[image]) == len(expected) == 2 * len(boxes) > 10
        np.testing.assert_allclose(found[image].scores, sorted(expected, reverse=True), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [RESNET, DARKNET], ids=str)
def test_all_of_it_learns_without_nan(backbone: dict[str, object]) -> None:
    detector = make(config(backbone, batch_size_per_img=16)).train()
    losses = detector(random_images(), [make_target([(5, 9, 40, 50), (30, 30, 60, 90)], [1, 0]), make_target([])])
    assert isinstance(losses, dict)
    assert set(losses) == {"loss_objectness", "loss_rpn_box", "loss_class", "loss_box"}
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.slow
def test_imagenet_layer4_goes_into_the_head(tmp_path: Path) -> None:
    state = ResNet(18).state_dict()
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1.0)
    save_file({**state, "fc.weight": torch.rand(10, 512), "fc.bias": torch.rand(10)}, tmp_path / "r18.safetensors")
    model = config(RESNET)
    detector = make(model)
    line = take_over(detector, ("a", "b"), (), read_starting_weights(str(tmp_path / "r18.safetensors"), model))
    assert line.startswith("weights: 100 of 110 tensors taken") and line.endswith("head.rpn, head.box")
    own = detector.state_dict()
    for name, tensor in state.items():
        if "num_batches" not in name:
            place = name.replace("layer4.", "head.box.body.stage.") if "layer4" in name else f"backbone.{name}"
            assert torch.equal(own[place], tensor), name


def test_a_whole_darknet_goes_into_backbone_and_head() -> None:
    """Of a file of Darknet's, and of a one-stage detector of ours, which keep conv5 in the backbone."""
    model = config(DARKNET)
    neck = {"type": "concat", "levels": [5], "top_down": False}
    head = {"type": "yolo", "anchors": [[[9, 9]]]}
    one_stage = build_yolo(
        ModelConfig.model_validate({"backbone": DARKNET, "neck": neck, "head": head}),
        3,
        InputConfig(),
        PostprocessConfig(),
    )
    ours = {name: tensor for name, tensor in one_stage.state_dict().items() if name.startswith("backbone.")}
    for state in (native_state(native_layers(one_stage), model, 80), one_stage.state_dict()):
        detector = make(model)
        take_over(detector, ("a", "b"), (), StartingWeights("file", state, {}))
        own = detector.state_dict()
        for name, tensor in ours.items():
            place = name.replace("backbone.stages.4.", "head.box.body.stage.")
            assert "num_batches" in name or torch.equal(own[place], tensor), name


@pytest.mark.parametrize(
    ("section", "change", "said"),
    [
        ("neck", {"type": "add", "levels": [4], "top_down": False}, "set neck to {type: none, levels: [4]}"),
        ("neck", {"type": "none", "levels": [5]}, "set neck to {type: none, levels: [4]}"),
        ("neck", {"type": "none", "levels": [5, 4]}, "must be ascending"),
        ("neck", {"type": "none", "levels": [4], "channels": 256}, "Extra inputs are not permitted"),
        ("roi", {"type": "conv5", "width": 512}, "width is of fully connected layers"),
        ("roi", {"type": "conv4"}, "Input should be 'mlp' or 'conv5'"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_read(section: str, change: dict[str, object], said: str) -> None:
    tree = config(RESNET).model_dump()
    (tree["head"] if section == "roi" else tree)[section] = change
    with pytest.raises(ValueError, match=said.replace("[", r"\[").replace("{", r"\{")):
        ModelConfig.model_validate(tree)


def test_a_description_survives_being_written() -> None:
    model = config(RESNET)
    assert ModelConfig.model_validate_json(model.model_dump_json()) == model


def test_maps_of_the_backbone_feed_the_two_layers_too() -> None:
    model = config(RESNET, type="mlp")
    detector = make(model)
    assert not isinstance(detector.head.box.body, Conv5Body)
    assert detector.head.project.get_submodule("p4").get_parameter("weight").shape == (8, 256, 1, 1)
    assert not any(name.startswith("neck.") for name in detector.state_dict())
    assert len(detector(random_images(1))) == 1
