"""Batch normalisation as Darknet's programs compute it.

AlexeyAB's and hank-ai's divide by sqrt(variance + 1e-5), which is PyTorch's form. pjreddie's divides by
sqrt(variance) + 1e-6, which no ``eps`` of PyTorch expresses: channels of small variance come out otherwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.darknet.weights_file import NormEps


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
    """Build the batch norm of a convolution."""
    return (RootEpsBatchNorm2d if eps.outside_root else nn.BatchNorm2d)(channels, eps=eps.value)


def build_norm1d(channels: int, eps: NormEps) -> nn.BatchNorm1d:
    """Build the batch norm of a fully connected layer."""
    return (RootEpsBatchNorm1d if eps.outside_root else nn.BatchNorm1d)(channels, eps=eps.value)


def _squared(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    return (norm.running_var.sqrt() + norm.eps).square()


def divisor_squared(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    """Return the squared divisor of ``norm``, [C] float64, which includes variance and eps."""
    assert norm.running_var is not None
    variance = norm.running_var.double()
    if isinstance(norm, RootEpsBatchNorm1d | RootEpsBatchNorm2d):
        return (variance.sqrt() + norm.eps).square()
    return variance + norm.eps


def variance_for(divisor_squared: Tensor, eps: NormEps) -> Tensor:
    """Return the variance [C] float32 that gives ``divisor_squared`` [C] with ``eps``.

    It is 0 if eps alone is larger than that.
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
