"""The contract of what runs a detector's dense part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

Wait: TypeAlias = Callable[[], dict[str, Tensor]]


class Backend(Protocol):
    """Runs ``Detector.dense``: pictures in, raw maps out; everything around it is the same for all backends.

    Attributes:
        name: 'torch', 'openvino' or 'onnx'.
        precision: of its arithmetic, 'fp32', 'bf16', 'fp16' or 'int8'.
        slots: how many batches in flight pay off: start so many before waiting for the first.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def precision(self) -> str: ...  # noqa: D102

    @property
    def slots(self) -> int: ...  # noqa: D102

    def start(self, batch: Tensor) -> Wait:
        """Begin with [B, 3, H, W] RGB; what is returned waits for the end and gives the maps.

        The pictures are uint8, or float of the same 0..255 range, which graphs outside PyTorch round.
        The maps have the names and shapes of ``Detector.dense`` and are float32. ``batch`` must not be changed before
        they are there. Any thread may wait; waiting twice is not allowed.
        """
        ...


def as_uint8(batch: Tensor) -> Tensor:
    """What a graph takes, in one piece of memory."""
    return (batch if batch.dtype == torch.uint8 else batch.round().to(torch.uint8)).contiguous()


@dataclass(frozen=True)
class InChunks:
    """A ``Backend`` for batches of any size around one whose graph takes no more than ``most``."""

    inner: Backend
    most: int

    @property
    def name(self) -> str:
        """Of the inner one."""
        return self.inner.name

    @property
    def precision(self) -> str:
        """Of the inner one."""
        return self.inner.precision

    @property
    def slots(self) -> int:
        """Of the inner one."""
        return self.inner.slots

    def start(self, batch: Tensor) -> Wait:
        """Begins with every part of the batch."""
        waits = [self.inner.start(part) for part in torch.split(batch, self.most)]

        def wait() -> dict[str, Tensor]:
            parts = [each() for each in waits]
            return {name: torch.cat([maps[name] for maps in parts]) for name in parts[0]}

        return wait
