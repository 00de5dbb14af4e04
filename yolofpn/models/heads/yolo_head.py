"""YOLOv3's head: one 3x3 and one 1x1 convolution per pyramid level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from yolofpn.models.layers import conv_bn_act
from yolofpn.structures import FeatureInfo


class YOLOHead(nn.Module):
    """Raw predictions of every level: per anchor x, y, w, h, objectness and one value per class.

    Args:
        feature_info: channels and stride of each level of the neck.
        num_anchors: A, anchors per cell.
        num_classes: C.
        norm_eps: epsilon of batch norm.
        channels: channels of each level's 3x3 convolution; by default twice the neck's.
        ranks: ranks of these convolutions' kernels (see ``LowRankConvBNAct``); None: full rank.
    """

    def __init__(
        self,
        feature_info: Mapping[str, FeatureInfo],
        num_anchors: int,
        num_classes: int,
        norm_eps: float = 1e-5,
        channels: Sequence[int] | None = None,
        ranks: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__()
        widths = channels or [2 * info.channels for info in feature_info.values()]
        ranks = ranks or [None] * len(widths)
        for (name, info), wide, rank in zip(feature_info.items(), widths, ranks, strict=True):
            level = nn.Sequential()
            level.add_module("conv", conv_bn_act(info.channels, wide, 3, norm_eps, rank))
            level.add_module("predict", nn.Conv2d(wide, num_anchors * (5 + num_classes), 1))
            self.add_module(name, level)
        self.num_anchors = num_anchors
        self._start_with_few_objects()

    def forward(self, pyramid: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"p3": [B, P3, H/8, W/8], ...} -> {"p3": [B, A * (5 + C), H/8, W/8], ...}."""
        return {name: self.get_submodule(name)(feature) for name, feature in pyramid.items()}

    def _start_with_few_objects(self, prior: float = 0.01) -> None:
        """Initialise biases so that scores start at ``prior`` (arXiv 1708.02002, section 4.1)."""
        for name in self._modules:
            predict = self.get_submodule(f"{name}.predict")
            assert isinstance(predict, nn.Conv2d) and predict.bias is not None
            nn.init.normal_(predict.weight, std=0.01)
            with torch.no_grad():
                per_anchor = predict.bias.view(self.num_anchors, -1)
                per_anchor[:, :4] = 0
                per_anchor[:, 4:] = -math.log((1 - prior) / prior)
