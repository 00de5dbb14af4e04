"""A small data set and a small model on disk, for runs of seconds."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from yolofpn.config import Config
from yolofpn.yaml_text import parse_yaml

SIDE = 64

CFG = """
model:
  backbone: {type: strided, width: 8}
  neck: {type: add, levels: [4, 5], channels: 24}
  head:
    type: yolo
    anchors: [[[16, 16], [24, 24]], [[32, 32], [48, 48]]]
input: {size: [64, 64], resize: letterbox}
augment: {close_epochs: 1}
train:
  epochs: 2
  batch_size: 2
  nominal_batch_size: 4
  optimizer: {type: sgd, lr: 0.02}
  warmup_steps: 3
  ema_decay: 0.9
  ema_steps: 5
  precision: fp32
  workers: 0
"""


def write_images(folder: Path, count: int = 12, seed: int = 0) -> Path:
    """A YOLO data set of ``count`` training and 5 validation images: bright and dark squares on gray noise."""
    rng = np.random.default_rng(seed)
    for split, number in (("train", count), ("val", 5)):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for index in range(number):
            image = rng.integers(100, 140, (SIDE, SIDE, 3), dtype=np.uint8)
            lines = []
            for label, shade in ((0, 250), (1, 5)):
                side = int(rng.integers(16, 30))
                x, y = (int(rng.integers(0, SIDE - side)) for _ in range(2))
                image[y : y + side, x : x + side] = shade
                centre = [(x + side / 2) / SIDE, (y + side / 2) / SIDE]
                lines.append(f"{label} {centre[0]} {centre[1]} {side / SIDE} {side / SIDE}")
            cv2.imwrite(str(images / f"{split}{index}.png"), image)
            (labels / f"{split}{index}.txt").write_text("\n".join(lines) + "\n")
    data = folder / "data.yaml"
    data.write_text(
        "format: yolo\nsplits:\n  train: {images: images/train}\n  val: {images: images/val}\nnames: [bright, dark]\n"
    )
    return data


def make_dark_rare(data: Path) -> None:
    """Leave the second class of ``write_images`` in the first training image alone."""
    for path in (data / "labels" / "train").iterdir():
        if path.stem != "train0":
            path.write_text(path.read_text().splitlines()[0] + "\n")


def write_cfg(folder: Path, text: str = CFG) -> Path:
    """The small model's YAML file."""
    path = folder / "small.yaml"
    path.write_text(text)
    return path


@cache
def small_config() -> Config:
    """What that file says."""
    return Config.model_validate(parse_yaml(CFG))
