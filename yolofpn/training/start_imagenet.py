"""What backbones that were trained on ImageNet have in common: how their files are read, and their input."""

from __future__ import annotations

import contextlib
from pathlib import Path

from torch import Tensor

from yolofpn.reading import ParseError
from yolofpn.tensor_files import read_pickle, read_safetensors

# Of values in 0..1, RGB, unless a model says otherwise.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a safetensors file or of a ``.pth`` file, of which only tensors are ever read; None if it is none.

    Training checkpoints keep them under 'state_dict'.
    """
    with contextlib.suppress(ParseError):
        return read_safetensors(path)[0]
    try:
        content = read_pickle(path)
    except (ParseError, OSError):
        return None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        return None
    return content
