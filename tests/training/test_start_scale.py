"""Initial weights with another ``scale_x_y``: what the predictions of centres are multiplied by."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from yolofpn.config import DarknetHeader, load_config
from yolofpn.darknet.cfg import read_cfg
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import write_layers
from yolofpn.models.build import build_yolo
from yolofpn.training.start import centre_factor, read_starting_weights, take_over

NAMES = ("cat", "dog", "cow")
MODEL = """
model:
  backbone: {type: darknet, width: 0.0625, depth: 0.1}
  neck: {type: tiny, levels: [5], channels: 8}
  head: {type: yolo, anchors: [[[16, 16]]], channels: [8], scale_x_y: 1.5}
input: {size: [64, 64]}
"""


@pytest.mark.parametrize(
    ("given", "wanted", "factor"),
    [
        (2.0, 1.0, math.log(4) / math.log(13 / 7)),  # .5 +- .3 and .5 +- .15: the logits are log 4 and log 13/7
        (1.0, 2.0, math.log(13 / 7) / math.log(4)),
        (0.6, 1.0, 1.0),
        (0.5, 1.0, 1.0),
        (1.0, -3.0, 1.0),
        (1e30, 1.0, math.log(2) / 6e-31),
    ],
)
def test_the_factor_of_logits(given: float, wanted: float, factor: float) -> None:
    assert centre_factor(given, wanted) == pytest.approx(factor)


def convolution(filters: int, size: int = 3, stride: int = 1) -> str:
    sizes = f"filters={filters}\nsize={size}\nstride={stride}\n"
    return f"[convolutional]\nbatch_normalize=1\n{sizes}pad=1\nactivation=leaky\n"


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["1.05", "1.5"])
def test_a_darknet_file_brings_its_scale(tmp_path: Path, scale: str) -> None:
    """The same layers as ``MODEL``, with another scale of the centres."""
    text = "[net]\nheight=64\nwidth=64\nchannels=3\n"
    text += convolution(8)
    for filters in (16, 16, 16, 32, 64):
        text += convolution(filters, stride=2) + convolution(filters // 2, size=1) + convolution(filters)
        text += "[shortcut]\nfrom=-3\nactivation=linear\n"
    text += convolution(8, size=1) + convolution(8)
    text += "[convolutional]\nfilters=8\nsize=1\nstride=1\npad=1\nactivation=linear\n"
    text += f"[yolo]\nmask=0\nanchors=16,16\nclasses=3\nnum=1\nscale_x_y={scale}\n"
    (tmp_path / "own.cfg").write_text(text)
    (tmp_path / "own.names").write_text("\n".join(NAMES))
    (tmp_path / "model.yaml").write_text(MODEL)
    network = DarknetNetwork(read_cfg(tmp_path / "own.cfg"))
    predict = network.weight_layers()[-1].conv
    assert predict.bias is not None
    predict.weight.data.uniform_(0.1, 1)
    predict.bias.data.uniform_(0.1, 1)
    header = DarknetHeader(major=0, minor=2, revision=0, seen=0)
    write_layers(tmp_path / "own.weights", network.weight_layers(), header)

    config = load_config(tmp_path / "model.yaml")
    model = build_yolo(config.model, len(NAMES), config.input, config.postprocess)
    start = read_starting_weights(str(tmp_path / "own.weights"), config.model)
    assert start.scale_x_y == float(scale)
    take_over(model, NAMES, (), start)
    state = model.state_dict()
    factor = centre_factor(float(scale), 1.5)
    for kind, given in (("weight", predict.weight), ("bias", predict.bias)):
        taken = state[f"head.p5.predict.{kind}"]
        torch.testing.assert_close(taken[:2], given[:2] * factor)
        assert torch.equal(taken[2:], given[2:])
