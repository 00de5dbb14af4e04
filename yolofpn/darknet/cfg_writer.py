"""Writes the Darknet cfg of a native one-stage model."""

from __future__ import annotations

from torch import nn

from yolofpn.config import InputConfig
from yolofpn.darknet.native import require_darknet_counterpart
from yolofpn.errors import UserError
from yolofpn.models.backbones.darknet import Darknet, Darknet19, ResidualBlock
from yolofpn.models.backbones.yolov3_tiny import PoolInPlace, TinyDarknet
from yolofpn.models.layers import ConvBNAct, LowRankConvBNAct
from yolofpn.models.necks.fpn import ConcatFPN, ConcatLevel
from yolofpn.models.necks.tiny import TinyFPN
from yolofpn.models.yolo import YOLO

_HEAD = "# Written by yolofpn from a native model; for inference: training keys are omitted."


def write_cfg(model: YOLO, input: InputConfig) -> str:
    """Return the text of a cfg for ``model``, with its layers in the order of ``weight_layers``.

    Args:
        model: a one-stage model.
        input: input size and resize mode for [net].

    Raises:
        UserError: if the model has no Darknet counterpart.
    """
    require_darknet_counterpart(model)
    if any(spec.softmax for spec in model.specs.values()):
        raise UserError("Darknet's [yolo] knows no classes: softmax: this model has no counterpart there")
    sections = _Sections()
    net = {"width": input.size[1], "height": input.size[0], "channels": 3}
    # Where nothing is said Darknet's readers differ in what they do with the image's shape.
    sections.lines += _section("net", **net, letter_box=int(input.resize == "letterbox"))
    features = _backbone(sections, model.backbone)
    assert isinstance(model.neck, ConcatFPN | TinyFPN)
    above: int | None = None
    for k in reversed(model.neck.built_levels):
        level = model.neck.get_submodule(f"p{k}")
        above_or_none = above if model.neck.top_down else None
        if isinstance(level, ConcatLevel):
            above = _neck_level(sections, level, features[f"c{k}"], above_or_none)
        else:
            above = _tiny_level(sections, level, features[f"c{k}"], above_or_none)
        if k in model.neck.levels:
            _head_level(sections, model, f"p{k}")
    return "\n".join([_HEAD, *sections.lines]) + "\n"


def with_input(text: str, input: InputConfig) -> str:
    """Replace the input size and resize mode in the first section of the cfg ``text``."""
    wanted = {"width": input.size[1], "height": input.size[0], "letter_box": int(input.resize == "letterbox")}
    lines: list[str] = []
    sections = 0
    for line in text.splitlines():
        begins = line.lstrip().startswith("[")
        sections += begins
        if sections != 1 or line.partition("=")[0].strip() not in wanted:
            lines.append(line)
        if begins and sections == 1:
            lines += [f"{key}={value}" for key, value in wanted.items()]
    return "\n".join(lines) + "\n"


class _Sections:
    """The lines written so far; every method adds one section and returns the index of its layer."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.last = -1

    def add(self, kind: str, **keys: object) -> int:
        self.lines += _section(kind, **keys)
        self.last += 1
        return self.last

    def conv(self, module: nn.Module) -> int:
        if isinstance(module, LowRankConvBNAct):
            self.conv(module.basis)
        norm = isinstance(module, ConvBNAct)
        conv = module.conv if isinstance(module, ConvBNAct) else module
        assert isinstance(conv, nn.Conv2d)
        keys = {"batch_normalize": 1} if norm else {}
        shape = {"filters": conv.out_channels, "size": conv.kernel_size[0], "stride": conv.stride[0], "pad": 1}
        return self.add("convolutional", **keys, **shape, activation="leaky" if norm else "linear")

    def take(self, *layers: int) -> int:
        """Add a [route] that concatenates these layers, unless it is only the last layer."""
        return self.last if layers == (self.last,) else self.add("route", layers=",".join(map(str, layers)))


def _section(kind: str, **keys: object) -> list[str]:
    return ["", f"[{kind}]", *(f"{key}={value}" for key, value in keys.items())]


def _backbone(sections: _Sections, backbone: nn.Module) -> dict[str, int]:
    """Write the backbone; return the layer index of each c<k>."""
    match backbone:
        case Darknet19():
            return _darknet19(sections, backbone)
        case TinyDarknet():
            return _darknet_tiny(sections, backbone)
        case Darknet():
            return _darknet(sections, backbone)
    raise AssertionError("require_darknet_counterpart lets no other backbone pass")


def _darknet(sections: _Sections, backbone: Darknet) -> dict[str, int]:
    """Write the backbone; return the layer index of each c<k>."""
    sections.conv(backbone.stem)
    features = {}
    for level, stage in enumerate(backbone.stages, start=1):
        for block in stage.children():
            if isinstance(block, ResidualBlock):
                before = sections.last
                sections.conv(block.conv1)
                sections.conv(block.conv2)
                sections.add("shortcut", **{"from": before - sections.last - 1}, activation="linear")
            else:
                sections.conv(block)
        features[f"c{level}"] = sections.last
    return features


def _darknet19(sections: _Sections, backbone: Darknet19) -> dict[str, int]:
    features = {}
    for level, stage in enumerate(backbone.stages):
        if level:
            sections.add("maxpool", size=2, stride=2)
        for conv in stage.children():
            sections.conv(conv)
        features[f"c{level}"] = sections.last
    return features


def _darknet_tiny(sections: _Sections, backbone: TinyDarknet) -> dict[str, int]:
    features = {}
    for level, stage in enumerate(backbone.stages):
        for layer in stage.children():
            if isinstance(layer, ConvBNAct):
                sections.conv(layer)
            else:
                sections.add("maxpool", size=2, stride=1 if isinstance(layer, PoolInPlace) else 2)
        features[f"c{level}"] = sections.last
    return features


def _tiny_level(sections: _Sections, reduce: nn.Module, feature: int, above: int | None) -> int:
    if above is None:
        sections.conv(reduce)
        return sections.last
    sections.take(above)
    sections.conv(reduce)
    return sections.take(sections.add("upsample", stride=2), feature)


def _neck_level(sections: _Sections, level: ConcatLevel, feature: int, above: int | None) -> int:
    parts = []
    if level.reduce is not None and above is not None:
        sections.take(above)
        sections.conv(level.reduce)
        parts.append(sections.add("upsample", stride=2))
    if level.lateral:
        parts.append(feature)
    sections.take(*parts)
    for conv in level.block:
        sections.conv(conv)
    return sections.last


def _head_level(sections: _Sections, model: YOLO, name: str) -> None:
    for conv in model.head.get_submodule(name).children():
        sections.conv(conv)
    anchors = [anchor for spec in model.specs.values() for anchor in spec.anchors]
    spec, count = model.specs[name], len(model.specs[name].anchors)
    first = count * list(model.specs).index(name)
    sections.add(
        "yolo",
        mask=",".join(str(first + index) for index in range(count)),
        anchors=", ".join(f"{width:.10g},{height:.10g}" for width, height in anchors),
        num=len(anchors),
        classes=model.num_classes,
        scale_x_y=f"{spec.scale_x_y:.10g}",
    )
