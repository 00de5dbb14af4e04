"""Computes the connections, output sizes and parameter counts of a cfg's layers.

A cfg is checked and compared with a weights file before memory is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from yolofpn.darknet.cfg import CfgLayer, DarknetCfg
from yolofpn.darknet.schema import MAX_MAP_NUMBERS
from yolofpn.darknet.sections import (
    AvgPool,
    BatchNorm,
    Connected,
    Convolutional,
    ImplicitSection,
    LocalAvgPoolSection,
    MaxPoolSection,
    Region,
    ReorgSection,
    RouteSection,
    Sam,
    ScaleChannelsSection,
    ShortcutSection,
    Softmax,
    Upsample,
    Yolo,
)

NETWORK_INPUT = -1  # the index of the network's input among the layers' inputs
MAX_STORED_NUMBERS = 2**29  # of all layers, 2 GiB: more than twice those of the largest real network


@dataclass(frozen=True)
class Shape:
    """Shape of a feature map, without the batch dimension."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height} x {self.channels}"

    @property
    def numbers(self) -> int:
        """Number of values."""
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class PlannedLayer:
    """One layer with its inputs and shapes.

    Attributes:
        cfg: its section of the cfg.
        inputs: indices of the layers whose maps it takes, in the order of its arguments.
        in_shape: shape of its first input, at the cfg's input size.
        shape: shape of its output, at the cfg's input size.
        stride: network pixels per cell of its output.
        numbers: number of values in a weights file.
    """

    cfg: CfgLayer
    inputs: tuple[int, ...]
    in_shape: Shape
    shape: Shape
    stride: Fraction
    numbers: int


def plan_network(cfg: DarknetCfg) -> tuple[PlannedLayer, ...]:
    """Plan all layers of ``cfg``.

    Raises:
        UserError: a layer refers to one that does not come before it, maps that meet do not fit, a [yolo] or [region]
            gets a wrong number of channels; the sizes are beyond all measure; or nothing comes out at the end. The
            message gives the line.
    """
    image = Shape(cfg.net.channels, cfg.net.height, cfg.net.width)
    plan: list[PlannedLayer] = []
    stored = 0
    for layer in cfg.layers:
        inputs = _inputs(cfg, layer)
        shapes = [image if index == NETWORK_INPUT else plan[index].shape for index in inputs]
        before = Fraction(1) if inputs[0] == NETWORK_INPUT else plan[inputs[0]].stride
        shape, stride = _output_shape(cfg, layer, shapes), before * _scale(layer)
        if shape.numbers > MAX_MAP_NUMBERS:
            raise cfg.error(layer, f"makes a map of {shape}, more than 1 GiB: lower [net] width and height")
        if isinstance(layer.section, Yolo | Region) and stride.denominator > 1:
            raise cfg.error(layer, "its map is larger than the input")
        numbers = _stored_numbers(layer, shapes[0])
        stored += numbers
        if stored > MAX_STORED_NUMBERS:
            raise cfg.error(layer, f"brings the network to {stored:,} parameters: more than {MAX_STORED_NUMBERS:,}")
        plan.append(PlannedLayer(layer, inputs, shapes[0], shape, stride, numbers))
    _check_end(cfg, plan)
    return tuple(plan)


def size_divisor(plan: Sequence[PlannedLayer]) -> int:
    """Return the number that input height and width must be multiples of, so that every stride divides them."""
    return math.lcm(*(layer.stride.numerator for layer in plan))


def divides(layer: PlannedLayer, height: int, width: int) -> bool:
    """Return whether the output size of ``layer`` is the input size divided by its stride."""
    return layer.shape.height * layer.stride == height and layer.shape.width * layer.stride == width


def _inputs(cfg: DarknetCfg, layer: CfgLayer) -> tuple[int, ...]:
    previous = layer.index - 1
    match layer.section:
        case ShortcutSection(layers=layers):
            inputs = (previous, *(_resolve(cfg, layer, reference) for reference in layers))
        case RouteSection(layers=layers):
            inputs = tuple(_resolve(cfg, layer, reference) for reference in layers)
        case ImplicitSection():
            inputs = (NETWORK_INPUT,)
        case Sam(layer=reference):
            inputs = (previous, _resolve(cfg, layer, reference))
        case ScaleChannelsSection(layer=reference):
            inputs = (_resolve(cfg, layer, reference), previous)
        case _:
            inputs = (previous,)
    if layer.kind == "contrastive":  # of training alone, at the end
        inputs = (NETWORK_INPUT,)
    for index in inputs:
        if index != NETWORK_INPUT and isinstance(cfg.layers[index].section, Yolo | Region):
            raise cfg.error(layer, f"takes layer {index}, but nothing can follow a [{cfg.layers[index].kind}]")
    return inputs


def _resolve(cfg: DarknetCfg, layer: CfgLayer, reference: int) -> int:
    index = reference if reference >= 0 else layer.index + reference
    if not 0 <= index < layer.index:
        known = f"layers 0 to {layer.index - 1} come" if layer.index else "no layer comes"
        raise cfg.error(layer, f"refers to {reference}, which is layer {index}: {known} before it")
    return index


def _output_shape(cfg: DarknetCfg, layer: CfgLayer, shapes: list[Shape]) -> Shape:
    first = shapes[0]
    channels, height, width = first.channels, first.height, first.width
    match layer.section:
        case Convolutional() as conv:
            if channels % conv.groups or conv.filters % conv.groups:
                raise cfg.error(layer, f"groups={conv.groups} does not divide {channels} channels into {conv.filters}")
            reach = conv.dilation * (conv.size - 1) + 1
            return Shape(
                conv.filters, *_windows(cfg, layer, first, reach, conv.stride, 2 * conv.padding * conv.dilation)
            )
        case ImplicitSection(filters=filters, atoms=atoms):
            return Shape(filters, atoms, 1)
        case MaxPoolSection(size=size, stride=stride, padding=padding) | LocalAvgPoolSection(size, stride, padding):
            return Shape(channels, *_windows(cfg, layer, first, size, stride, padding))
        case Connected(output=output):
            return Shape(output, 1, 1)
        case AvgPool():
            return Shape(channels, 1, 1)
        case Upsample(stride=stride):
            return Shape(channels, height * stride, width * stride)
        case ReorgSection(stride=stride, usual=usual):
            if height % stride or width % stride or (not usual and channels % stride**2):
                raise cfg.error(layer, f"stride={stride} does not divide a map of {first}")
            return Shape(channels * stride**2, height // stride, width // stride)
        case RouteSection(groups=groups):
            _check_same_size(cfg, layer, shapes)
            if any(shape.channels % groups for shape in shapes):
                raise cfg.error(layer, f"groups={groups} does not divide the channels of its layers")
            return Shape(sum(shape.channels for shape in shapes) // groups, height, width)
        case ShortcutSection():
            _check_shortcut(cfg, layer, shapes)
        case Sam():
            if shapes[1] != first:
                raise cfg.error(layer, f"multiplies a map of {shapes[1]} and one of {first}: they must be of one shape")
        case ScaleChannelsSection(per_pixel=True):
            if shapes[1] != Shape(1, height, width):
                raise cfg.error(layer, f"needs one number per pixel, gets {shapes[1]} for a map of {first}")
        case ScaleChannelsSection():
            if shapes[1] != Shape(channels, 1, 1):
                raise cfg.error(layer, f"needs one number per channel, gets {shapes[1]} for a map of {first}")
        case Softmax() if (height, width) != (1, 1):
            raise cfg.error(layer, f"needs one number per class, gets a map of {first}")
        case Yolo() | Region() as output:
            if channels != (needed := output.channels):
                values = needed // len(output.anchors) - output.classes
                sum_ = f"{len(output.anchors)} anchors x ({values} + {output.classes} classes)"
                raise cfg.error(layer, f"gets {channels} channels: {sum_} need filters={needed} before it")
    return first


def _windows(cfg: DarknetCfg, layer: CfgLayer, shape: Shape, size: int, stride: int, padding: int) -> tuple[int, int]:
    height, width = ((length + padding - size) // stride + 1 for length in (shape.height, shape.width))
    if min(height, width) < 1:
        raise cfg.error(layer, f"size={size} does not fit into a map of {shape}")
    return height, width


def _check_same_size(cfg: DarknetCfg, layer: CfgLayer, shapes: list[Shape]) -> None:
    if len({(shape.height, shape.width) for shape in shapes}) > 1:
        raise cfg.error(layer, f"joins maps of different sizes: {', '.join(map(str, shapes))}")


def _check_shortcut(cfg: DarknetCfg, layer: CfgLayer, shapes: list[Shape]) -> None:
    first, *others = shapes
    for other in others:
        step = other.height // first.height
        if (other.height, other.width) != (step * first.height, step * first.width) or step == 0:
            raise cfg.error(layer, f"adds a map of {other} to one of {first}: its size must be the same or a multiple")


def _scale(layer: CfgLayer) -> Fraction:
    match layer.section:
        case (
            Convolutional(stride=stride)
            | MaxPoolSection(stride=stride)
            | LocalAvgPoolSection(stride=stride)
            | ReorgSection(stride=stride)
        ):
            return Fraction(stride)
        case Upsample(stride=stride):
            return Fraction(1, stride)
    return Fraction(1)


def _stored_numbers(layer: CfgLayer, source: Shape) -> int:
    match layer.section:
        case Convolutional() as conv:
            kernel = source.channels // conv.groups * conv.filters * conv.size**2
            return kernel + conv.filters * (4 if conv.batch_normalize else 1)
        case Connected() as connected:
            return connected.output * (source.numbers + (4 if connected.batch_normalize else 1))
        case BatchNorm():
            return 4 * source.channels
        case ImplicitSection(filters=filters, atoms=atoms):
            return filters * atoms
        case ShortcutSection(weighted=weighted, layers=layers) if weighted != "none":
            return (1 + len(layers)) * (source.channels if weighted == "per_channel" else 1)
    return 0


def _check_end(cfg: DarknetCfg, plan: Sequence[PlannedLayer]) -> None:
    outputs = [layer.cfg for layer in plan if isinstance(layer.cfg.section, Yolo | Region)]
    sections = [output.section for output in outputs if isinstance(output.section, Yolo | Region)]
    classes = [section.classes for section in sections]
    if len({isinstance(section, Yolo) and section.new_coords for section in sections}) > 1:
        raise cfg.error(outputs[-1], "the outputs must agree on new_coords")
    if len(set(classes)) > 1:
        raise cfg.error(outputs[-1], f"the outputs have different numbers of classes: {', '.join(map(str, classes))}")
    if not outputs and not any(isinstance(layer.cfg.section, Softmax) for layer in plan):
        raise cfg.error(cfg.layers[-1], "ends the file without a [yolo], [region] or [softmax]: nothing comes out")
