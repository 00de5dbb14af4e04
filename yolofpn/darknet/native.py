"""Maps native models to Darknet weights: the layers in the order in which Darknet stores them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import nn

from yolofpn.config import DarknetHeader
from yolofpn.darknet.norms import divisor_squared, variance_for
from yolofpn.darknet.weights_file import (
    NEW_HEADER,
    LoadedLayers,
    NormEps,
    WeightLayer,
    count_numbers,
    norm_eps_of,
    open_weights,
    read_layers,
)
from yolofpn.errors import UserError
from yolofpn.models.backbones.darknet import Darknet, Darknet19, DarknetClassifier
from yolofpn.models.backbones.yolov3_tiny import TinyDarknet
from yolofpn.models.layers import ConvBNAct, LowRankConvBNAct
from yolofpn.models.necks.fpn import ConcatFPN
from yolofpn.models.necks.tiny import TinyFPN
from yolofpn.models.yolo import YOLO

DARKNET_BACKBONES = (Darknet, Darknet19, TinyDarknet)
DARKNET_NECKS = (ConcatFPN, TinyFPN)


def native_layers(model: YOLO) -> list[WeightLayer]:
    """Return the layers of ``model`` in the order of yolov3.weights: the backbone, then the levels from coarse to fine.

    Raises:
        UserError: the model has no Darknet counterpart: its backbone is none of Darknet's, or its neck adds instead of
            concatenating.
    """
    if not isinstance(model.backbone, DARKNET_BACKBONES):
        raise UserError("Darknet's files hold Darknet backbones: this model has another one")
    if not isinstance(model.neck, DARKNET_NECKS):
        raise UserError(
            "Darknet's YOLOv3 concatenates: only models with a neck of type concat or tiny read and write its files"
        )
    layers = list(_layers_of(model.backbone))
    for level in reversed(model.neck.built_levels):
        layers += _layers_of(model.neck.get_submodule(f"p{level}"))
        if level in model.neck.levels:
            layers += _layers_of(model.head.get_submodule(f"p{level}"))
    return layers


def layers_to_write(model: YOLO, header: DarknetHeader = NEW_HEADER) -> list[WeightLayer]:
    """Return ``native_layers`` with variances adjusted to the epsilon of the program that writes ``header``.

    Raises:
        UserError: as ``native_layers``.
    """
    eps = norm_eps_of(header)
    return [WeightLayer(layer.conv, _with_eps(layer.norm, eps)) for layer in native_layers(model)]


def copy_into_native(wanted: Sequence[WeightLayer], given: Sequence[WeightLayer]) -> None:
    """Copy parameters from a Darknet network into a native model, with variances adjusted to its epsilon."""
    for target, source in zip(wanted, given, strict=True):
        target.copy_from(source)
        if target.norm is not None and source.norm is not None:
            assert target.norm.running_var is not None
            target.norm.running_var.copy_(variance_for(divisor_squared(source.norm), NormEps(target.norm.eps)))


def _with_eps(norm: nn.BatchNorm1d | nn.BatchNorm2d | None, eps: NormEps) -> nn.BatchNorm1d | nn.BatchNorm2d | None:
    if norm is None or NormEps(norm.eps) == eps:
        return norm
    changed = copy.deepcopy(norm)
    assert changed.running_var is not None
    changed.running_var.copy_(variance_for(divisor_squared(norm), eps))
    return changed


def require_darknet_counterpart(model: YOLO) -> None:
    """Check that Darknet can run ``model``.

    Raises:
        UserError: if it cannot; the message gives the reason.
    """
    slopes = {module.negative_slope for module in model.modules() if isinstance(module, nn.LeakyReLU)}
    foreign = {
        "other backbones than its own": not isinstance(model.backbone, DARKNET_BACKBONES),
        "other necks than those of type concat and tiny": not isinstance(model.neck, DARKNET_NECKS),
        "upsample: bilinear": getattr(model.neck, "upsample", "nearest") != "nearest",
        "xy: linear": any(spec.linear_xy for spec in model.specs.values()),
        "a leaky_slope other than 0.1": slopes != {0.1},
        "input mean and std": bool(model.normalize.mean.any() or (model.normalize.std != 1).any()),
    }
    if reasons := [name for name, present in foreign.items() if present]:
        raise UserError(f"Darknet has no {' and no '.join(reasons)}: this model cannot be written as .weights")


def load_classifier(model: DarknetClassifier, path: str | Path) -> LoadedLayers:
    """Load the ``.weights`` file of an ImageNet classifier (darknet19.weights, darknet53.weights) into ``model``.

    Raises:
        UserError: if the file is no Darknet file, or its size does not fit the model.
    """
    layers = [*_layers_of(model.backbone), WeightLayer(model.connected)]
    weights = open_weights(path)
    loaded = weights.layers_held([count_numbers([layer]) for layer in layers])
    if loaded != len(layers):
        raise UserError(f"{path}: ends after {loaded} of {len(layers)} layers: this is a backbone, not a classifier")
    result, eps = read_layers(weights, layers), norm_eps_of(weights.header)
    for layer in layers:
        if layer.norm is not None:
            assert layer.norm.running_var is not None
            layer.norm.eps = 0.0 if eps.outside_root else eps.value
            if eps.outside_root:
                layer.norm.running_var.sqrt_().add_(eps.value).square_()
    return result


def _layers_of(module: nn.Module) -> Iterator[WeightLayer]:
    """Yield convolutions with their batch norm in the order of construction, which is Darknet's."""
    if isinstance(module, ConvBNAct):
        if isinstance(module, LowRankConvBNAct):
            yield WeightLayer(module.basis)
        yield WeightLayer(module.conv, module.norm)
    elif isinstance(module, nn.Conv2d):
        yield WeightLayer(module)
    else:
        for child in module.children():
            yield from _layers_of(child)
