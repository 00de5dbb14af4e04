"""A moving average of the weights, which detects better than the weights themselves."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

ModelT = TypeVar("ModelT", bound=nn.Module)


class ModelEMA(Generic[ModelT]):
    """An exponential moving average of parameters and batch norm statistics.

    Args:
        model: what is averaged.
        decay: weight of the past at each update.
        warmup: updates during which less of the past counts: decay x (1 - exp(-updates / warmup)).

    Attributes:
        model: the averaged copy, in evaluation mode.
    """

    def __init__(self, model: ModelT, decay: float, warmup: int) -> None:
        self.model: ModelT = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.warmup = warmup
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the weights of ``model``."""
        self.updates += 1
        decay = self.decay * (1 - math.exp(-self.updates / self.warmup))
        source = model.state_dict()
        averaged: list[Tensor] = []
        new: list[Tensor] = []
        for name, tensor in self.model.state_dict().items():
            if tensor.dtype.is_floating_point:
                averaged.append(tensor)
                new.append(source[name])
            else:
                tensor.copy_(source[name])
        torch._foreach_lerp_(averaged, new, 1 - decay)
