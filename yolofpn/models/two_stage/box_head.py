"""The network of the second stage: class scores and box deltas of each region."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TwoFCBody(nn.Module):
    """Two fully connected layers, in place of conv5 (arXiv 1612.03144, section 4.2).

    Args:
        in_channels: channels of a pooled feature map.
        size: its height and width.
        width: output features of each layer.
    """

    def __init__(self, in_channels: int, size: int, width: int = 1024) -> None:
        super().__init__()
        self.fc6 = nn.Linear(in_channels * size * size, width)
        self.fc7 = nn.Linear(width, width)
        self.out_features = width

    def forward(self, pooled: Tensor) -> Tensor:
        """[R, C, size, size] -> [R, width]."""
        return F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1)))))


class BoxHead(nn.Module):
    """Predicts class logits, with background as class 0, and class-specific boxes (arXiv 1504.08083, section 2.1).

    Args:
        body: pooled maps [R, C, size, size] -> features [R, in_features].
        in_features: of the body's output.
        outputs: K = 1 + C for background and classes, or more; further outputs are never detected.
    """

    def __init__(self, body: nn.Module, in_features: int, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.classes = nn.Linear(in_features, outputs)
        self.deltas = nn.Linear(in_features, 4 * outputs)
        for layer, std in ((self.classes, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """[R, C, size, size] -> class logits [R, K] and deltas [R, K, 4], both float32."""
        # Low precision is kept up to here, whichever backend computed the feature maps.
        low = pooled.dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(pooled.device.type, pooled.dtype) if low else nullcontext():
            features = self.body(pooled)
            classes, deltas = self.classes(features), self.deltas(features)
        return classes.float(), deltas.float().unflatten(1, (-1, 4))
