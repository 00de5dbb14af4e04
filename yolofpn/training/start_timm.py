"""timm's Darknet-53 as a backbone to start from: its tensors under our names, and what it was trained with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from yolofpn.training.start_imagenet import IMAGENET_MEAN, IMAGENET_STD

TIMM_SETTINGS: Mapping[str, Any] = {
    "model.leaky_slope": 0.01,
    "model.norm_eps": 1e-5,
    "input.mean": IMAGENET_MEAN,
    "input.std": IMAGENET_STD,
}
_FIRST = "stem.conv1.conv.weight"
_PLACES = (
    (re.compile(r"stem\.conv1\."), "backbone.stem."),
    (re.compile(r"stages\.(\d+)\.conv_down\."), r"backbone.stages.{0}.0."),
    (re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.(conv[12])\."), r"backbone.stages.{0}.{1}.{2}."),
)


def timm_darknet53(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The backbone under our names if ``tensors`` are those of timm's ``darknet53``, else None."""
    if _FIRST not in tensors:
        return None
    renamed = {rename(name): tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    return None if None in renamed else {str(name): tensor for name, tensor in renamed.items()}


def rename(name: str) -> str | None:
    """Our name of one of timm's tensors; None if Darknet-53 has no such tensor."""
    for pattern, place in _PLACES:
        if match := pattern.match(name):
            numbers = list(match.groups())
            if len(numbers) == 3:
                numbers[1] = str(int(numbers[1]) + 1)  # our block 0 is the convolution that halves the size
            kind, _, rest = name[match.end() :].partition(".")
            ours = {"conv": "conv", "bn": "norm"}.get(kind)
            return f"{place.format(*numbers)}{ours}.{rest}" if ours and "." not in rest else None
    return None
