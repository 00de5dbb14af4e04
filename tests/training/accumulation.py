"""Batches and two-stage models to accumulate gradients with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from yolofpn.config import Config, ModelConfig
from yolofpn.data.loader import Batch
from yolofpn.models.build import build_model
from yolofpn.structures import Target
from yolofpn.training.optim import keep_norm_statistics

ANCHORS = {"anchors": {"sizes": [[16], [32], [64]]}, "rpn": {"batch_size_per_img": 300}}
HEADS: dict[str, dict[str, Any]] = {"rcnn": ANCHORS | {"roi": {"width": 16}}, "rpn": ANCHORS}


def objects(*counts: int) -> Batch:
    """One image of noise for each of ``counts``, with so many boxes."""
    generator = torch.Generator().manual_seed(sum(counts))
    images = torch.randint(0, 256, (len(counts), 3, 64, 64), dtype=torch.uint8, generator=generator)
    targets = []
    for count in counts:
        corners = 8.0 * torch.arange(count)[:, None]
        boxes = torch.cat([corners, corners, corners + 20, corners + 16], dim=1)
        targets.append(Target(boxes, torch.arange(count) % 2, torch.zeros(count, dtype=torch.bool), boxes[:, 0]))
    return Batch(images, targets, [(0,)] * len(counts))


def images_of(batch: Batch, start: int, end: int) -> Batch:
    return Batch(batch.images[start:end], batch.targets[start:end], batch.indices[start:end])


def uneven_batch() -> Batch:
    """Four images; the second one has little background, as an ignore region nearly covers it."""
    batch = objects(1, 4, 0, 2)
    covered = torch.tensor([[0.0, 0.0, 64.0, 60.0]])
    boxes, labels = torch.cat([batch.targets[1].boxes, covered]), torch.zeros(5, dtype=torch.int64)
    target = Target(boxes, labels, torch.tensor([False] * 4 + [True]), boxes[:, 0])
    return Batch(batch.images, [batch.targets[0], target, *batch.targets[2:]], batch.indices)


def draw_first(indices: Tensor, count: int) -> Tensor:
    """In place of a random sample: the same in a batch as alone."""
    return indices[:count]


def small_two_stage(head: str, config: Config) -> nn.Module:
    torch.manual_seed(0)
    section = {"type": head, "channels": 16, **HEADS[head]}
    neck = {"type": "add", "levels": [3, 4], "channels": 16}
    tree = {"backbone": config.model.backbone.model_dump(), "neck": neck, "head": section}
    model = build_model(ModelConfig.model_validate(tree), 2, config.input, config.postprocess)
    keep_norm_statistics(model, everywhere=True)
    return model
