"""The Darknet backbones: feature maps c2 .. c5, where c<k> has stride 2 ** k."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from yolofpn.models.backbones.base import Backbone
from yolofpn.models.layers import ConvBNAct, conv_bn_act, rank_of
from yolofpn.structures import FeatureInfo

DARKNET53_DEPTHS = (1, 2, 8, 8, 4)
DARKNET53_CHANNELS = (64, 128, 256, 512, 1024)


class ResidualBlock(nn.Module):
    """A residual block: a 1x1 convolution to half of the channels, a 3x3 convolution back, and a skip connection."""

    row_type = "Residual"

    def __init__(self, channels: int, norm_eps: float, rank: float | None = None) -> None:
        super().__init__()
        self.conv1 = ConvBNAct(channels, channels // 2, 1, norm_eps=norm_eps)
        self.conv2 = conv_bn_act(channels // 2, channels, 3, norm_eps, rank_of(channels // 2, rank))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> the same shape."""
        out: Tensor = x + self.conv2(self.conv1(x))
        return out


class Darknet(Backbone):
    """Stages of one stride-2 convolution and residual blocks (YOLOv3, table 1; arXiv 1804.02767).

    Args:
        depths: residual blocks of each stage.
        channels: output channels of each stage.
        norm_eps: epsilon of batch norm.
        stem_stride: 1 is the paper's; with 2 the stem halves the image itself and takes the place of the first
            stage, which has the largest feature maps.
        rank: of the 3x3 kernels in the residual blocks of c4 and c5, as a share of their input channels (see
            ``LowRankConvBNAct``); by default any. The finer maps have few channels, but most of the memory traffic.

    Attributes:
        feature_info: channels and stride of c2, c3 ... up to the last stage, which is c5 where there are five.
    """

    conv5 = "stages.4"

    def __init__(
        self,
        depths: Sequence[int],
        channels: Sequence[int],
        norm_eps: float = 1e-5,
        stem_stride: int = 1,
        rank: float | None = None,
    ) -> None:
        super().__init__()
        in_channels = channels[0] // 2 if stem_stride == 1 else channels[0]
        self.stem = ConvBNAct(3, in_channels, 3, stride=stem_stride, norm_eps=norm_eps)
        self.stages = nn.ModuleList()
        for stage, (depth, out_channels) in enumerate(zip(depths, channels, strict=True), start=1):
            if stage == 1 and stem_stride == 2:
                self.stages.append(nn.Identity())
                continue
            downsample = ConvBNAct(in_channels, out_channels, 3, stride=2, norm_eps=norm_eps)
            block_rank = rank if stage >= 4 else None
            blocks = (ResidualBlock(out_channels, norm_eps, block_rank) for _ in range(depth))
            self.stages.append(nn.Sequential(downsample, *blocks))
            in_channels = out_channels
        self.feature_info = {f"c{k}": FeatureInfo(channels[k - 1], 2**k) for k in range(2, len(channels) + 1)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> {"c2": [B, C2, H/4, W/4], ... "c5": [B, C5, H/32, W/32]}."""
        x = self.stem(x)
        features: dict[str, Tensor] = {}
        for level, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if level >= 2:
                features[f"c{level}"] = x
        return features


def darknet53(norm_eps: float = 1e-5, top_level: int = 5) -> Darknet:
    """Build Darknet-53: 52 convolutions in five stages of 1, 2, 8, 8 and 4 residual blocks, up to ``top_level``."""
    return Darknet(DARKNET53_DEPTHS[:top_level], DARKNET53_CHANNELS[:top_level], norm_eps)


def scaled_darknet(
    width: float,
    depth: float,
    norm_eps: float = 1e-5,
    top_level: int = 5,
    stem_stride: int = 1,
    rank: float | None = None,
) -> Darknet:
    """Build Darknet-53 with ``width`` times the channels (multiples of 8) and ``depth`` times the blocks."""
    depths = [max(1, round(blocks * depth)) for blocks in DARKNET53_DEPTHS]
    channels = [max(16, round(count * width / 8) * 8) for count in DARKNET53_CHANNELS]
    return Darknet(depths[:top_level], channels[:top_level], norm_eps, stem_stride, rank)


class Darknet19(Backbone):
    """YOLOv2's backbone: max-pooling, no skip connections (arXiv 1612.08242, table 6).

    Args:
        norm_eps: epsilon of batch norm.
        top_level: the stages after c<top_level> are omitted.

    Attributes:
        feature_info: channels and stride of c2, c3 ... c<top_level>.
    """

    conv5 = "stages.5"

    def __init__(self, norm_eps: float = 1e-5, top_level: int = 5) -> None:
        super().__init__()
        plan = ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512), (1024, 512, 1024, 512, 1024))
        self.stages = nn.ModuleList()
        in_channels = 3
        for widths in plan[: top_level + 1]:
            stage = nn.Sequential()
            for index, out_channels in enumerate(widths):
                # 3x3 convolutions, and 1x1 in between that halve the channels.
                stage.append(ConvBNAct(in_channels, out_channels, 3 if index % 2 == 0 else 1, norm_eps=norm_eps))
                in_channels = out_channels
            self.stages.append(stage)
        self.pool = nn.MaxPool2d(2, 2)
        self.feature_info = {f"c{k}": FeatureInfo(plan[k][-1], 2**k) for k in range(2, top_level + 1)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> {"c2": [B, 128, H/4, W/4], ... "c5": [B, 1024, H/32, W/32]}."""
        features: dict[str, Tensor] = {}
        for level, stage in enumerate(self.stages):
            x = stage(x) if level == 0 else stage(self.pool(x))
            if level >= 2:
                features[f"c{level}"] = x
        return features

    def before_conv5(self) -> nn.Module:
        """Return the max-pooling, as the stages have stride 1."""
        return self.pool


class DarknetClassifier(nn.Module):
    """A Darknet backbone as an ImageNet classifier: global average pool, connected layer, softmax.

    Darknet-19 has its last 1x1 convolution before the pooling. As both are linear, their order does not matter.
    """

    def __init__(self, backbone: Darknet | Darknet19, num_classes: int = 1000) -> None:
        super().__init__()
        self.backbone = backbone
        self.connected = nn.Linear(backbone.feature_info["c5"].channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] RGB -> probabilities [B, num_classes] that sum to 1."""
        features = self.backbone(images.float() / 255)["c5"]
        logits: Tensor = self.connected(features.mean(dim=(2, 3)))
        return logits.softmax(dim=1)
