"""YOLOv3-tiny's backbone: convolutions and max-pooling.

It is that of yolov3-tiny.cfg, layer by layer, so that its published weights load.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.models.backbones.base import Backbone
from yolofpn.models.layers import ConvBNAct, conv_bn_act
from yolofpn.structures import FeatureInfo

_CHANNELS = (16, 32, 64, 128, 256, 512)  # behind each stage; c5 has a second convolution of twice as many


class TinyDarknet(Backbone):
    """Seven 3x3 convolutions with max-pooling in between; the last pooling has stride 1 and keeps the size.

    Args:
        norm_eps: epsilon of batch norm.
        top_level: the stages after c<top_level> are omitted.
        rank: rank of the last convolution's kernel (see ``LowRankConvBNAct``); None: full rank.

    Attributes:
        feature_info: channels and stride of c2, c3 ... c<top_level>; 64, 128, 256 and 1024 channels.
    """

    conv5 = "stages.5"

    def __init__(self, norm_eps: float = 1e-5, top_level: int = 5, rank: int | None = None) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.feature_info: dict[str, FeatureInfo] = {}
        in_channels = 3
        for level, width in enumerate(_CHANNELS[: top_level + 1]):
            stage = nn.Sequential(nn.MaxPool2d(2, 2)) if level else nn.Sequential()
            stage.append(ConvBNAct(in_channels, width, 3, norm_eps=norm_eps))
            if level == 5:
                stage.extend([PoolInPlace(), conv_bn_act(width, 2 * width, 3, norm_eps, rank)])
                width *= 2
            self.stages.append(stage)
            in_channels = width
            if level >= 2:
                self.feature_info[f"c{level}"] = FeatureInfo(width, 2**level)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> {"c2": [B, 64, H/4, W/4], ... "c5": [B, 1024, H/32, W/32]}."""
        features: dict[str, Tensor] = {}
        for level, stage in enumerate(self.stages):
            x = stage(x)
            if level >= 2:
                features[f"c{level}"] = x
        return features


class PoolInPlace(nn.Module):
    """Darknet's max-pooling of size 2 and stride 1, which pads at the right and bottom to keep the size."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, 1)
