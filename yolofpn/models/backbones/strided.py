"""A minimal backbone for tests and small studies: one convolution of stride 2 per level."""

from __future__ import annotations

from torch import Tensor, nn

from yolofpn.models.backbones.base import Backbone
from yolofpn.models.layers import ConvBNAct
from yolofpn.structures import FeatureInfo


class StridedBackbone(Backbone):
    """One 3x3 convolution of stride 2 per block, each twice as wide as the one before: feature maps c2 .. c5.

    Args:
        width: channels of the first block; c5 has 16 times as many.
        norm_eps: epsilon of batch norm.
        top_level: the blocks after c<top_level> are omitted.

    Attributes:
        feature_info: channels and stride of c2, c3 ... c<top_level>.
    """

    conv5 = "blocks.4"

    def __init__(self, width: int = 64, norm_eps: float = 1e-5, top_level: int = 5) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        in_channels = 3
        for level in range(1, top_level + 1):
            out_channels = width * 2 ** (level - 1)
            self.blocks.append(ConvBNAct(in_channels, out_channels, 3, stride=2, norm_eps=norm_eps))
            in_channels = out_channels
        self.feature_info = {f"c{k}": FeatureInfo(width * 2 ** (k - 1), 2**k) for k in range(2, top_level + 1)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> {"c2": [B, 2 * width, H/4, W/4], ... "c5": [B, 16 * width, H/32, W/32]}."""
        features: dict[str, Tensor] = {}
        for level, block in enumerate(self.blocks, start=1):
            x = block(x)
            if level >= 2:
                features[f"c{level}"] = x
        return features
