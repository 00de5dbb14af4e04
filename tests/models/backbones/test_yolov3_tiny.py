"""YOLOv3-tiny as a native model against the network that its cfg describes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from yolofpn.config import Config, load_config
from yolofpn.darknet import companions
from yolofpn.darknet.cfg import parse_cfg
from yolofpn.darknet.cfg_writer import write_cfg
from yolofpn.darknet.download import NAMED_WEIGHTS, NamedWeights
from yolofpn.darknet.native import layers_to_write
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import open_weights, read_layers, write_layers
from yolofpn.errors import UserError
from yolofpn.models.backbones.yolov3_tiny import PoolInPlace, TinyDarknet
from yolofpn.models.build import build_yolo
from yolofpn.models.necks.tiny import TinyFPN
from yolofpn.models.yolo import YOLO
from yolofpn.weights import load_weights

ROOT = Path(__file__).parents[3]
TINY_CFG = ROOT / "yolofpn" / "darknet" / "cfgs" / "yolov3-tiny.cfg"


LOW_RANK = ("model.backbone.rank=256", "model.head.ranks=[128,null]")


def tiny(*overrides: str, classes: int = 80, seed: int = 0) -> tuple[YOLO, Config]:
    torch.manual_seed(seed)
    config = load_config(ROOT / "cfg" / "yolov3-tiny.yaml", list(overrides))
    model = build_yolo(config.model, classes, config.input, config.postprocess).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model, config


def test_pooling_of_stride_one_is_darknets() -> None:
    x = torch.rand(1, 1, 3, 4)
    out = PoolInPlace()(x)
    for row in range(3):
        for column in range(4):
            assert out[0, 0, row, column] == x[0, 0, row : row + 2, column : column + 2].max()


@pytest.mark.slow
@torch.inference_mode()
def test_published_layout_loads_bit_for_bit(tmp_path: Path) -> None:
    """A file with the published layout gives the native model the very maps of the network built from the cfg."""
    source, _ = tiny(seed=1)
    write_layers(tmp_path / "yolov3-tiny.weights", layers_to_write(source))
    from_cfg = load_weights(tmp_path / "yolov3-tiny.weights")
    assert isinstance(from_cfg.detector, DarknetNetwork)
    images = torch.randint(0, 256, (2, 3, 96, 64), dtype=torch.uint8)
    theirs = {tuple(each.shape[2:]): each for each in from_cfg.detector.dense(images).values()}
    for each in source.dense(images).values():
        assert torch.allclose(each, theirs[tuple(each.shape[2:])], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), LOW_RANK], ids=["whole", "low rank"])
@torch.inference_mode()
def test_written_cfg_computes_the_same(overrides: tuple[str, ...], tmp_path: Path) -> None:
    model, config = tiny(*overrides, classes=3)
    text = write_cfg(model, config.input)
    network = DarknetNetwork(parse_cfg(text, "written.cfg")).eval()
    write_layers(tmp_path / "tiny.weights", layers_to_write(model))
    assert read_layers(open_weights(tmp_path / "tiny.weights"), network.weight_layers()).complete
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    size = [(64, 96)]
    ours, theirs = model.postprocess(model.dense(images), size)[0], network.postprocess(network.dense(images), size)[0]
    assert len(ours.boxes) == len(theirs.boxes)
    assert torch.allclose(torch.as_tensor(ours.boxes), torch.as_tensor(theirs.boxes), atol=1e-3)


@pytest.mark.slow
def test_published_weights_get_the_masks_that_they_were_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = tiny()
    path = tmp_path / "download"
    write_layers(path, layers_to_write(model))
    numbers = len(open_weights(path).numbers)
    published = NamedWeights("yolov3-tiny.weights", 20 + 4 * numbers, hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(NAMED_WEIGHTS, "yolov3-tiny", published)
    chosen, line = companions.find_cfg(path, numbers)
    masks = [line.partition("=")[2] for line in chosen.read_text().splitlines() if line.startswith("mask")]
    assert masks == ["3,4,5", "1,2,3"] and "1,2,3" in line

    path.write_bytes(path.read_bytes()[:-4] + bytes(4))  # as large, but not the published file
    chosen, _ = companions.find_cfg(path, numbers)
    assert chosen.name == "yolov3-tiny.cfg"

    own = path.with_suffix(".cfg")
    own.write_text(TINY_CFG.read_text())
    assert companions.find_cfg(path, numbers)[0] == own


def test_levels_of_the_neck_are_consecutive() -> None:
    info = TinyDarknet().feature_info
    assert {name: each.channels for name, each in info.items()} == {"c2": 64, "c3": 128, "c4": 256, "c5": 1024}
    neck = TinyFPN(info, (3, 4, 5), 64)
    shapes = {name: (each.channels, each.stride) for name, each in neck.feature_info.items()}
    assert shapes == {"p3": (128 + 144, 8), "p4": (256 + 32, 16), "p5": (64, 32)}
    neck = TinyFPN(info, (3, 4, 5), (24, 48, 64))
    shapes = {name: (each.channels, each.stride) for name, each in neck.feature_info.items()}
    assert shapes == {"p3": (128 + 24, 8), "p4": (256 + 48, 16), "p5": (64, 32)}
    with pytest.raises(ValueError, match="consecutive"):
        TinyFPN(info, (3, 5))


def test_a_level_count_that_does_not_fit_is_refused() -> None:
    for key in ("head", "neck"):
        with pytest.raises(UserError, match="channels"):
            load_config(ROOT / "cfg" / "yolov3-tiny.yaml", [f"model.{key}.channels=[1,2,3]"])
