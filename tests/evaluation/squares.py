"""Images of coloured squares and a network that finds them, so that every result can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from yolofpn.config import InputConfig, Metadata, PostprocessConfig
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import write_layers
from yolofpn.types import ResizeMode
from yolofpn.weights import build_detector, save_weights

SIDE, CELL = 64, 8
CFG = """[net]
width=64
height=64
[convolutional]
filters=7
size=8
stride=8
pad=0
activation=linear
[yolo]
anchors=8,8
num=1
mask=0
classes=2
"""
CHANNELS = {"red": 2, "blue": 0}  # in BGR


@dataclass(frozen=True)
class Square:
    """One cell of 8 x 8 pixels; its score grows with its brightness: 1.0 gives .98, 0.9 .92, 0.8 .69."""

    colour: str
    row: int
    column: int
    brightness: float = 1.0
    painted: bool = True
    labelled: bool = True


def square_finder() -> DarknetNetwork:
    """Objectness is the sigmoid of 16 (red + blue) - 12, the classes red and blue are those of 20 times their lead."""
    detector = build_detector(metadata_of_finder(), "finder")
    assert isinstance(detector, DarknetNetwork)
    layer = detector.weight_layers()[0].conv
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.bias[4] = -12
        for channel, (objectness, red, blue) in {0: (16, 20, -20), 2: (16, -20, 20)}.items():
            for output, value in ((4, objectness), (5, red), (6, blue)):
                layer.weight[output, channel] = value / CELL**2
    return detector


def metadata_of_finder(
    names: tuple[str, ...] = ("red", "blue"),
    resize: ResizeMode = "stretch",
    postprocess: PostprocessConfig | None = None,
) -> Metadata:
    return Metadata(
        darknet_cfg=CFG,
        names=names,
        input=InputConfig(size=(SIDE, SIDE), resize=resize),
        postprocess=postprocess or PostprocessConfig(),
    )


def write_finder(path: Path, metadata: Metadata | None = None) -> Path:
    save_weights(path, square_finder().state_dict(), metadata or metadata_of_finder())
    return path


def write_darknet_finder(folder: Path) -> Path:
    (folder / "finder.cfg").write_text(CFG)
    (folder / "finder.names").write_text("red\nblue\n")
    write_layers(folder / "finder.weights", square_finder().weight_layers())
    return folder / "finder.weights"


def write_squares(
    folder: Path,
    scenes: Sequence[Sequence[Square]],
    *,
    categories: Mapping[str, int],
    size: tuple[int, int] = (SIDE, SIDE),
) -> Path:
    """A COCO data set in ``folder``; image i has the id 10 * (i + 1). Gives its YAML."""
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    numbers = {name.lower(): number for name, number in categories.items()}
    for i, squares in enumerate(scenes):
        image = np.zeros((*size, 3), dtype=np.uint8)
        for square in squares:
            top, left = square.row * CELL, square.column * CELL
            if square.painted:
                shade = round(255 * square.brightness)
                image[top : top + CELL, left : left + CELL, CHANNELS[square.colour]] = shade
            if square.labelled:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": 10 * (i + 1),
                        "category_id": numbers[square.colour],
                        "bbox": [left, top, CELL, CELL],
                        "area": CELL**2,
                        "iscrowd": 0,
                    }
                )
        name = f"p{i}.png"
        cv2.imwrite(str(folder / "images" / name), image)
        images.append({"id": 10 * (i + 1), "file_name": name, "height": size[0], "width": size[1]})
    tree = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    (folder / "truth.json").write_text(json.dumps(tree))
    (folder / "data.yaml").write_text("format: coco\nsplits:\n  val: {images: images, annotations: truth.json}\n")
    return folder / "data.yaml"
