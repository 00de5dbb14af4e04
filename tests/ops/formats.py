"""Boxes for tests, whose sides are easier to draw at random than their corners."""

from __future__ import annotations

import torch
from torch import Tensor


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """[..., 4] left, top, width, height -> [..., 4] corners."""
    return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], dim=-1)
