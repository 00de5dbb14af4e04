"""The native models beside networks built from Darknet's cfgs, both from one weights file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.small import small_config
from yolofpn.config import DarknetHeader, InputConfig, ModelConfig, PostprocessConfig, load_config
from yolofpn.darknet.cfg import parse_cfg
from yolofpn.darknet.native import load_classifier, native_layers, require_darknet_counterpart
from yolofpn.darknet.network import DarknetNetwork, load_darknet_network
from yolofpn.darknet.weights_file import WeightLayer, count_numbers, read_layers, write_layers
from yolofpn.errors import UserError
from yolofpn.models.backbones.darknet import Darknet, Darknet19, DarknetClassifier, scaled_darknet
from yolofpn.models.build import build_yolo
from yolofpn.models.yolo import YOLO

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
YOLOV3_CFG = REPOSITORY / "yolofpn" / "darknet" / "cfgs" / "yolov3.cfg"
HEADER = DarknetHeader(major=0, minor=2, revision=5, seen=32_013_312)


def with_side(cfg: Path, side: int) -> str:
    """The cfg for inputs of ``side`` x ``side`` pixels."""
    return re.sub(r"^(width|height)=\d+", rf"\g<1>={side}", cfg.read_text(encoding="utf-8"), flags=re.MULTILINE)


def native(model: ModelConfig, num_classes: int = 80) -> YOLO:
    config = model.model_copy(update={"norm_eps": 1e-6})
    return build_yolo(config, num_classes, InputConfig(), PostprocessConfig()).eval()


def yolov3_config(**backbone: Any) -> ModelConfig:
    model = load_config(REPOSITORY / "cfg" / "yolofpn.yaml").model
    return ModelConfig.model_validate({**model.model_dump(), "backbone": backbone or {"type": "darknet53"}})


@torch.no_grad()
def fill(layers: Sequence[WeightLayer], seed: int = 0) -> None:
    """Numbers that keep the values of a deep network of moderate size, all of them different."""
    generator = torch.Generator().manual_seed(seed)
    for conv, norm in layers:
        fan_in = conv.weight[0].numel()
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator) / fan_in**0.5)
        if norm is None:
            assert conv.bias is not None
            conv.bias.copy_(torch.randn(conv.bias.shape, generator=generator))
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        for tensor, spread, middle in (
            (norm.weight, 0.2, 0.8),
            (norm.bias, 0.2, 0.1),
            (norm.running_mean, 0.2, 0.0),
        ):
            tensor.copy_(middle + spread * torch.randn(tensor.shape, generator=generator))
        norm.running_var.copy_(0.5 + torch.rand(norm.running_var.shape, generator=generator))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert theirs.std() > 1e-3, "an output of one value would show nothing"
    difference = (ours - theirs).abs().max() / theirs.abs().max()
    assert difference < 5e-5  # variances are rounded for another epsilon, and 75 layers follow each other


def compare_detectors(model: YOLO, cfg_text: str, path: Path, size: tuple[int, int]) -> None:
    fill(native_layers(model))
    write_layers(path, native_layers(model), HEADER)
    network, loaded = load_darknet_network(parse_cfg(cfg_text, "yolov3.cfg"), path)
    assert loaded.complete
    assert loaded.header == HEADER
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours, theirs = model.dense(images), network.dense(images)
    assert [spec.stride for spec in network.specs.values()] == [32, 16, 8]
    for name, other in zip(("p5", "p4", "p3"), theirs, strict=True):
        assert_same(ours[name], theirs[other])
        assert model.specs[name] == network.specs[other]


def quarter(cfg_text: str) -> str:
    """A quarter of the filters of each layer with batch norm: width 0.25."""
    pattern = r"(batch_normalize=1\s+filters=)(\d+)"
    return re.sub(pattern, lambda match: match[1] + str(int(match[2]) // 4), cfg_text)


def test_native_and_cfg_built_yolov3_agree(tmp_path: Path) -> None:
    model = native(yolov3_config(type="darknet", width=0.25, depth=1))
    compare_detectors(model, quarter(with_side(YOLOV3_CFG, 64)), tmp_path / "yolov3.weights", (64, 96))


@torch.no_grad()
def test_what_is_written_comes_back_byte_for_byte(tmp_path: Path) -> None:
    first, second = (native(yolov3_config(type="darknet", width=0.125, depth=0.1), 3) for _ in range(2))
    fill(native_layers(first))
    write_layers(tmp_path / "first.weights", native_layers(first), HEADER)
    loaded = read_layers(tmp_path / "first.weights", native_layers(second))
    assert loaded.complete
    write_layers(tmp_path / "second.weights", native_layers(second), loaded.header)
    assert (tmp_path / "first.weights").read_bytes() == (tmp_path / "second.weights").read_bytes()
    own, others = first.state_dict(), second.state_dict()
    assert all(torch.equal(own[name], others[name]) for name in own)


def test_every_number_of_the_model_is_in_the_file() -> None:
    for neck in ({}, {"levels": (3,)}, {"levels": (2, 4)}, {"top_down": False}, {"lateral": False}):
        model = native(small_config(neck), 2)
        state = {name: t for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")}
        layers = native_layers(model)
        assert count_numbers(layers) == sum(tensor.numel() for tensor in state.values()), neck
        assert len({id(layer.conv) for layer in layers}) == len(layers)


def test_a_backbones_file_fills_the_first_layers(tmp_path: Path) -> None:
    """As darknet53.conv.74: 52 convolutions, the rest keeps what it had."""
    model = native(yolov3_config(type="darknet", width=0.125, depth=1), 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    donor = native(yolov3_config(type="darknet", width=0.125, depth=1), 80)
    fill(native_layers(donor))
    write_layers(tmp_path / "small.conv.74", native_layers(donor)[:52], HEADER)
    loaded = read_layers(tmp_path / "small.conv.74", native_layers(model))
    assert (loaded.loaded, loaded.total) == (52, 75)
    theirs = donor.state_dict()
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            expected = theirs[name] if name.startswith("backbone.") else before[name]
            assert torch.equal(tensor, expected), name


def test_a_file_for_other_classes_is_refused(tmp_path: Path) -> None:
    config = yolov3_config(type="darknet", width=0.125, depth=0.1)
    write_layers(tmp_path / "three.weights", native_layers(native(config, 3)), HEADER)
    with pytest.raises(UserError, match="truncated"):
        read_layers(tmp_path / "three.weights", native_layers(native(config, 4)))


def test_a_neck_that_adds_has_no_darknet_counterpart() -> None:
    with pytest.raises(UserError, match="models"):
        native_layers(native(small_config({"type": "add", "channels": 8})))


def test_darknet_would_compute_something_else() -> None:
    require_darknet_counterpart(native(small_config({"levels": (2, 4)}, {"scale_x_y": 2.0, "classes": "softmax"})))
    slope = small_config().model_copy(update={"leaky_slope": 0.01})
    cases = {
        "other necks than those of type concat and tiny": native(small_config({"type": "add"})),
        "upsample: bilinear": native(small_config({"upsample": "bilinear"})),
        "xy: linear": native(small_config(head={"xy": "linear"})),
        "a leaky_slope other than 0.1": native(slope),
        "input mean and std": build_yolo(small_config(), 2, InputConfig(std=(0.2, 0.2, 0.2)), PostprocessConfig()),
        "upsample: bilinear and no xy: linear": native(small_config({"upsample": "bilinear"}, {"xy": "linear"})),
    }
    for reason, model in cases.items():
        with pytest.raises(UserError, match=f"^Darknet has no {reason}"):
            require_darknet_counterpart(model)


def test_other_backbones_have_no_darknet_counterpart() -> None:
    model = native(small_config(backbone={"type": "strided", "width": 4}))
    with pytest.raises(UserError, match="backbones"):
        require_darknet_counterpart(model)
    with pytest.raises(UserError, match="backbones"):
        native_layers(model)


def classes_of_both(backbone: Darknet | Darknet19, cfg_text: str, path: Path, side: int) -> tuple[list[int], list[int]]:
    """The best classes of two images by our backbone and by its cfg, whose probabilities agree too."""
    cfg = parse_cfg(cfg_text, "classifier.cfg")
    network = DarknetNetwork(cfg)
    fill(network.weight_layers())
    write_layers(path, network.weight_layers(), HEADER)
    network, _ = load_darknet_network(cfg, path)
    classifier = DarknetClassifier(backbone)
    assert load_classifier(classifier, path).complete
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours, theirs = classifier.eval()(images), network.class_probabilities(images)
    torch.testing.assert_close(ours.sum(dim=1), torch.ones(2))
    assert_same(ours, theirs)
    return ours.argmax(dim=1).tolist(), theirs.argmax(dim=1).tolist()


def test_darknet19_agrees_with_its_cfg(data_dir: Path, tmp_path: Path) -> None:
    text = with_side(data_dir / "darknet" / "cfg" / "darknet19.cfg", 64)
    ours, theirs = classes_of_both(Darknet19(norm_eps=1e-6), text, tmp_path / "darknet19.weights", 64)
    assert ours == theirs


def test_darknet53_agrees_with_its_cfg(data_dir: Path, tmp_path: Path) -> None:
    text = quarter(with_side(data_dir / "darknet" / "cfg" / "darknet53.cfg", 64))
    ours, theirs = classes_of_both(scaled_darknet(0.25, 1, norm_eps=1e-6), text, tmp_path / "darknet53.weights", 64)
    assert ours == theirs


def test_a_backbone_is_no_classifier(tmp_path: Path) -> None:
    classifier = DarknetClassifier(scaled_darknet(0.125, 0.1), 10)
    model = native(yolov3_config(type="darknet", width=0.125, depth=0.1))
    count = 1 + 2 * 5 + 5  # the first convolution, one block of two in each stage, five that halve the size
    write_layers(tmp_path / "small.conv", native_layers(model)[:count], HEADER)
    with pytest.raises(
        UserError, match=f"ends after {count} of {count + 1} layers: this is a backbone, not a classifier"
    ):
        load_classifier(classifier, tmp_path / "small.conv")
