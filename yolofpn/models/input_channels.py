"""Fits the first convolution of a backbone to images of any number of channels.

A kernel for RGB becomes one for N channels as in timm (``adapt_input_conv``, Apache-2.0, by Ross Wightman): for one
channel it is summed over RGB, so that a gray image gives what it gave as three equal channels; for others the three are
repeated and multiplied by 3 / N, so that responses keep their size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RGB = 3


def set_input_channels(backbone: nn.Module, channels: int) -> None:
    """Replace the first convolution by one for ``channels``, newly initialised with the variance of its responses kept.

    Args:
        backbone: built for RGB; is changed.
        channels: of the images; 3 leaves it as it is.

    Raises:
        ValueError: its first convolution is not one for RGB.
    """
    if channels == RGB:
        return
    path, conv = first_convolution(backbone)
    fitting = nn.Conv2d(
        channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )
    if not (conv.weight.is_meta and fitting.weight.is_meta):  # without numbers, as below weights that are loaded
        with torch.no_grad():
            fitting.weight.copy_(torch.randn_like(fitting.weight) * conv.weight.std() * (RGB / channels) ** 0.5)
            if conv.bias is not None and fitting.bias is not None:
                fitting.bias.copy_(conv.bias)
    parent, _, name = path.rpartition(".")
    setattr(backbone.get_submodule(parent), name, fitting)


def first_convolution(backbone: nn.Module) -> tuple[str, nn.Conv2d]:
    """The path and the module of the convolution that sees the image.

    Raises:
        ValueError: there is none, or it is not one for RGB.
    """
    for path, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels != RGB or module.groups != 1:
                break
            return path, module
    raise ValueError("input.channels: the first convolution of this backbone takes no RGB images: it cannot be fitted")


def inflate_kernel(kernel: Tensor, channels: int) -> Tensor:
    """[O, 3, H, W] for RGB -> [O, channels, H, W]: see above."""
    if channels == RGB:
        return kernel
    if channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    copies = -(-channels // RGB)
    return kernel.repeat(1, copies, 1, 1)[:, :channels] * (RGB / channels)
