"""What the sections of a cfg compute; every module takes the maps [B, C, H, W] that its section names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.darknet import sections
from yolofpn.darknet.norms import build_norm1d, build_norm2d
from yolofpn.darknet.plan import PlannedLayer
from yolofpn.darknet.sections import Activation
from yolofpn.darknet.weights import NormEps, WeightLayer


def build_layer(planned: PlannedLayer, norm_eps: NormEps) -> nn.Module:
    """The module of one section; outputs ([yolo], [region]) pass their raw map on."""
    match planned.cfg.section:
        case sections.Convolutional() as conv:
            return Convolution(planned.in_shape.channels, conv, norm_eps)
        case sections.Connected() as connected:
            return FullyConnected(planned.in_shape.numbers, connected, norm_eps)
        case sections.Shortcut(activation=activation):
            return Shortcut(activation)
        case sections.Route(groups=groups, group_id=group_id):
            return Route(groups, group_id)
        case sections.ScaleChannels(activation=activation):
            return ScaleChannels(activation)
        case sections.Upsample(stride=stride):
            return nn.Upsample(scale_factor=stride, mode="nearest")
        case sections.MaxPool(size=size, stride=stride, padding=padding):
            return MaxPool(size, stride, padding)
        case sections.AvgPool():
            return nn.AdaptiveAvgPool2d(1)
        case sections.Reorg(stride=stride):
            return Reorg(stride)
        case sections.Softmax():
            return nn.Softmax(dim=1)
        case sections.Identity() | sections.Yolo() | sections.Region():
            return nn.Identity()


def build_activation(name: Activation) -> nn.Module:
    """Darknet's activation ``name``; its leaky one has slope 0.1."""
    match name:
        case "linear":
            return nn.Identity()
        case "leaky":
            return nn.LeakyReLU(0.1, inplace=True)
        case "relu":
            return nn.ReLU(inplace=True)
        case "relu6":
            return nn.ReLU6(inplace=True)
        case "logistic":
            return nn.Sigmoid()
        case "mish":
            return nn.Mish(inplace=True)
        case "swish":
            return nn.SiLU(inplace=True)


class Convolution(nn.Module):
    """Convolution, batch norm if asked for (else a bias), activation."""

    def __init__(self, in_channels: int, section: sections.Convolutional, norm_eps: NormEps) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            section.filters,
            section.size,
            section.stride,
            section.padding,
            groups=section.groups,
            bias=not section.batch_normalize,
        )
        self.norm = build_norm2d(section.filters, norm_eps) if section.batch_normalize else None
        self.act = build_activation(section.activation)

    @property
    def weight_layer(self) -> WeightLayer:
        """What a weights file holds of it."""
        return WeightLayer(self.conv, self.norm)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, filters, H', W']."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        out: Tensor = self.act(x)
        return out


class FullyConnected(nn.Module):
    """A linear layer over the whole map, batch norm if asked for, activation."""

    def __init__(self, in_features: int, section: sections.Connected, norm_eps: NormEps) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, section.output, bias=not section.batch_normalize)
        self.norm = build_norm1d(section.output, norm_eps) if section.batch_normalize else None
        self.act = build_activation(section.activation)

    @property
    def weight_layer(self) -> WeightLayer:
        """What a weights file holds of it."""
        return WeightLayer(self.linear, self.norm)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, output, 1, 1]."""
        x = self.linear(x.flatten(1))
        if self.norm is not None:
            x = self.norm(x)
        out: Tensor = self.act(x)
        return out[:, :, None, None]


class Shortcut(nn.Module):
    """Adds maps to the first one, which gives the size.

    Of a larger map every n-th pixel is taken. Channels that only one of the two has stay as they are in the first.
    """

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.act = build_activation(activation)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """[B, C, H, W] and any number of [B, C', n * H, n * W] -> [B, C, H, W]."""
        for other in others:
            step = other.shape[-1] // x.shape[-1]
            other = other[:, :, ::step, ::step]
            common = min(x.shape[1], other.shape[1])
            total = x[:, :common] + other[:, :common]
            x = total if common == x.shape[1] else torch.cat([total, x[:, common:]], dim=1)
        out: Tensor = self.act(x)
        return out


class Route(nn.Module):
    """Concatenates maps, or one of ``groups`` equal parts of each."""

    def __init__(self, groups: int, group_id: int) -> None:
        super().__init__()
        self.groups = groups
        self.group_id = group_id

    def forward(self, *maps: Tensor) -> Tensor:
        """Any number of [B, C_i, H, W] -> [B, sum of C_i / groups, H, W]."""
        parts = [x.chunk(self.groups, dim=1)[self.group_id] for x in maps]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class ScaleChannels(nn.Module):
    """Multiplies every channel by its own number (squeeze and excitation, arXiv 1709.01507)."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.act = build_activation(activation)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        """[B, C, H, W] and [B, C, 1, 1] -> [B, C, H, W]."""
        out: Tensor = self.act(x * scale)
        return out


class MaxPool(nn.Module):
    """Max-pooling whose ``padding`` is the sum of both sides; where it is odd, the far side gets one more."""

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.size = size
        self.stride = stride
        self.padding = padding
        self.before = padding // 2
        self.pool = nn.MaxPool2d(size, stride, 0 if padding % 2 else self.before)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, (H + padding - size) / stride + 1, ...], rounded down."""
        if self.padding % 2:
            bottom, right = (self._reach_beyond(length) for length in x.shape[-2:])
            if self.before or bottom or right:
                # A window that reaches beyond the edge holds the edge's own pixel: repeating it changes no maximum.
                x = F.pad(x, (self.before, right, self.before, bottom), mode="replicate")
        out: Tensor = self.pool(x)
        return out

    def _reach_beyond(self, length: int) -> int:
        windows = (length + self.padding - self.size) // self.stride + 1
        return max(0, (windows - 1) * self.stride + self.size - self.before - length)


class Reorg(nn.Module):
    """Darknet's [reorg]: stride x stride pixels go into channels.

    Darknet reads the map, whatever its shape, as if it were [C / s^2, H * s, W * s], moves the pixels of every s x s
    block of that into channels, and takes the result as [C * s^2, H / s, W / s]. Weights were trained with this order.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C * s^2, H / s, W / s]."""
        batch, channels, height, width = x.shape
        s = self.stride
        blocks = x.reshape(batch, channels // s**2, height, s, width, s)
        moved = blocks.permute(0, 3, 5, 1, 2, 4)  # (B, s, s, C / s^2, H, W)
        return moved.reshape(batch, channels * s**2, height // s, width // s)
