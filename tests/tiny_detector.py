"""A detector whose answers can be worked out by hand: it looks at one pixel of every 32 x 32 cell.

A cell whose top left pixel is red or green (not gray, white, black or blue) is an object of that class, and its box
is the cell. With intensity i in 0..1 the score is sigmoid(20 i - 10) ** 2: .9999 for 1.0, .776 for 0.6.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from yolofpn.darknet.cfg import parse_cfg
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import write_layers
from yolofpn.structures import Image

RED, GREEN, BLACK = (0, 0, 255), (0, 255, 0), (0, 0, 0)  # BGR
NAMES = ("red", "potted plant")
CFG = """[net]
width=64
height=64
letter_box=0
[convolutional]
filters=7
size=1
stride=32
activation=linear
[yolo]
anchors=32,32
num=1
mask=0
classes=2
"""


def write_tiny(folder: Path, stem: str = "tiny") -> Path:
    """The weights file, with its cfg and names beside it."""
    network = DarknetNetwork(parse_cfg(CFG, "tiny.cfg"))
    convolution = network.weight_layers()[0].conv
    assert convolution.bias is not None
    # Rows: x, y, width, height, objectness, red, green; columns: the pixel's red, green, blue.
    kernel = torch.zeros(7, 3)
    kernel[4] = torch.tensor([20.0, 20.0, -40.0])
    kernel[5, 0] = kernel[6, 1] = 20.0
    convolution.weight.copy_(kernel[:, :, None, None])
    convolution.bias.copy_(torch.tensor([0.0, 0, 0, 0, -10, -10, -10]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.cfg").write_text(CFG)
    (folder / f"{stem}.names").write_text("".join(f"{name}\n" for name in NAMES))
    write_layers(folder / f"{stem}.weights", network.weight_layers())
    return folder / f"{stem}.weights"


def quarters(*colours: tuple[int, int, int], height: int = 128, width: int = 192) -> Image:
    """An image whose top left, top right, bottom left, bottom right quarters have these colours; the rest is black."""
    image = np.zeros((height, width, 3), np.uint8)
    for index, colour in enumerate(colours):
        row, column = divmod(index, 2)
        rows = slice(row * height // 2, (row + 1) * height // 2)
        image[rows, column * width // 2 : (column + 1) * width // 2] = colour
    return image
