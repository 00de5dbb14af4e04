"""Small networks of each kind, and what AlexeyAB's Darknet (commit 59596d7, built for the CPU) detects with them.

Its ``get_network_boxes`` and ``diounms_sort`` or ``do_nms_sort`` were called on ``pattern`` of the network's size,
or of 100 x 50 letterboxed, with score threshold .3 and NMS threshold .45. Boxes are clipped to the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolofpn.config import DarknetHeader
from yolofpn.darknet.cfg import read_cfg
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import LooseNumbers, WeightLayer, write_layers

SCORE_THRESH, NMS_THRESH = 0.3, 0.45
HEADER = DarknetHeader(major=0, minor=2, revision=5, seen=0)


def net(width: int, height: int, channels: int = 3) -> str:
    return f"[net]\nwidth={width}\nheight={height}\nchannels={channels}\n"


def conv(filters: int, size: int = 1, stride: int = 1, activation: str = "leaky", more: str = "") -> str:
    return f"[convolutional]\nfilters={filters}\nsize={size}\nstride={stride}\npad=1\nactivation={activation}\n{more}"


NORM = "batch_normalize=1\n"
YOLO = "anchors=12,16, 19,36, 40,28\nnum=3\nclasses=2\n"
CFGS = {
    "plain": net(64, 48) + conv(8, 3, 4, more=NORM) + conv(21, activation="linear") + "[yolo]\n" + YOLO,
    "greedynms": net(64, 48)
    + conv(8, 3, 4, more=NORM)
    + conv(21, activation="linear")
    + "[yolo]\nnms_kind=greedynms\nbeta_nms=.9\n"
    + YOLO,
    "diounms": net(64, 48)
    + conv(8, 3, 4, more=NORM)
    + conv(21, activation="linear")
    + "[yolo]\nnms_kind=diounms\nbeta_nms=.3\n"
    + YOLO,
    "new_coords": net(64, 48)
    + conv(8, 3, 4, "swish", NORM)
    + conv(21, activation="logistic")
    + "[yolo]\nnew_coords=1\nscale_x_y=2.0\nnms_kind=diounms\nbeta_nms=.6\n"
    + YOLO,
    "last output decides": net(64, 48)
    + conv(8, 3, 4, more=NORM)
    + conv(21, activation="linear")
    + "[yolo]\nnms_kind=greedynms\n"
    + YOLO
    + "[route]\nlayers=0\n"
    + conv(21, 3, 2, "linear")
    + "[yolo]\n"
    + YOLO,
    "gray": net(64, 48, channels=1) + conv(8, 3, 4, more=NORM) + conv(21, activation="linear") + "[yolo]\n" + YOLO,
    "gaussian": net(64, 48)
    + conv(8, 3, 4, more=NORM)
    + conv(33, activation="linear")
    + "[Gaussian_yolo]\nuc_normalizer=1.0\nscale_x_y=1.1\n"
    + YOLO,
    "region that does not divide": net(50, 70)
    + conv(8, 3, 2, more=NORM)
    + "[maxpool]\nsize=2\nstride=2\n"
    + "[maxpool]\nsize=2\nstride=2\npadding=0\n"
    + conv(14, activation="linear")
    + "[region]\nanchors=.9,1.1, 1.5,2.2, 7,7\nnum=2\nclasses=2\nsoftmax=1\nmosiac=1\n",
    "yolo that does not divide": net(50, 70)
    + conv(8, 3, 4, more=NORM)
    + conv(21, activation="linear")
    + "[yolo]\n"
    + YOLO,
    "sections": net(64, 48)
    + conv(6, 3, 2, "swish", NORM).replace("pad=1", "pad=3")
    + conv(6, 3, 1, "ramp", NORM + "dilation=2\n")
    + conv(6, activation="logistic")
    + "[sam]\nfrom=-2\n"
    + "[batchnorm]\n"
    + "[local_avgpool]\nsize=3\nstride=2\n"
    + "[implicit]\nfilters=6\n"
    + "[scale_channels]\nfrom=-2\n"
    + conv(1, activation="logistic")
    + "[scale_channels]\nfrom=-2\nscale_wh=1\n"
    + conv(6, 3, activation="tanh")
    + "[shortcut]\nfrom=-2,-4\nweights_type=per_channel\nweights_normalization=softmax\nactivation=elu\n"
    + conv(6, activation="tanh")
    + "[shortcut]\nfrom=-2\nweights_type=per_feature\nweights_normalization=relu\nactivation=linear\n"
    + "[reorg3d]\nstride=2\n"
    + "[activation]\nactivation=ramp\n"
    + conv(21, activation="linear")
    + "[yolo]\n"
    + YOLO,
}


def pattern(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """[height, width, 3] RGB, gray if ``channels`` is 1."""
    row, column, channel = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    channel = channel * (channels == 3)
    return ((3 * row + 5 * column + 70 * channel + row * column // 64) % 256).astype(np.uint8)


def _tensors(layer: WeightLayer | LooseNumbers) -> Iterator[tuple[Tensor, bool]]:
    """The numbers of a layer, and whether they are variances, which are positive."""
    if isinstance(layer, LooseNumbers):
        # [batchnorm] has four tensors, of which the last is the variance.
        yield from ((tensor, number == 3) for number, tensor in enumerate(layer.tensors))
        return
    yield from ((tensor, False) for tensor in layer.conv.parameters())
    if layer.norm is not None:
        yield from ((tensor, False) for tensor in layer.norm.parameters())
        assert layer.norm.running_mean is not None and layer.norm.running_var is not None
        yield from ((layer.norm.running_mean, False), (layer.norm.running_var, True))


@torch.no_grad()
def write_case(name: str, folder: Path) -> DarknetNetwork:
    """Write ``x.cfg`` and ``x.weights``, and make the network; its numbers are those of a sine."""
    (folder / "x.cfg").write_text(CFGS[name])
    network = DarknetNetwork(read_cfg(folder / "x.cfg"))
    for start, (tensor, positive) in enumerate(chain.from_iterable(map(_tensors, network.stored_layers()))):
        values = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 1.7 + start) * 0.7
        tensor.copy_((values.abs() + 0.1 if positive else values).view(tensor.shape))
    write_layers(folder / "x.weights", network.stored_layers(), HEADER)
    return network


@dataclass(frozen=True)
class Expected:
    """What Darknet detects: how many, the sums of their scores and of all corners, and the best ones.

    ``best`` holds label, score and xyxy.
    """

    count: int
    scores: float
    corners: float
    best: tuple[tuple[int, float, tuple[float, float, float, float]], ...]


EXPECTED: dict[str, Expected] = {
    "plain": Expected(
        48,
        19.821,
        5286.6,
        (
            (0, 0.4903, (8.05, 11.21, 18.52, 24.79)),
            (0, 0.4903, (48.05, 23.22, 58.52, 36.78)),
            (0, 0.4903, (40.05, 35.21, 50.52, 48.00)),
            (0, 0.4821, (47.10, 0.00, 59.11, 10.34)),
        ),
    ),
    "greedynms": Expected(
        74,
        30.123,
        8068.7,
        (
            (0, 0.4903, (8.05, 11.21, 18.52, 24.79)),
            (0, 0.4903, (48.05, 23.22, 58.52, 36.78)),
            (0, 0.4903, (40.05, 35.21, 50.52, 48.00)),
            (0, 0.4821, (47.10, 0.00, 59.11, 10.34)),
        ),
    ),
    "diounms": Expected(
        118,
        47.245,
        12795.6,
        (
            (0, 0.4903, (8.05, 11.21, 18.52, 24.79)),
            (0, 0.4903, (48.05, 23.22, 58.52, 36.78)),
            (0, 0.4903, (40.05, 35.21, 50.52, 48.00)),
            (0, 0.4821, (47.10, 0.00, 59.11, 10.34)),
        ),
    ),
    "new_coords": Expected(
        86,
        34.259,
        9162.8,
        (
            (0, 0.4597, (46.70, 23.34, 58.40, 37.06)),
            (0, 0.4596, (6.70, 11.33, 18.40, 25.07)),
            (0, 0.4595, (38.69, 35.33, 50.41, 48.00)),
            (0, 0.4535, (45.80, 0.00, 58.76, 10.20)),
        ),
    ),
    "last output decides": Expected(
        115,
        48.174,
        12838.1,
        (
            (1, 0.7895, (0.00, 0.00, 64.00, 1.80)),
            (1, 0.7538, (0.00, 39.28, 22.04, 43.43)),
            (1, 0.7491, (8.60, 15.16, 64.00, 19.87)),
            (1, 0.6416, (11.91, 6.89, 50.99, 10.90)),
        ),
    ),
    "gray": Expected(
        58,
        28.451,
        6434.7,
        (
            (0, 0.5637, (15.40, 33.03, 26.23, 48.00)),
            (0, 0.5634, (27.40, 13.06, 38.23, 37.84)),
            (0, 0.5628, (35.40, 1.09, 46.24, 25.82)),
            (0, 0.5614, (19.34, 24.96, 30.28, 48.00)),
        ),
    ),
    "gaussian": Expected(
        61,
        21.204,
        6608.4,
        (
            (0, 0.4142, (8.63, 14.44, 47.78, 15.84)),
            (0, 0.4013, (0.00, 42.28, 31.84, 43.83)),
            (0, 0.4011, (4.66, 22.27, 43.83, 23.83)),
            (0, 0.3888, (17.36, 2.11, 55.22, 3.86)),
        ),
    ),
    "region that does not divide": Expected(
        42,
        28.345,
        4899.1,
        (
            (0, 0.7347, (0.00, 46.90, 10.23, 70.00)),
            (0, 0.7093, (3.36, 54.67, 15.64, 70.00)),
            (0, 0.7089, (11.71, 31.38, 23.96, 52.55)),
            (0, 0.7088, (15.60, 0.00, 35.93, 28.19)),
        ),
    ),
    "yolo that does not divide": Expected(
        54,
        22.129,
        6535.6,
        (
            (0, 0.4903, (7.54, 10.71, 18.01, 24.29)),
            (0, 0.4903, (38.30, 34.04, 48.78, 47.63)),
            (0, 0.4681, (28.58, 10.89, 42.47, 31.64)),
            (0, 0.4677, (5.49, 49.75, 19.41, 70.00)),
        ),
    ),
    "sections": Expected(
        155,
        52.635,
        17729.3,
        (
            (0, 0.3697, (52.37, 0.00, 64.00, 13.47)),
            (0, 0.3686, (52.26, 20.73, 64.00, 37.28)),
            (0, 0.3685, (52.24, 28.74, 64.00, 45.26)),
            (0, 0.3680, (52.15, 4.83, 64.00, 21.12)),
        ),
    ),
    "diounms letterboxed": Expected(
        115,
        45.824,
        16980.1,
        (
            (0, 0.4766, (48.53, 15.14, 67.47, 40.97)),
            (0, 0.4755, (4.74, 8.88, 23.76, 34.74)),
            (0, 0.4754, (41.75, 0.00, 61.55, 17.03)),
            (0, 0.4698, (79.15, 32.95, 99.19, 50.00)),
        ),
    ),
    "plain letterboxed": Expected(
        49,
        20.231,
        6992.1,
        (
            (0, 0.4766, (48.53, 15.14, 67.47, 40.97)),
            (0, 0.4755, (4.74, 8.88, 23.76, 34.74)),
            (0, 0.4754, (41.75, 0.00, 61.55, 17.03)),
            (0, 0.4698, (79.15, 32.95, 99.19, 50.00)),
        ),
    ),
}
