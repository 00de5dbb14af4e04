"""Layers shared by backbones, necks and heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.bands import COLOUR, InputForm


class Normalize(nn.Module):
    """The first step of every detector: ``(x / 255 - mean) / std`` per channel, RGB.

    Mean and std are part of the config, not of the state dict.

    Args:
        mean: of each channel.
        std: of each channel.
        form: what the network takes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], form: InputForm = COLOUR) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (or float of the same 0..255 range) [B, N, H, W] -> float32 [B, N, H, W]."""
        return (images.float() / 255 - self.mean) / self.std


class ConvBNAct(nn.Module):
    """Convolution without bias, batch norm, LeakyReLU(0.1); a stride of 2 halves height and width, rounding up."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=norm_eps)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H / stride, W / stride]."""
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out


class LowRankConvBNAct(ConvBNAct):
    """A ``ConvBNAct`` with a low-rank kernel: a convolution with ``rank`` filters, followed by a 1x1 convolution.

    Responses of wide convolutions lie close to a low-dimensional subspace (arXiv 1505.06798).

    Args:
        rank: filters of the first convolution, which has a bias, as in Darknet without batch norm.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, rank: int, norm_eps: float = 1e-5
    ) -> None:
        super().__init__(rank, out_channels, 1, norm_eps=norm_eps)
        self.basis = nn.Conv2d(in_channels, rank, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H, W]."""
        return super().forward(self.basis(x))


def conv_bn_act(
    in_channels: int, out_channels: int, kernel_size: int, norm_eps: float, rank: int | None = None
) -> ConvBNAct:
    """Return a ``ConvBNAct`` of stride 1, with a low-rank kernel if ``rank`` is given."""
    if rank is None:
        return ConvBNAct(in_channels, out_channels, kernel_size, norm_eps=norm_eps)
    return LowRankConvBNAct(in_channels, out_channels, kernel_size, rank, norm_eps)


def rank_of(in_channels: int, share: float | None) -> int | None:
    """The rank of a convolution that doubles its channels, as a share of its input channels; None stays None."""
    return None if share is None else max(1, round(share * in_channels))


class FrozenBatchNorm2d(nn.Module):
    """Batch norm as a fixed scale and shift per channel: neither statistics nor weights ever change.

    Args:
        channels: number of input channels.
        eps: added to the variance.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> the same shape and type."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def upsample_to(x: Tensor, reference: Tensor, mode: str) -> Tensor:
    """Upsample ``x`` to the height and width of ``reference`` ('nearest' or 'bilinear'), which may be odd."""
    size = reference.shape[-2:]
    if mode == "nearest":
        return F.interpolate(x, size=size, mode="nearest")
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
