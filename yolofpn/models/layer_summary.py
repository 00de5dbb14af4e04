"""Layer table of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from yolofpn.detector import input_form
from yolofpn.models.layers import FrozenBatchNorm2d

_TYPES: dict[type[nn.Module], str] = {
    nn.Conv2d: "Convolutional",
    nn.MaxPool2d: "Maxpool",
    nn.AdaptiveAvgPool2d: "Avgpool",
    nn.Linear: "Connected",
    nn.Softmax: "Softmax",
}


@dataclass(frozen=True)
class LayerRow:
    """One line of the table.

    Attributes:
        name: module name.
        type: kind of layer, such as Convolutional.
        filters: output channels.
        size: kernel height x width / stride, empty where there is no kernel.
        output: height x width x channels.
        parameters: number of stored values as in Darknet: kernels, biases and all four of batch norm; 0 if a shared
            layer is repeated.
        gflop: billions of operations per image; a multiply-add counts as two.
    """

    name: str
    type: str
    filters: int
    size: str
    output: str
    parameters: int
    gflop: float


def layer_rows(network: nn.Module, run: Callable[[Tensor], object], size: tuple[int, int]) -> list[LayerRow]:
    """List the layers of ``network`` in the order in which ``run`` calls them.

    Args:
        network: its training or evaluation mode is restored afterwards.
        run: called with an input [1, 3, H, W], such as ``dense`` of a detector.
        size: (height, width) of that input.
    """
    rows: list[LayerRow] = []
    names = {module: name for name, module in network.named_modules()}
    norms = _batch_norm_of_each_conv(network)
    seen: set[nn.Module] = set()

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        row = _describe(module, names[module], norms.get(module), inputs[0], output)
        rows.append(replace(row, parameters=0) if module in seen else row)  # levels may share a convolution
        seen.add(module)

    handles = [module.register_forward_hook(record) for module in names if _row_type(module)]
    was_training = network.training
    try:
        with torch.no_grad():
            device = next(network.parameters()).device
            network.eval()
            channels = input_form(network).channels
            run(torch.zeros(1, channels, *size, device=device))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return rows


def stored_numbers(module: nn.Module) -> int:
    """Return the number of values in a Darknet file of ``module``: parameters, running means and variances."""
    kinds = ("running_mean", "running_var", "weight", "bias")  # the last two where batch norm is frozen
    buffers = (buffer for name, buffer in module.named_buffers() if name.endswith(kinds))
    return sum(parameter.numel() for parameter in module.parameters()) + sum(buffer.numel() for buffer in buffers)


def format_rows(rows: Sequence[LayerRow]) -> str:
    """Format the table as aligned text, with the totals in the last line."""
    header = ("name", "type", "filters", "size/stride", "output", "parameters", "GFLOP")
    cells = [
        (row.name, row.type, str(row.filters), row.size, row.output, f"{row.parameters:,}", f"{row.gflop:.3f}")
        for row in rows
    ]
    convolutions = sum(row.type == "Convolutional" for row in rows)
    total = sum(row.parameters for row in rows)
    gflop = sum(row.gflop for row in rows)
    cells.append(("total", f"{convolutions} convolutions", "", "", "", f"{total:,}", f"{gflop:.3f}"))
    widths = [max(len(line[column]) for line in [header, *cells]) for column in range(len(header))]
    right_aligned = {2, 5, 6}
    lines = []
    for line in [header, *cells]:
        padded = [
            text.rjust(width) if column in right_aligned else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _row_type(module: nn.Module) -> str:
    """Return the type of a layer, or of a block with ``row_type``; empty if the module has no row."""
    return _TYPES.get(type(module)) or str(getattr(module, "row_type", ""))


def _describe(module: nn.Module, name: str, norm: nn.Module | None, x: Tensor, out: Tensor) -> LayerRow:
    size, gflop = "", 0.0
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        size = f"{height}x{width}/{module.stride[0]}"
        gflop = 2e-9 * module.weight.numel() * out.shape[-2] * out.shape[-1]
    elif isinstance(module, nn.MaxPool2d):
        size = f"{module.kernel_size}x{module.kernel_size}/{module.stride}"
    elif isinstance(module, nn.Linear):
        gflop = 2e-9 * module.weight.numel()
    own = stored_numbers(module) if type(module) in _TYPES else 0  # those of a block are in the rows of its layers
    shape = "x".join(str(value) for value in (*out.shape[2:], out.shape[1]))
    numbers = own + (stored_numbers(norm) if norm else 0)
    return LayerRow(name.removesuffix(".conv"), _row_type(module), out.shape[1], size, shape, numbers, gflop)


def _batch_norm_of_each_conv(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Map each convolution to the batch norm that follows it in the same module."""
    return {
        conv: norm
        for module in model.modules()
        for conv, norm in pairwise(module.children())
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d)
    }
