"""Loads initial weights: tensors of equal shape, and class outputs by class name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from yolofpn.config import Config, Metadata, ModelConfig
from yolofpn.darknet.download import NAMED_WEIGHTS, fetch_weights
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.data.class_names import ClassMatch, match_classes
from yolofpn.errors import UserError
from yolofpn.models import backbones
from yolofpn.models.backbones.section import BackboneConfig
from yolofpn.models.build import NativeDetector
from yolofpn.models.two_stage.conv5_body import Conv5Body, with_conv5_in_head
from yolofpn.tensor_files import read_tensors
from yolofpn.training.start_darknet import darknet_settings, native_state, read_darknet, scale_x_y_of
from yolofpn.weights import load_weights, weights_kind

_TOLERATED = "model.norm_eps"  # batch norm divides by the root of variance + eps: it matters little beside a variance
# A batch norm and the convolution before it: of ConvBNAct, of a ResNet's blocks and of its shortcuts.
_NORM_AND_CONV = (
    (re.compile(r"\.norm$"), ".conv"),
    (re.compile(r"\.bn(\d)$"), r".conv\1"),
    (re.compile(r"\.downsample\.1$"), ".downsample.0"),
)


@dataclass(frozen=True)
class StartingWeights:
    """Weights to start from.

    Attributes:
        origin: the file, as shown to people.
        state: tensors by their names in native models.
        settings: what the config must say for these weights to mean what they meant: values by dotted key.
        tolerant: the config may say another ``norm_eps`` all the same.
        names: of the classes of the predictions; empty where there are none.
        category_ids: of these classes, where known.
        notes: lines to print.
        scale_x_y: how far the sigmoid of a box's centre was stretched; None where the weights predict no boxes.
        guessed_kernel: the kernel in ``state`` that was trained for RGB and made for other bands, if there is one.
    """

    origin: str
    state: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    tolerant: bool = True
    names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    scale_x_y: float | None = None
    guessed_kernel: str | None = None


def read_starting_weights(spec: str, model: ModelConfig) -> StartingWeights:
    """Read weights of any kind.

    Args:
        spec: a weights file, checkpoint or run folder of this project, a Darknet ``.weights`` file, whole or the first
            layers of one (darknet53.conv.74), their names, 'auto' for the default weights, or a file or name of
            pretrained weights that a backbone knows, such as torchvision's ResNets or efficientnet-lite0.
        model: the model that will take them over; Darknet's files name no tensors.

    Raises:
        UserError: there is no such file, or it is damaged or of another kind.
    """
    path, notes = Path(spec), []
    pretrained = None if path.exists() else _find_pretrained(spec)
    if pretrained is not None:
        path, notes = pretrained, [f"weights: {pretrained} (ImageNet)"]
    elif spec in NAMED_WEIGHTS and not path.exists():
        fetched = fetch_weights(NAMED_WEIGHTS[spec])
        path, notes = fetched.path, [fetched.note]
    if path.is_file():
        if weights_kind(path) == "darknet":
            found = read_darknet(path, model)
            return StartingWeights(
                spec,
                found.state,
                found.settings,
                names=found.names,
                notes=(*notes, *found.notes),
                scale_x_y=found.scale_x_y,
            )
        imagenet = _read_pretrained(path, model, notes)
        if imagenet is not None:
            return imagenet
    loaded = load_weights(path)
    metadata, detector = loaded.metadata, loaded.detector
    if isinstance(detector, DarknetNetwork):
        state = native_state(detector.weight_layers(), model, detector.num_classes)
        settings = darknet_settings(metadata.header)
    else:
        state, settings = detector.state_dict(), _settings_of(metadata)
    return StartingWeights(
        "the default weights" if spec == "auto" else spec,
        state,
        settings,
        names=metadata.names,
        category_ids=metadata.category_ids,
        notes=tuple(loaded.notes),
        scale_x_y=scale_x_y_of(detector),
    )


def _find_pretrained(name: str) -> Path | None:
    """The installed weights that a backbone knows as ``name``."""
    found = (kind.find_pretrained(name) for kind in backbones.BACKBONES)
    return next((path for path in found if path is not None), None)


def _read_pretrained(path: Path, model: ModelConfig, notes: Sequence[str]) -> StartingWeights | None:
    """A backbone that was trained elsewhere; None if no backbone knows the file."""
    tensors = read_tensors(path)
    if tensors is None:
        return None
    for kind in backbones.BACKBONES:
        found = kind.read_pretrained(tensors, str(path))
        if found is None:
            continue
        if not model.backbone.accepts(found.config):
            raise UserError(
                f"{path}: holds {found.name}, but model.backbone is {_flow(model.backbone)}\n"
                f"set model.backbone to {_flow(found.config)}, or start from other weights"
            )
        state = {f"backbone.{name}": tensor for name, tensor in found.state.items()}
        return StartingWeights(str(path), state, found.settings, found.tolerant, notes=tuple(notes))
    return None


def _flow(backbone: BackboneConfig) -> str:
    """A section as one types it."""
    return "{" + ", ".join(f"{key}: {value}" for key, value in backbone.model_dump(exclude_unset=True).items()) + "}"


def adapt_config(config: Config, start: StartingWeights) -> tuple[Config, list[str]]:
    """The config with the settings that the weights were trained with, and a line for each that changed.

    Raises:
        UserError: the YAML file itself fixes another value.
    """
    lines = []
    for key, value in start.settings.items():
        section_name, name = key.split(".")
        section = getattr(config, section_name)
        own = getattr(section, name)
        if own == value:
            continue
        if name not in section.model_fields_set:
            changed = section.model_copy(update={name: value})
            config = config.model_copy(update={section_name: changed})
            lines.append(f"{key}: {_show(value)}, as {start.origin} was trained with")
        elif key == _TOLERATED and start.tolerant:
            lines.append(f"{key}: {_show(own)}, as the cfg says, though {start.origin} was trained with {_show(value)}")
        else:
            raise UserError(
                f"{key}: the cfg says {_show(own)}, but {start.origin} was trained with {_show(value)}\n"
                f"take {key} out of the cfg, or start from other weights"
            )
    return config, lines


def take_over(model: NativeDetector, names: Sequence[str], category_ids: Sequence[int], start: StartingWeights) -> str:
    """Load tensors of equal name and shape, and class outputs by class; return a message with the counts.

    Biases and batch norm go with their convolution's kernel: to another kernel they mean nothing.

    Args:
        model: is changed.
        names: of its classes, by label.
        category_ids: of its classes, or empty.
        start: the weights.

    Raises:
        UserError: the weights have nothing in common with the model.
    """
    match = match_classes(start.names, start.category_ids, names, category_ids) if start.names else None
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    state = _in_places_of(model, start.state)
    stretched = scale_x_y_of(model)
    if start.scale_x_y is not None and stretched is not None and start.scale_x_y != stretched:
        state = _with_centres_scaled(state, centre_factor(start.scale_x_y, stretched), len(start.names))
    whole: dict[str, Tensor] = {}
    in_part: dict[str, Tensor] = {}
    for name, tensor in own.items():
        given = state.get(name)
        if given is None or kernel_of(name) not in {name, *whole, *in_part}:
            continue
        layout = class_layout(name)
        if match is not None and layout is not None:
            merged = merge_class_outputs(tensor, given, match, len(names), layout)
            if merged is not None:
                (in_part if match.unmatched_data else whole)[name] = merged
        elif given.shape == tensor.shape:
            whole[name] = given
    taken = whole | in_part
    if not taken:
        raise UserError(
            f"{start.origin}: nothing in it fits the model: start from weights of the same backbone, neck or head, "
            "or with --weights none"
        )
    model.load_state_dict(taken, strict=False)
    if not any(class_layout(name) for name in taken):
        match = None  # a head of another kind has nothing to do with their classes
    fresh = [name for name in own if name not in taken]
    return _describe(start.origin, len(own), len(whole), len(in_part), match, fresh)


def _in_places_of(model: NativeDetector, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The backbone's last stage may be the second stage of the model."""
    stage = model.second_stage
    body = None if stage is None else stage.head.body
    return with_conv5_in_head(state, body) if isinstance(body, Conv5Body) else state


def centre_factor(given: float, wanted: float) -> float:
    """What t_x and t_y are multiplied by so that boxes stay where they are under another ``scale_x_y``.

    The offset from the middle of the cell is s * (sigmoid(t) - 0.5) under a scale of s. It stays the same in the middle
    and at 0.3 of a cell, and changes by at most 0.06 of a cell within 0.4. Where one of the scales, which Darknet does
    not bound, does not reach 0.3, it is 1.
    """
    if min(given, wanted) <= 0.6:
        return 1.0
    return math.atanh(0.6 / wanted) / math.atanh(0.6 / given)


def _with_centres_scaled(state: Mapping[str, Tensor], factor: float, num_classes: int) -> dict[str, Tensor]:
    scaled = dict(state)
    for name, tensor in state.items():
        if name.startswith("head.") and ".predict." in name and tensor.shape[0] % (5 + num_classes) == 0:
            per_anchor = tensor.clone().view(-1, 5 + num_classes, *tensor.shape[1:])
            per_anchor[:, :2] *= factor
            scaled[name] = per_anchor.view(tensor.shape)
    return scaled


def kernel_of(name: str) -> str:
    """The name of the kernel that a tensor belongs to: its own, or that of its layer or of the layer before it."""
    layer, _, kind = name.rpartition(".")
    for norm, conv in _NORM_AND_CONV:
        if norm.search(layer):
            return f"{norm.sub(conv, layer)}.weight"
    return f"{layer}.weight" if kind == "bias" else name


class ClassLayout(NamedTuple):
    """Layout of the rows of a prediction layer: ``before`` + C groups of ``rows`` each, once or per anchor."""

    before: int
    rows: int = 1
    per_anchor: bool = False


def class_layout(name: str) -> ClassLayout | None:
    """The layout of the tensor ``name``; None if its rows are not those of classes."""
    if ".predict." in name:
        return ClassLayout(before=5, per_anchor=True)  # box and objectness
    if name.startswith("head.box.classes."):
        return ClassLayout(before=1)  # the background
    if name.startswith("head.box.deltas."):
        return ClassLayout(before=1, rows=4)  # the background's box, which nothing uses
    return None


def merge_class_outputs(
    own: Tensor, given: Tensor, match: ClassMatch, num_classes: int, layout: ClassLayout
) -> Tensor | None:
    """A prediction layer's tensor with what is common to all classes, and shared classes, taken from another one's.

    Args:
        own: [A * (before + C) * rows, ...], C = ``num_classes``; its rows of other classes stay.
        given: [A * (before + C') * rows, ...] of as many anchors and inputs.
        match: which class of ``own`` each of the C' is.
        num_classes: C.
        layout: of both.

    Returns:
        The merged tensor, or None if the layouts do not fit.
    """
    before, rows, per_anchor = layout
    if not per_anchor:  # what is behind the classes is none
        given, own_classes = given[: (before + len(match.mapping)) * rows], own[: (before + num_classes) * rows]
        merged = merge_class_outputs(own_classes, given, match, num_classes, layout._replace(per_anchor=True))
        return None if merged is None else torch.cat([merged, own[len(merged) :]])
    given_groups, own_groups = before + len(match.mapping), before + num_classes
    if given.shape[1:] != own.shape[1:] or given.shape[0] % (given_groups * rows):
        return None
    anchors = given.shape[0] // (given_groups * rows)
    if anchors * own_groups * rows != own.shape[0]:
        return None
    merged = own.clone().view(anchors, own_groups, rows, *own.shape[1:])
    theirs_by_group = given.view(anchors, given_groups, rows, *own.shape[1:])
    merged[:, :before] = theirs_by_group[:, :before]
    for theirs, ours in enumerate(match.mapping):
        if ours is not None:
            merged[:, before + ours] = theirs_by_group[:, before + theirs]
    return merged.view(own.shape)


def _settings_of(metadata: Metadata) -> dict[str, Any]:
    assert metadata.model is not None  # a native detector has one
    input = metadata.input
    bands = {} if input.is_plain else {"input.channels": input.channels, "input.range": input.range}
    return {
        "model.norm_eps": metadata.model.norm_eps,
        "model.leaky_slope": metadata.model.leaky_slope,
        **bands,
        "input.mean": input.mean,
        "input.std": input.std,
    }


def _describe(origin: str, total: int, whole: int, in_part: int, match: ClassMatch | None, fresh: Sequence[str]) -> str:
    line = f"weights: {whole} of {total} tensors taken from {origin}"
    if match is not None and match.how is not None:
        taken = sum(label is not None for label in match.mapping)
        classes = taken + len(match.unmatched_data)
        line += f", {in_part} in part: {taken} of {classes} classes are known, by {match.how}"
    elif match is not None:
        line += f", {in_part} in part: all classes are new"
    if fresh:
        modules = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in fresh))
        line += f"; {len(fresh)} fresh: {', '.join(modules)}"
    return line


def _show(value: Any) -> str:  # noqa: ANN401
    return str(list(value)) if isinstance(value, tuple) else str(value) if value is None else f"{value:g}"
