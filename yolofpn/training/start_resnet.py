"""ResNets trained on ImageNet as backbones to start from: torchvision's files, and others with its names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from yolofpn.config import ModelConfig, ResNetConfig
from yolofpn.errors import UserError
from yolofpn.models.backbones.resnet import RESNET_DEPTHS, ResNet
from yolofpn.training.start_imagenet import IMAGENET_MEAN, IMAGENET_STD

RESNET_SETTINGS: Mapping[str, Any] = {"model.norm_eps": 1e-5, "input.mean": IMAGENET_MEAN, "input.std": IMAGENET_STD}
_FIRST = "layer1.0.conv1.weight"
_COUNTER = ".num_batches_tracked"  # which older files do without


def resnet_backbone(tensors: Mapping[str, Tensor], model: ModelConfig, origin: str) -> dict[str, Tensor] | None:
    """The backbone under our names if ``tensors`` are those of a ResNet, else None.

    Args:
        tensors: of the whole file; its classifier is left aside.
        model: the model that will take them over.
        origin: the file, as shown to people.

    Raises:
        UserError: they are those of another ResNet than the model's.
    """
    if _FIRST not in tensors:
        return None
    given = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    depth = _depth_of(given)
    if depth is None:
        raise UserError(
            f"{origin}: no ResNet-18, -34, -50, -101 or -152: its blocks have other shapes\n"
            "start from torchvision's file of one of these"
        )
    own = model.backbone
    if not isinstance(own, ResNetConfig) or own.depth != depth:
        wanted = f"depth {own.depth}" if isinstance(own, ResNetConfig) else f"type {own.type}"
        raise UserError(
            f"{origin}: holds a ResNet-{depth}, but model.backbone is of {wanted}\n"
            f"set model.backbone to {{type: resnet, depth: {depth}}}, or start from other weights"
        )
    return {f"backbone.{name}": tensor for name, tensor in given.items()}


def _depth_of(given: Mapping[str, Tensor]) -> int | None:
    """Which ResNet has tensors of these names and shapes."""
    for depth in RESNET_DEPTHS:
        with torch.device("meta"):
            own = ResNet(depth).state_dict()
        if _shapes(own) == _shapes(given):
            return depth
    return None


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items() if not name.endswith(_COUNTER)}
