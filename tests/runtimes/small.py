"""A small one-stage detector with numbers of its own, and images for it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from yolofpn.config import Metadata, load_config
from yolofpn.models.build import build_model
from yolofpn.models.yolo import YOLO

CONFIGS = Path(__file__).parents[2] / "cfg"
NAMES = ("cat", "dog", "bird")


def small_detector(seed: int = 0) -> tuple[YOLO, Metadata]:
    """Its batch norms do something, it finds a dozen or more objects in every image, and float16 holds its weights."""
    torch.manual_seed(seed)
    config = load_config(
        CONFIGS / "yolofpn-tiny.yaml", ["model.backbone.width=0.0625", "model.backbone.depth=0.1", "input.size=[64,96]"]
    )
    model = build_model(config.model, len(NAMES), config.input, config.postprocess).eval()
    assert isinstance(model, YOLO)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.2, 0.2)
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.weight, std=0.1)
            nn.init.zeros_(module.bias)
            module.bias.data.view(-1, 5 + len(NAMES))[:, 4] = -1.0
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model, Metadata(model=config.model, input=config.input, names=NAMES, category_ids=(5, 6, 7))


def random_images(batch: int = 2, height: int = 64, width: int = 96, seed: int = 0) -> torch.Tensor:
    """uint8 [B, 3, H, W] of large spots."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 4, 6, generator=generator) * 255
    return nn.functional.interpolate(coarse, size=(height, width), mode="bilinear").to(torch.uint8)
