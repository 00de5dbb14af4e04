"""Models small enough to be built and trained within a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from yolofpn.config import InputConfig, ModelConfig, PostprocessConfig
from yolofpn.models.build import build_yolo
from yolofpn.models.yolo import YOLO

ANCHORS = {2: (8, 9), 3: (16, 18), 4: (30, 26), 5: (60, 70)}
BACKBONE: dict[str, object] = {"type": "darknet", "width": 0.125, "depth": 0.1}


def small_config(
    neck: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    backbone: Mapping[str, Any] | None = None,
) -> ModelConfig:
    """Two anchors per level: one of a square's shape and one twice as wide."""
    neck = {"type": "concat", "levels": (3, 4, 5), **(neck or {})}
    anchors = [[ANCHORS[level], (2 * ANCHORS[level][0], ANCHORS[level][1])] for level in neck["levels"]]
    head = {"type": "yolo", "anchors": anchors, **(head or {})}
    return ModelConfig.model_validate({"backbone": backbone or BACKBONE, "neck": neck, "head": head})


def small_model(config: ModelConfig, num_classes: int = 2, *, seed: int = 0) -> YOLO:
    torch.manual_seed(seed)
    return build_yolo(config, num_classes, InputConfig(), PostprocessConfig())
