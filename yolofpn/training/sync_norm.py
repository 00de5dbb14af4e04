"""Batch norm whose statistics are those of the images of all processes, on devices that PyTorch's own does not support.

``torch.nn.SyncBatchNorm`` runs on GPUs only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum over all processes; a gradient reaches each of them from all."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:  # noqa: ANN401
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the images of all processes, [B, C, H, W] -> the same; in evaluation as its base class."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> SharedBatchNorm2d:
        """Batch norm with the parameters and buffers of ``norm``, not copies of them."""
        shared = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        shared.weight, shared.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(shared, name, buffer)
        return shared.train(norm.training)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise by mean and variance over all processes, in float32; two passes, as one would cancel digits."""
        if not self.training:
            return super().forward(images)
        axes, shape = (0, 2, 3), (1, -1, 1, 1)
        values = images.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums = _sum(torch.cat([values.sum(axes), count]))
        number = sums[-1].detach()
        mean = sums[:-1] / number
        centred = values - mean.view(shape)
        variance = _sum(centred.square().sum(axes)) / number
        self._note(mean.detach(), variance.detach() * number / (number - 1).clamp(min=1))
        factor = (variance + self.eps).rsqrt()
        if self.affine:
            return (centred * (factor * self.weight).view(shape) + self.bias.view(shape)).to(images.dtype)
        return (centred * factor.view(shape)).to(images.dtype)

    @torch.no_grad()
    def _note(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        """Move the running statistics, as the base class does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased_variance, share)


def share_norms(model: nn.Module) -> None:
    """Give every batch norm of ``model`` statistics over all processes; its tensors stay the same objects."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SharedBatchNorm2d.of(child))
