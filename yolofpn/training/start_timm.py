"""timm's Darknet-53 as a backbone to start from: its tensors under our names, and what it was trained with."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

# Values in 0..1, RGB, that timm normalises with unless a model says otherwise; its darknet53 does not.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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


def read_timm(path: Path) -> dict[str, Tensor] | None:
    """The backbone of a timm ``darknet53`` file under our names, or None if it is none.

    Args:
        path: a safetensors file, or a ``.pth`` file, of which only tensors are ever read.
    """
    tensors = _tensors(path)
    if tensors is None or _FIRST not in tensors:
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


def _tensors(path: Path) -> dict[str, Tensor] | None:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's doubts about pickles that are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError):
        return None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        return None
    return content
