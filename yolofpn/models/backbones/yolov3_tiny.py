"""YOLOv3-tiny's own parts: a backbone of convolutions and max-pooling, and a neck of single 1x1 convolutions.

Both are those of yolov3-tiny.cfg, layer by layer, so that its published weights load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, cat, nn

from yolofpn.models.layers import ConvBNAct, upsample_to
from yolofpn.structures import FeatureInfo

_CHANNELS = (16, 32, 64, 128, 256, 512)  # behind each stage; c5 has a second convolution of twice as many


class TinyDarknet(nn.Module):
    """Seven 3x3 convolutions with max-pooling in between; the last pooling has stride 1 and keeps the size.

    Args:
        norm_eps: of batch norm.
        top_level: the stages after c<top_level> are left out.
        top_channels: of the last convolution; 1024 in yolov3-tiny.cfg.

    Attributes:
        feature_info: channels and stride of c2, c3 ... c<top_level>; 64, 128, 256 and 1024 channels.
    """

    conv5 = "stages.5"

    def __init__(self, norm_eps: float = 1e-5, top_level: int = 5, top_channels: int = 1024) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.feature_info: dict[str, FeatureInfo] = {}
        in_channels = 3
        for level, width in enumerate(_CHANNELS[: top_level + 1]):
            stage = nn.Sequential(nn.MaxPool2d(2, 2)) if level else nn.Sequential()
            stage.append(ConvBNAct(in_channels, width, 3, norm_eps=norm_eps))
            if level == 5:
                stage.extend([PoolInPlace(), ConvBNAct(width, top_channels, 3, norm_eps=norm_eps)])
                width = top_channels
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
    """Darknet's max-pooling of size 2 and stride 1: each cell and its neighbours to the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, 1)


class TinyFPN(nn.Module):
    """YOLOv3-tiny's fusion: c5 reduced once; finer levels get it reduced again, upsampled, beside their own map.

    Args:
        feature_info: of the backbone.
        levels: the maps that come out, in ascending order, without a gap, up to 5.
        channels: of p5.
        norm_eps: of batch norm.
        upsample: 'nearest' or 'bilinear'.

    Attributes:
        feature_info: of the pyramid; a finer level has half of the channels of the level above and its backbone's own.
    """

    def __init__(
        self,
        feature_info: Mapping[str, FeatureInfo],
        levels: Sequence[int] = (4, 5),
        channels: int = 256,
        *,
        norm_eps: float = 1e-5,
        upsample: str = "nearest",
    ) -> None:
        super().__init__()
        if tuple(levels) != tuple(range(levels[0], 6)):
            raise ValueError(f"levels {list(levels)}: a neck of type tiny builds consecutive levels up to 5")
        self.levels = self.built_levels = tuple(levels)
        self.top_down = True
        self.upsample = upsample
        infos: dict[str, FeatureInfo] = {}
        above = feature_info["c5"].channels
        for k in reversed(levels):
            width = channels if k == 5 else above // 2
            self.add_module(f"p{k}", ConvBNAct(above, width, 1, norm_eps=norm_eps))
            above = width if k == 5 else width + feature_info[f"c{k}"].channels
            infos[f"p{k}"] = FeatureInfo(above, 2**k)
        self.feature_info = {f"p{k}": infos[f"p{k}"] for k in levels}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"c4": [B, C4, H/16, W/16], "c5": ...} -> {"p4": [B, P4, H/16, W/16], "p5": ...}, the finest level first."""
        pyramid: dict[str, Tensor] = {}
        above = features["c5"]
        for k in reversed(self.levels):
            reduced = self.get_submodule(f"p{k}")(above)
            if k < 5:
                lateral = features[f"c{k}"]
                reduced = cat([upsample_to(reduced, lateral, self.upsample), lateral], dim=1)
            pyramid[f"p{k}"] = above = reduced
        return {f"p{k}": pyramid[f"p{k}"] for k in self.levels}
