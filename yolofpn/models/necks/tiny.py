"""YOLOv3-tiny's neck of single 1x1 convolutions, as in yolov3-tiny.cfg, so that its published weights load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, cat, nn

from yolofpn.models.layers import ConvBNAct, upsample_to
from yolofpn.structures import FeatureInfo


class TinyFPN(nn.Module):
    """YOLOv3-tiny's fusion: c5 reduced once; finer levels get it reduced again, upsampled, beside their own map.

    Args:
        feature_info: channels and stride of each level of the backbone.
        levels: the feature maps that come out, in ascending order, without a gap, up to 5.
        channels: of each level's 1x1 convolution, the finest level first, or those of p5; each finer level then has
            half of the channels of the level above.
        norm_eps: epsilon of batch norm.
        upsample: 'nearest' or 'bilinear'.

    Attributes:
        feature_info: of the pyramid; a finer level has its backbone map's channels beside those of its convolution.
    """

    def __init__(
        self,
        feature_info: Mapping[str, FeatureInfo],
        levels: Sequence[int] = (4, 5),
        channels: int | Sequence[int] = 256,
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
        for position, k in reversed(list(enumerate(levels))):
            if not isinstance(channels, int):
                width = channels[position]
            elif k == 5:
                width = channels
            else:
                width = above // 2
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
