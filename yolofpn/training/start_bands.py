"""Takes weights for RGB images over into a network for bands: fits the first kernel to number and normalisation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from yolofpn.config import InputConfig
from yolofpn.models.input_channels import RGB, inflate_kernel

if TYPE_CHECKING:
    from yolofpn.training.start import StartingWeights

_NORMALIZATION = ("input.mean", "input.std")


def fit_to_bands(start: StartingWeights, input: InputConfig) -> StartingWeights:
    """The weights with a first kernel for ``input``, whose mean and std stay as the config says.

    A band that is the gray of an image causes the responses that the gray image caused: the kernel takes over the
    quotient of both standard deviations. The difference of the means shifts all responses alike, which the batch norm
    behind it removes.

    Args:
        start: weights; those that are for bands themselves stay as they are.
        input: of the network that takes them over.
    """
    name = _first_kernel(start)
    if input.is_plain or name is None or "input.channels" in start.settings:
        return start
    given = torch.tensor(start.settings.get("input.std", (1.0,) * RGB)).view(1, -1, 1, 1)
    own = torch.tensor(input.std).view(1, -1, 1, 1)
    kernel = inflate_kernel(start.state[name] / given, input.channels)
    settings = {key: value for key, value in start.settings.items() if key not in _NORMALIZATION}
    how = "summed over RGB" if input.channels == 1 else f"repeated for {input.channels} bands"
    note = [f"weights: the first kernel is {how}"] if input.channels != RGB else []
    state: dict[str, Tensor] = {**start.state, name: kernel * own}
    return replace(start, state=state, settings=settings, notes=(*start.notes, *note))


def _first_kernel(start: StartingWeights) -> str | None:
    """The only kernel of the backbone that takes three channels."""
    found = [
        name
        for name, tensor in start.state.items()
        if name.startswith("backbone.") and tensor.ndim == 4 and tensor.shape[1] == RGB
    ]
    return found[0] if len(found) == 1 else None
