"""The ResNet backbones (arXiv 1512.03385, table 1): feature maps c2 .. c5, where c<k> has stride 2 ** k.

Modules are named as in torchvision, so that its ImageNet files load; a bottleneck's stride is on its 3x3 convolution,
as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, get_args

import torch
from torch import Tensor, nn

from yolofpn.models.backbones.base import Backbone
from yolofpn.models.backbones.section import NormKind as NormKind
from yolofpn.models.backbones.section import ResNetDepth as ResNetDepth
from yolofpn.models.layers import FrozenBatchNorm2d
from yolofpn.structures import FeatureInfo

RESNET_DEPTHS: tuple[ResNetDepth, ...] = get_args(ResNetDepth)
_BLOCKS: dict[ResNetDepth, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_BOTTLENECKS_FROM = 50
_WIDTHS = (64, 128, 256, 512)  # of the 3x3 convolutions in the four stages
_COUNTER = ".num_batches_tracked"  # which older files do without


Norm: TypeAlias = nn.BatchNorm2d | FrozenBatchNorm2d


def _norm(channels: int, kind: NormKind, eps: float) -> Norm:
    return FrozenBatchNorm2d(channels, eps) if kind == "frozen" else nn.BatchNorm2d(channels, eps=eps)


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (figure 5, left); ``downsample`` fits the shortcut to another shape."""

    expansion = 1
    row_type = "Residual"

    def __init__(self, in_channels: int, width: int, stride: int, norm: NormKind, norm_eps: float) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, width, 3, stride)
        self.bn1 = _norm(width, norm, norm_eps)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = _norm(width, norm, norm_eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width, stride, norm, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, width, H / stride, W / stride]."""
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        out: Tensor = self.relu(residual + (x if self.downsample is None else self.downsample(x)))
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (figure 5, right); comes out four times as wide as the 3x3."""

    expansion = 4
    row_type = "Residual"

    def __init__(self, in_channels: int, width: int, stride: int, norm: NormKind, norm_eps: float) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.conv1 = _conv(in_channels, width, 1)
        self.bn1 = _norm(width, norm, norm_eps)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = _norm(width, norm, norm_eps)
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = _norm(out_channels, norm, norm_eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride, norm, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, 4 * width, H / stride, W / stride]."""
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        out: Tensor = self.relu(residual + (x if self.downsample is None else self.downsample(x)))
        return out


def _shortcut(
    in_channels: int, out_channels: int, stride: int, norm: NormKind, norm_eps: float
) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), _norm(out_channels, norm, norm_eps))


def resnet_stage(depth: ResNetDepth, level: int, norm: NormKind = "live", norm_eps: float = 1e-5) -> nn.Sequential:
    """Build the blocks from c<level - 1> (level 2: from the max-pooling) to c<level>: conv2_x to conv5_x of table 1."""
    block = Bottleneck if depth >= _BOTTLENECKS_FROM else BasicBlock
    width = _WIDTHS[level - 2]
    in_channels, stride = (64, 1) if level == 2 else (_WIDTHS[level - 3] * block.expansion, 2)
    stage = nn.Sequential(block(in_channels, width, stride, norm, norm_eps))
    for _ in range(1, _BLOCKS[depth][level - 2]):
        stage.append(block(width * block.expansion, width, 1, norm, norm_eps))
    return stage


class ResNet(Backbone):
    """A ResNet without its classifier.

    Args:
        depth: 18 and 34 have basic blocks, 50, 101 and 152 bottlenecks.
        norm: 'frozen' keeps the batch norm of pretrained weights fixed, 'live' trains it.
        norm_eps: epsilon of batch norm.
        top_level: the stages after c<top_level> are omitted.

    Attributes:
        feature_info: channels and stride of c2, c3 ... c<top_level>.
    """

    conv5 = "layer4"

    def __init__(self, depth: ResNetDepth, norm: NormKind = "live", norm_eps: float = 1e-5, top_level: int = 5) -> None:
        super().__init__()
        expansion = (Bottleneck if depth >= _BOTTLENECKS_FROM else BasicBlock).expansion
        self.conv1 = _conv(3, 64, 7, 2)
        self.bn1 = _norm(64, norm, norm_eps)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.feature_info: dict[str, FeatureInfo] = {}
        for level in range(2, top_level + 1):
            self.add_module(f"layer{level - 1}", resnet_stage(depth, level, norm, norm_eps))
            self.feature_info[f"c{level}"] = FeatureInfo(_WIDTHS[level - 2] * expansion, 2**level)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> {"c2": [B, C2, H/4, W/4], ... "c5": [B, C5, H/32, W/32]}, sizes rounded up."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features: dict[str, Tensor] = {}
        for level in self.feature_info:
            x = self.get_submodule(f"layer{int(level[1:]) - 1}")(x)
            features[level] = x
        return features


def depth_of(given: Mapping[str, Tensor]) -> ResNetDepth | None:
    """Return the depth of the ResNet with tensors of these names and shapes; None if there is none."""
    for depth in RESNET_DEPTHS:
        with torch.device("meta"):
            own = ResNet(depth).state_dict()
        if _shapes(own) == _shapes(given):
            return depth
    return None


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items() if not name.endswith(_COUNTER)}
