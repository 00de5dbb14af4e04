from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from yolofpn.config import DarknetHeader, load_config
from yolofpn.darknet.cfg import parse_cfg
from yolofpn.darknet.cfg_writer import write_cfg
from yolofpn.darknet.native import layers_to_write
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.errors import UserError
from yolofpn.models.build import build_model
from yolofpn.models.layers import Normalize
from yolofpn.models.yolo import YOLO

CONFIGS = Path(__file__).parents[2] / "cfg"
SMALL = ["model.backbone.width=0.0625", "model.backbone.depth=0.3", "input.size=[64,96]"]


def model_of(*overrides: str, cfg: str = "yolofpn-tiny") -> tuple[YOLO, str]:
    torch.manual_seed(0)
    config = load_config(CONFIGS / f"{cfg}.yaml", list(overrides))
    model = build_model(config.model, 3, config.input, config.postprocess).eval()
    assert isinstance(model, YOLO)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 1e-4, 1e-3)  # so small that the epsilon counts
            nn.init.uniform_(module.weight, 0.01, 0.02)
    return model, write_cfg(model, config.input)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        SMALL,
        [*SMALL, "model.backbone.stem_stride=1", "model.head.scale_x_y=1.0"],
        [*SMALL, "model.neck.top_down=false"],
        [*SMALL, "model.neck.lateral=false"],
        [*SMALL, "model.neck.levels=[3]", "model.head.anchors=[[[10,13],[16,30.5]]]"],
        ["model.backbone={type: darknet19}", "model.neck.channels=[8,8,8]", "input.size=[32,64]"],
        [*SMALL, "model.backbone.rank=0.5", "model.neck.rank=0.5", "model.head.ranks=[8,null,4]"],
    ],
    ids=["tiny", "whole stem", "bottom-up", "no laterals", "finest level", "darknet19", "low rank"],
)
@torch.inference_mode()
def test_darknets_network_of_the_written_cfg_computes_the_same(overrides: list[str]) -> None:
    model, text = model_of(*overrides)
    network = DarknetNetwork(parse_cfg(text, "written.cfg"))
    given, wanted = layers_to_write(model), network.weight_layers()
    assert [layer.shape for layer in given] == [layer.shape for layer in wanted]
    for target, source in zip(wanted, given, strict=True):
        target.copy_from(source)
    height, width = network.input_size
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    expected, found = model.dense(images), network.dense(images)
    # Darknet's outputs begin with the coarsest level.
    for (name, raw), (own, other) in zip(found.items(), reversed(expected.items()), strict=True):
        assert network.specs[name] == model.specs[own]
        torch.testing.assert_close(raw, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
    assert network.num_classes == 3


def test_the_full_models_cfg_is_yolov3s(data_dir: Path) -> None:
    with torch.device("meta"):
        config = load_config(CONFIGS / "yolofpn.yaml")
        model = build_model(config.model, 80, config.input, config.postprocess)
    assert isinstance(model, YOLO)
    model.normalize = Normalize(config.input.mean, config.input.std)
    written = parse_cfg(write_cfg(model, config.input), "written.cfg")
    original = parse_cfg((data_dir / "darknet" / "cfg" / "yolov3.cfg").read_text(), "yolov3.cfg")
    here, there = DarknetPlan(written.layers), DarknetPlan(original.layers)
    assert here.convolutions == there.convolutions
    assert here.outputs == there.outputs
    assert (written.net.height, written.net.width, written.net.letter_box) == (416, 416, True)


class DarknetPlan:
    """What a cfg computes with, and what comes out."""

    def __init__(self, layers: tuple[object, ...]) -> None:
        kinds = [(getattr(layer, "kind"), getattr(layer, "section")) for layer in layers]  # noqa: B009
        self.convolutions = [section for kind, section in kinds if kind == "convolutional"]
        self.outputs = [section for kind, section in kinds if kind == "yolo"]


def test_the_way_of_resizing_is_said() -> None:
    config = load_config(CONFIGS / "yolofpn-tiny.yaml", SMALL)
    model, _ = model_of(*SMALL)
    stretched = config.input.model_copy(update={"resize": "stretch"})
    assert parse_cfg(write_cfg(model, stretched), "x").net.letter_box is False


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model.neck.upsample=bilinear", "bilinear"),
        ("model.neck={type: add}", "other necks than those of type concat and tiny"),
        ("model.leaky_slope=0.01", "leaky_slope"),
        ("input.mean=[0.5,0.5,0.5]", "mean and std"),
        ("model.head.classes=softmax", "softmax"),
    ],
)
def test_what_darknet_does_not_know_is_refused(override: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        model_of(*SMALL, override)


def test_variances_carry_the_difference_of_the_epsilons() -> None:
    model, _ = model_of(*SMALL)
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.eps == 1e-5 and layers_to_write(model)[0].norm is norm  # what AlexeyAB's Darknet adds, too
    assert norm.running_var is not None
    before = norm.running_var.clone()
    pjreddie = DarknetHeader(major=0, minor=2, revision=0, seen=0)
    written = layers_to_write(model, pjreddie)[0].norm
    assert written is not None and written.running_var is not None
    torch.testing.assert_close(written.running_var.sqrt() + 1e-6, (before + 1e-5).sqrt(), rtol=1e-6, atol=0)
    assert torch.equal(norm.running_var, before)
    norm.eps = 1e-6
    norm.running_var[0] = 5e-6  # + 1e-6 is less than what Darknet adds: 0 is the nearest
    expected = (norm.running_var - 9e-6).clamp(min=0)
    written = layers_to_write(model)[0].norm
    assert written is not None and written.running_var is not None
    torch.testing.assert_close(written.running_var, expected, rtol=1e-5, atol=0)
