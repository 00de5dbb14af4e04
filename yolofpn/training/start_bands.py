"""Takes weights for RGB images over into a network for bands: fits the first kernel to number and normalisation."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from yolofpn.config import Config, InputConfig
from yolofpn.models.input_channels import RGB, inflate_kernel
from yolofpn.training.optim import without_parameter
from yolofpn.training.start import StartingWeights, kernel_of

_NORMALIZATION = {"input.mean": 0.0, "input.std": 1.0}  # of weights that name none


def fit_to_bands(start: StartingWeights, input: InputConfig) -> StartingWeights:
    """The weights with a first kernel for ``input``, whose mean and std stay as the config says.

    Bands that are all the gray of an image cause the responses that the gray image caused, but at the image's border,
    which the convolution pads with the mean. (Where their number is neither 1 nor a multiple of 3, about these.) The
    kernel takes over the quotient of both standard deviations. The difference of the means shifts all responses of a
    filter alike: the mean that the batch norm behind it subtracts moves with them, which matters if the norm is frozen.

    Args:
        start: weights; those that are for bands themselves stay as they are.
        input: of the network that takes them over.
    """
    name = _first_kernel(start)
    if input.is_plain or name is None or "input.channels" in start.settings:
        return start
    mean, std = (torch.tensor(start.settings.get(key, (default,) * RGB)) for key, default in _NORMALIZATION.items())
    given = start.state[name] / std.view(1, -1, 1, 1)
    kernel = inflate_kernel(given, input.channels)
    shift = _response(given, mean) - _response(kernel, torch.tensor(input.mean))
    state: dict[str, Tensor] = {**start.state, name: kernel * torch.tensor(input.std).view(1, -1, 1, 1)}
    for norm in _running_means(start, name):
        state[norm] = state[norm] + shift
    settings = {key: value for key, value in start.settings.items() if key not in _NORMALIZATION}
    if input.channels == RGB:
        return replace(start, state=state, settings=settings)
    how = "summed over RGB" if input.channels == 1 else f"repeated for {input.channels} bands"
    notes = (*start.notes, f"weights: the first kernel is {how}")
    return replace(start, state=state, settings=settings, notes=notes, guessed_kernel=name)


def let_guess_learn(config: Config, start: StartingWeights, model: nn.Module) -> tuple[Config, list[str]]:
    """Take a first kernel that was made for other bands out of ``train.freeze``: it would stay a guess for ever.

    The norm behind it and the rest of the prefix stay frozen.

    Args:
        config: of the run.
        start: what ``fit_to_bands`` returned.
        model: the network, whose parts prefixes name.

    Returns:
        The config, and a line for what changed.
    """
    given, name = config.train.freeze, start.guessed_kernel
    if name is None:
        return config, []
    freeze = without_parameter(model, given, name)
    if freeze == given:
        return config, []
    line = f"train.freeze: {name} learns all the same, as it was made for other bands"
    return config.model_copy(update={"train": config.train.model_copy(update={"freeze": freeze})}), [line]


def _response(kernel: Tensor, values: Tensor) -> Tensor:
    """[O] of the filters [O, C, H, W] to channels that are ``values`` [C] everywhere."""
    return torch.einsum("ochw,c->o", kernel, values.to(kernel.dtype))


def _running_means(start: StartingWeights, kernel: str) -> list[str]:
    """The running mean of the norm behind the kernel, if it has one."""
    return [name for name in start.state if name.endswith(".running_mean") and kernel_of(name) == kernel]


def _first_kernel(start: StartingWeights) -> str | None:
    """The only kernel of the backbone that takes three channels."""
    found = [
        name
        for name, tensor in start.state.items()
        if name.startswith("backbone.") and tensor.ndim == 4 and tensor.shape[1] == RGB
    ]
    return found[0] if len(found) == 1 else None
