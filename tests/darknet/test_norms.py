"""Batch norm as each of Darknet's programs computes it, which the header of the weights tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from yolofpn.cli.convert import main as convert
from yolofpn.config import DarknetHeader
from yolofpn.darknet.cfg import parse_cfg, read_cfg
from yolofpn.darknet.network import DarknetNetwork, load_darknet_network
from yolofpn.darknet.weights_file import write_layers
from yolofpn.runtimes.fold import fold_norms
from yolofpn.weights import load_weights

VARIANCES = (1e-12, 1e-9, 1e-6, 1e-5, 1e-3, 1.0)
CFG = """[net]
width=8
height=8
[convolutional]
batch_normalize=1
filters=6
size=1
activation=linear
[yolo]
anchors=10,20
num=1
classes=1
"""
# Raw values of AlexeyAB's Darknet (commit 59596d7) of real weights on the image of ``pattern``, by map, channel, row
# and column: those that another epsilon changes most, by .005 to .015.
DARKNETS = {
    "yolo-fastest-1.1": {
        "121": {(117, 1, 4): -7.172697, (117, 1, 5): -7.221733, (93, 3, 7): -11.352456},
        "130": {(228, 16, 4): -13.180085, (244, 1, 12): -8.962065, (228, 15, 5): -14.027634},
    },
    "MobileNetV2-YOLO-Fastest-voc-v2": {
        "73": {(19, 9, 6): -4.684261, (15, 8, 9): -6.904276, (69, 9, 6): -5.145238},
        "87": {(46, 5, 10): -4.885176, (21, 5, 10): -3.692658, (46, 5, 11): -5.030536},
    },
}


def pattern(height: int, width: int) -> NDArray[np.uint8]:
    """[1, 3, H, W]."""
    row, column, channel = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    image = (3 * row + 5 * column + 70 * channel + row * column // 64) % 256
    return np.ascontiguousarray(image.astype(np.uint8).transpose(2, 0, 1)[None])


@pytest.mark.slow
@pytest.mark.parametrize("name", DARKNETS)
def test_raw_values_are_those_of_darknet(name: str, data_dir: Path) -> None:
    cfg = read_cfg(data_dir / "darknet" / f"{name}.cfg")
    network, _ = load_darknet_network(cfg, data_dir / "darknet" / f"{name}.weights")
    with torch.inference_mode():
        dense = network.dense(torch.from_numpy(pattern(cfg.net.height, cfg.net.width)))
    for key, values in DARKNETS[name].items():
        for (channel, row, column), expected in values.items():
            assert float(dense[key][0, channel, row, column]) == pytest.approx(expected, abs=1e-4)


def write(path: Path, revision: int) -> NDArray[np.float32]:
    """Weights whose channels have the variances above; the kernel, [6, 3]."""
    network = DarknetNetwork(parse_cfg(CFG, "x.cfg"))
    (layer,) = network.weight_layers()
    assert layer.norm is not None and layer.norm.running_var is not None
    layer.conv.weight.copy_(torch.linspace(-1, 1, 18).view(6, 3, 1, 1))
    layer.norm.running_var.copy_(torch.tensor(VARIANCES))
    write_layers(path, [layer], DarknetHeader(major=0, minor=2, revision=revision, seen=0))
    path.with_suffix(".cfg").write_text(CFG)
    return layer.conv.weight.flatten(1).numpy()


@pytest.mark.parametrize("revision", [0, 5])
def test_small_variances_by_hand(revision: int, tmp_path: Path) -> None:
    kernel = write(tmp_path / "x.weights", revision)
    image = pattern(8, 8)
    variance = np.array(VARIANCES)
    divisor = np.sqrt(variance + 1e-5) if revision == 5 else np.sqrt(variance) + 1e-6
    expected = (np.einsum("ij,jhw->ihw", kernel, image[0] / 255) / divisor[:, None, None])[None]

    assert convert([str(tmp_path / "x.weights"), str(tmp_path / "x.safetensors")]) == 0
    for path in (tmp_path / "x.weights", tmp_path / "x.safetensors"):
        network = load_weights(path).detector
        with torch.inference_mode():
            for variant in (network, fold_norms(network)):
                np.testing.assert_allclose(variant.dense(torch.from_numpy(image))["1"], expected, rtol=2e-6, atol=1e-5)
