"""What backbones that were trained on ImageNet have in common: how their files are read, and their input."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

# Of values in 0..1, RGB, unless a model says otherwise.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a safetensors file or of a ``.pth`` file, of which only tensors are ever read; None if it is none.

    Training checkpoints keep them under 'state_dict'.
    """
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
