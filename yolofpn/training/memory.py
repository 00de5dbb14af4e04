"""Estimates the memory of a training step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from yolofpn.config import AdamWConfig, TrainConfig
from yolofpn.detector import blank_images
from yolofpn.models.build import NativeDetector

# The gradients of maps, and what the loss compares, take about half as much again as the maps themselves: on a CPU
# 0.46 times with float32 and 0.78 times with bfloat16 were measured for cfg/yolofpn-tiny.yaml at 416 x 416.
BACKWARD_SHARE = 0.6


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on the network's device.

    Attributes:
        state: weights, gradients, the optimiser's and the averaged copies.
        per_image: what every image takes at the peak, in the backward pass.
        batch_size: images that are there at a time.
    """

    state: int
    per_image: int
    batch_size: int

    @property
    def total(self) -> int:
        """The estimated memory of a training step."""
        return self.state + self.batch_size * self.per_image

    def __str__(self) -> str:
        return (
            f"memory: about {self.total / 1e9:.2f} GB: {self.state / 1e9:.2f} GB for weights, gradients, optimiser and "
            f"average, {self.per_image / 1e6:.0f} MB for each of {self.batch_size} images"
        )


def estimate_memory(
    model: NativeDetector, settings: TrainConfig, size: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> MemoryEstimate:
    """Measure a forward pass of a few gray images; the images' own loading is not counted.

    Args:
        model: is left as it is.
        settings: of the run.
        size: (height, width) of the largest input.
        device: where the model lies.
        dtype: of the network's arithmetic.
    """
    copies = 3 + isinstance(settings.optimizer, AdamWConfig) + (settings.ema_decay > 0)
    learning = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    # The difference of two passes leaves out what is kept once, as float16 copies of the weights are.
    few, many = (kept_bytes(model, blank_images(model, size, count, device).float(), dtype) for count in (1, 2))
    kept = many - few
    per_image = round((1 + BACKWARD_SHARE) * kept)
    return MemoryEstimate(copies * learning + max(0, few - kept), per_image, settings.batch_size)


def kept_bytes(model: NativeDetector, images: Tensor, dtype: torch.dtype) -> int:
    """Bytes that the network's forward pass on ``images`` [B, 3, H, W] keeps for the backward pass."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = model.training
    model.eval()  # batch norm keeps as much, and its statistics stay as they are
    try:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
                maps = model.dense(images)
            return sum(kept.values()) + sum(single.nbytes for single in maps.values())
    finally:
        model.train(was_training)
