"""A small network for five bands of 16 bits, and TIFF images for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from yolofpn.config import Config, Metadata
from yolofpn.models.build import build_yolo
from yolofpn.weights import save_weights

BANDS, SIDE = 5, 64
LOW, HIGH = 1000, 1400  # the range of the values
MODEL = {
    "backbone": {"type": "strided", "width": 8},
    "neck": {"type": "none", "levels": [4, 5]},
    "head": {"type": "yolo", "anchors": [[[16, 16]], [[32, 32]]]},
}


def write_band_weights(folder: Path) -> Path:
    """Random weights."""
    input = {"size": [SIDE, SIDE], "channels": BANDS, "range": [LOW, HIGH]}
    config = Config.model_validate({"model": MODEL, "input": input})
    torch.manual_seed(0)
    model = build_yolo(config.model, 1, config.input, config.postprocess)
    metadata = Metadata(model=config.model, input=config.input, postprocess=config.postprocess, names=("thing",))
    save_weights(folder / "bands.safetensors", model.state_dict(), metadata)
    return folder / "bands.safetensors"


def write_band_images(folder: Path, count: int = 3) -> Path:
    """A YOLO data set of TIFF images of five bands of 16 bits, with one object each, bright in one band."""
    tifffile = pytest.importorskip("tifffile")
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        values = rng.integers(LOW, LOW + 100, (SIDE, SIDE, BANDS), dtype=np.uint16)
        values[20:40, 20:40, 3] += 300
        tifffile.imwrite(folder / "images" / f"{number}.tif", values, photometric="minisblack", planarconfig="contig")
        (folder / "labels" / f"{number}.txt").write_text("0 0.46875 0.46875 0.3125 0.3125\n")
    (folder / "data.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [thing]\n")
    return folder / "data.yaml"
