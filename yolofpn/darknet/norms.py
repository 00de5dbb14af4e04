"""Batch normalisation as Darknet's programs compute it.

AlexeyAB's and hank-ai's divide by sqrt(variance + 1e-5), which is PyTorch's form. pjreddie's divides by
sqrt(variance) + 1e-6, which no ``eps`` of PyTorch expresses: channels of small variance come out otherwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.darknet.weights import NormEps


class RootEpsBatchNorm2d(nn.BatchNorm2d):
    """Inference with (x - mean) / (sqrt(variance) + eps)."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        return F.batch_norm(x, self.running_mean, _squared(self), self.weight, self.bias, eps=0.0)


class RootEpsBatchNorm1d(nn.BatchNorm1d):
    """Inference with (x - mean) / (sqrt(variance) + eps)."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C] -> the same shape."""
        return F.batch_norm(x, self.running_mean, _squared(self), self.weight, self.bias, eps=0.0)


def build_norm2d(channels: int, eps: NormEps) -> nn.BatchNorm2d:
    """The batch normalisation of a convolution."""
    return (RootEpsBatchNorm2d if eps.outside_root else nn.BatchNorm2d)(channels, eps=eps.value)


def build_norm1d(channels: int, eps: NormEps) -> nn.BatchNorm1d:
    """The batch normalisation of a fully connected layer."""
    return (RootEpsBatchNorm1d if eps.outside_root else nn.BatchNorm1d)(channels, eps=eps.value)


def _squared(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    return (norm.running_var.sqrt() + norm.eps).square()


def divisor_squared(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    """The square of what ``norm`` divides by, [C] float64: variance and eps in one number."""
    assert norm.running_var is not None
    variance = norm.running_var.double()
    if isinstance(norm, RootEpsBatchNorm1d | RootEpsBatchNorm2d):
        return (variance.sqrt() + norm.eps).square()
    return variance + norm.eps


def variance_for(divisor_squared: Tensor, eps: NormEps) -> Tensor:
    """The variance with which a program of ``eps`` divides by the root of ``divisor_squared`` [C] -> [C] float32.

    Where there is none, as eps alone is more than that, it is 0.
    """
    if not eps.outside_root:
        return (divisor_squared - eps.value).clamp(min=0).float()
    variance = (divisor_squared.sqrt() - eps.value).clamp(min=0).square().float()
    # Just below a power of two several variances have one divisor in float32: of these the largest, so that round
    # numbers come back as they were.
    for _ in range(2):
        above = variance.nextafter(torch.tensor(torch.inf))
        equal = (above.double().sqrt() + eps.value).square().float() == divisor_squared.float()
        variance = torch.where(equal, above, variance)
    return variance
