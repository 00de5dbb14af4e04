"""Batch norm folded into the convolution before it: the same numbers with half the passes over memory."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from yolofpn.darknet.darknet_layers import Convolution
from yolofpn.darknet.norms import RootEpsBatchNorm2d, divisor_squared
from yolofpn.detector import Detector
from yolofpn.models.layers import FrozenBatchNorm2d
from yolofpn.runtimes.exported import ExportedDetector

Network = TypeVar("Network", bound=nn.Module)


class CastConv2d(nn.Conv2d):
    """A convolution that brings its input to the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] of any floating type -> [B, out_channels, H', W'] of the weights' type."""
        return super().forward(x.to(self.weight.dtype))


class CastLinear(nn.Linear):
    """A fully connected layer that brings its input to the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] of any floating type -> [..., out_features] of the weights' type."""
        return super().forward(x.to(self.weight.dtype))


_CAST: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: CastConv2d, nn.Linear: CastLinear}


def fold_norms(network: Network) -> Network:
    """A copy of ``network`` in evaluation mode that computes the same without any batch norm after a convolution.

    What was not folded shares its numbers with the original.
    """
    folded = copy_around_numbers(network).eval()
    for module in list(folded.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if type(conv) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
                setattr(module, conv_name, _fold(conv, norm))
                # This one class calls no norm where there is none; the others call whatever is there.
                setattr(module, norm_name, None if isinstance(module, Convolution) else nn.Identity())
    return folded


def kernels_and_factors(network: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """The kernel of each convolution that ``fold_norms`` changes, by name, and the factors [C] it is multiplied by."""
    found = {}
    for path, module in network.named_modules():
        for (conv_name, conv), (_, norm) in pairwise(list(module.named_children())):
            if type(conv) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
                variance, eps = _variance(norm)
                name = f"{path}.{conv_name}.weight".lstrip(".")
                found[name] = conv.weight.detach(), (norm.weight * torch.rsqrt(variance + eps)).detach()
    return found


def for_inference(detector: Detector, device: torch.device) -> Detector:
    """A copy on ``device`` and in evaluation mode, which shares its numbers with ``detector`` where they lie there."""
    assert isinstance(detector, nn.Module)
    if isinstance(detector, ExportedDetector):  # a graph has no mode, and no numbers here
        return detector
    numbers: dict[int, Tensor] = {}
    for tensor in (*detector.parameters(), *detector.buffers()):
        own = tensor.detach()  # a tensor of its own, as moving a module replaces what its parameters hold
        numbers[id(tensor)] = nn.Parameter(own, requires_grad=False) if isinstance(tensor, nn.Parameter) else own
    return cast("Detector", copy.deepcopy(detector, numbers).eval().to(device))


def copy_around_numbers(network: Network) -> Network:
    """New modules around the same parameters and buffers."""
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, shared)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> nn.Conv2d:
    """The convolution that computes what the two do one after the other."""
    folded = copy.deepcopy(conv)
    assert norm.running_mean is not None
    variance, eps = _variance(norm)
    folded.weight, folded.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, variance, eps, norm.weight, norm.bias
    )
    return folded


def _variance(norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> tuple[Tensor, float]:
    """Variance and epsilon; the root of their sum is what the norm divides by."""
    assert norm.running_var is not None
    if isinstance(norm, RootEpsBatchNorm2d):
        return divisor_squared(norm).to(norm.running_var.dtype), 0.0
    return norm.running_var, norm.eps


def cast_inside(network: nn.Module, dtype: torch.dtype, outputs: set[nn.Module]) -> None:
    """Convert all layers of ``network`` to ``dtype``, except ``outputs``, whose results stay float32."""
    for module in network.modules():
        if type(module) in _CAST:
            module.__class__ = _CAST[type(module)]
            kept = torch.float32 if module in outputs else dtype
            for name, tensor in module.named_parameters():
                # A new parameter, as the old one belongs to the original network too.
                module.register_parameter(name, nn.Parameter(tensor.detach().to(kept), requires_grad=False))
