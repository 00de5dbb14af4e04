"""Modules of the cfg sections; each takes the feature maps [B, C, H, W] of the layers that its section names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.darknet import sections
from yolofpn.darknet.layer_plan import PlannedLayer
from yolofpn.darknet.norms import build_norm1d, build_norm2d
from yolofpn.darknet.sections import Activation, Normalization
from yolofpn.darknet.weights_file import LooseNumbers, NormEps, WeightLayer


def build_layer(planned: PlannedLayer, norm_eps: NormEps) -> nn.Module:
    """Build the module of one section; output layers ([yolo], [region]) return their input."""
    match planned.cfg.section:
        case sections.Convolutional() as conv:
            return Convolution(planned.in_shape.channels, conv, norm_eps)
        case sections.Connected() as connected:
            return FullyConnected(planned.in_shape.numbers, connected, norm_eps)
        case sections.ShortcutSection() as shortcut:
            weights = planned.numbers // (1 + len(shortcut.layers))
            return Shortcut(shortcut.activation, (1 + len(shortcut.layers), weights), shortcut.normalization)
        case sections.Sam(activation=activation):
            return ScaleChannels(activation)
        case sections.BatchNorm():
            return Norm(planned.in_shape.channels, norm_eps)
        case sections.Activate(activation=activation):
            return build_activation(activation)
        case sections.ImplicitSection(filters=filters, atoms=atoms):
            return Implicit(filters, atoms)
        case sections.LocalAvgPoolSection(size=size, stride=stride, padding=padding):
            return LocalAvgPool(size, stride, padding)
        case sections.RouteSection(groups=groups, group_id=group_id):
            return Route(groups, group_id)
        case sections.ScaleChannelsSection(activation=activation):
            return ScaleChannels(activation)
        case sections.Upsample(stride=stride):
            return nn.Upsample(scale_factor=stride, mode="nearest")
        case sections.MaxPoolSection(size=size, stride=stride, padding=padding):
            return MaxPool(size, stride, padding)
        case sections.AvgPool():
            return nn.AdaptiveAvgPool2d(1)
        case sections.ReorgSection(stride=stride, usual=usual):
            return UsualReorg(stride) if usual else Reorg(stride)
        case sections.Softmax():
            return nn.Softmax(dim=1)
        case sections.Identity() | sections.Yolo() | sections.Region():
            return nn.Identity()


def build_activation(name: Activation) -> nn.Module:
    """Return Darknet's activation ``name``; leaky has a negative slope of 0.1."""
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
        case "ramp":
            return Ramp()
        case "tanh":
            return nn.Tanh()
        case "elu":
            return nn.ELU()


class Ramp(nn.Module):
    """max(x, 0) + x / 10."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return x.clamp(min=0) + 0.1 * x


class Convolution(nn.Module):
    """Convolution, batch norm if asked for (else a bias), activation."""

    def __init__(self, in_channels: int, section: sections.Convolutional, norm_eps: NormEps) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            section.filters,
            section.size,
            section.stride,
            section.padding * section.dilation,
            section.dilation,
            groups=section.groups,
            bias=not section.batch_normalize,
        )
        self.norm = build_norm2d(section.filters, norm_eps) if section.batch_normalize else None
        self.act = build_activation(section.activation)

    @property
    def weight_layer(self) -> WeightLayer:
        """Return its parameters as stored in a weights file."""
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
        """Return its parameters as stored in a weights file."""
        return WeightLayer(self.linear, self.norm)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, output, 1, 1]."""
        x = self.linear(x.flatten(1))
        if self.norm is not None:
            x = self.norm(x)
        out: Tensor = self.act(x)
        return out[:, :, None, None]


class Shortcut(nn.Module):
    """Adds feature maps to the first one, which determines the size.

    Larger maps are subsampled. Only the channels that both have are added.

    Args:
        activation: of the sum.
        weights: number of maps, and of weights of each (1 or its channels); without any they are added as they are.
        normalization: of the weights over the maps.
    """

    def __init__(
        self, activation: Activation, weights: tuple[int, int] = (0, 0), normalization: Normalization = "none"
    ) -> None:
        super().__init__()
        self.act = build_activation(activation)
        self.normalization = normalization
        self.weight = nn.Parameter(torch.ones(weights)) if all(weights) else None

    @property
    def weight_layer(self) -> LooseNumbers | None:
        """Return its parameters as stored in a weights file."""
        return None if self.weight is None else LooseNumbers((self.weight,))

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """[B, C, H, W] and any number of [B, C', n * H, n * W] -> [B, C, H, W]."""
        factors = self._factors()
        x = x if factors is None else x * factors[0]
        for number, other in enumerate(others, start=1):
            step = other.shape[-1] // x.shape[-1]
            other = other[:, :, ::step, ::step]
            common = min(x.shape[1], other.shape[1])
            other = other[:, :common] if factors is None else other[:, :common] * factors[number][:common]
            total = x[:, :common] + other
            x = total if common == x.shape[1] else torch.cat([total, x[:, common:]], dim=1)
        out: Tensor = self.act(x)
        return out

    def _factors(self) -> Tensor | None:
        """Return the factor of each map, [1 + N, C or 1, 1, 1]."""
        if self.weight is None:
            return None
        factors: Tensor = self.weight
        if self.normalization != "none":
            shifted = factors - factors.amax(dim=0)
            # 0.001 is what Darknet makes of lesser weights when it folds them for inference.
            positive = factors.clamp(min=0.001) if self.normalization == "relu" else shifted.exp()
            factors = positive / (positive.sum(dim=0) + 1e-4)
        return factors[..., None, None]


class Route(nn.Module):
    """Concatenates maps, or one of ``groups`` equal parts of each."""

    def __init__(self, groups: int, group_id: int) -> None:
        super().__init__()
        self.groups = groups
        self.group_id = group_id

    def forward(self, *maps: Tensor) -> Tensor:
        """Any number of [B, C_i, H, W] -> [B, sum of C_i / groups, H, W]."""
        # Converters know no chunk of one part.
        parts = maps if self.groups == 1 else [x.chunk(self.groups, dim=1)[self.group_id] for x in maps]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class ScaleChannels(nn.Module):
    """Scales every channel (squeeze and excitation, arXiv 1709.01507) or every pixel."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.act = build_activation(activation)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        """[B, C, H, W] and [B, C, 1, 1], [B, 1, H, W] or [B, C, H, W] -> [B, C, H, W]."""
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


class LocalAvgPool(nn.Module):
    """Average pooling that excludes padded cells; ``padding`` as in ``MaxPool``."""

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.size = size
        self.stride = stride
        self.before = padding // 2
        self.after = padding - self.before

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, (H + padding - size) / stride + 1, ...], rounded down."""
        inside = torch.ones_like(x[:1, :1])
        sums, counts = (
            F.avg_pool2d(F.pad(each, (self.before, self.after) * 2), self.size, self.stride) for each in (x, inside)
        )
        return sums / counts


class Norm(nn.Module):
    """Batch normalisation on its own."""

    def __init__(self, channels: int, norm_eps: NormEps) -> None:
        super().__init__()
        self.norm = build_norm2d(channels, norm_eps)

    @property
    def weight_layer(self) -> LooseNumbers:
        """Return its parameters as stored in a weights file."""
        assert self.norm.running_mean is not None and self.norm.running_var is not None
        return LooseNumbers((self.norm.bias, self.norm.weight, self.norm.running_mean, self.norm.running_var))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        out: Tensor = self.norm(x)
        return out


class Implicit(nn.Module):
    """Learned values that do not depend on the image (YOLOR, arXiv 2105.04206)."""

    def __init__(self, filters: int, atoms: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, filters, atoms, 1))

    @property
    def weight_layer(self) -> LooseNumbers:
        """Return its parameters as stored in a weights file."""
        return LooseNumbers((self.weight,))

    def forward(self, image: Tensor) -> Tensor:
        """The image [B, ...], for its batch size -> [B, filters, atoms, 1]."""
        return self.weight.expand(image.shape[0], -1, -1, -1)


class UsualReorg(nn.Module):
    """[reorg3d]: moves blocks of stride x stride pixels into channels, ordered by row, column and channel."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C * s^2, H / s, W / s]."""
        batch, channels, height, width = x.shape
        s = self.stride
        blocks = x.reshape(batch, channels, height // s, s, width // s, s)
        return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * s**2, height // s, width // s)


class Reorg(nn.Module):
    """Darknet's [reorg]: moves blocks of stride x stride pixels into channels.

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
