"""Chooses the faster training precision by timing both."""

from __future__ import annotations

import copy
import math
import time

import torch
from torch import Tensor

from yolofpn.detector import blank_images
from yolofpn.devices import choose_dtype
from yolofpn.models.build import NativeDetector

SIDE = 224  # pixels: the ratio of both is that of larger images, and small ones are quick
IMAGES = 2
STEPS = 3
NEEDED_GAIN = 1.05  # bfloat16 has to be faster by so much, as float32 is more exact


def training_dtype(precision: str, model: NativeDetector, device: torch.device) -> tuple[torch.dtype, str | None]:
    """The arithmetic that ``precision`` ('auto', 'fp32', 'bf16' or 'fp16') means, and a line where it was measured.

    Args:
        precision: 'auto' is bfloat16 on GPUs that have it in hardware; on a CPU the faster one of bfloat16 and float32.
        model: is left as it is.
        device: where the model lies.
    """
    if precision != "auto" or device.type != "cpu":
        return choose_dtype(precision, device), None
    exact = seconds_per_step(model, torch.float32, math.inf)
    rounded = seconds_per_step(model, torch.bfloat16, 2 * exact)
    gain = exact / rounded
    faster = torch.bfloat16 if gain > NEEDED_GAIN else torch.float32
    name, times = ("bf16", gain) if faster is torch.bfloat16 else ("fp32", 1 / gain)
    at_least = "at least " if rounded >= 2 * exact else ""
    return faster, f"precision: {name}, measured: {at_least}{times:.2f} times as fast as the other of fp32 and bf16"


def seconds_per_step(model: NativeDetector, dtype: torch.dtype, limit: float) -> float:
    """The shortest of some passes forward and back through a copy of the dense part, after one that does not count.

    Args:
        model: is left as it is.
        dtype: of the arithmetic.
        limit: in seconds; a first pass of more than twice that is not repeated.
    """
    network = copy.deepcopy(model).train()
    side = SIDE // model.size_divisor * model.size_divisor
    images = (blank_images(model, (side, side), IMAGES) + 128).contiguous(memory_format=torch.channels_last)
    best = math.inf
    for number in range(STEPS + 1):
        start = time.perf_counter()
        _pass(network, images, dtype)
        seconds = time.perf_counter() - start
        if number > 0 or seconds > 2 * limit:
            best = min(best, seconds)
        if seconds > 2 * limit:
            break
    return best


def _pass(network: NativeDetector, images: Tensor, dtype: torch.dtype) -> None:
    network.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        maps: dict[str, Tensor] = network.dense(images)
        total = torch.stack([out.float().sum() for out in maps.values()]).sum()
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
