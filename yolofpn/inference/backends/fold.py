"""Batch norm folded into the convolution before it: the same numbers with half the passes over memory."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from yolofpn.darknet.layers import Convolution
from yolofpn.models.layers import ConvBNAct

Network = TypeVar("Network", bound=nn.Module)


class CastConv2d(nn.Conv2d):
    """A convolution that brings its input to the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] of any floating type -> [B, out_channels, H', W'] of the weights' type."""
        return super().forward(x.to(self.weight.dtype))


def fold_norms(network: Network) -> Network:
    """A copy of ``network`` in evaluation mode that computes the same without any batch norm after a convolution.

    What was not folded shares its numbers with the original.
    """
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    folded = copy.deepcopy(network, shared).eval()  # new modules around the same numbers
    for module in folded.modules():
        if isinstance(module, ConvBNAct | Convolution) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            # The two classes differ in how they say that there is none.
            module.norm = nn.Identity() if isinstance(module, ConvBNAct) else None  # type: ignore[assignment]
    return folded


def cast_inside(network: nn.Module, dtype: torch.dtype, outputs: set[nn.Module]) -> None:
    """Give all convolutions of ``network`` the type ``dtype``, except ``outputs``, whose results stay float32."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = CastConv2d
            kept = torch.float32 if module in outputs else dtype
            for name, tensor in module.named_parameters():
                # A new parameter, as the old one belongs to the original network too.
                module.register_parameter(name, nn.Parameter(tensor.detach().to(kept), requires_grad=False))
