"""The contract of what runs a detector's dense part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

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
        """Begin with uint8 [B, 3, H, W] RGB; what is returned waits for the end and gives the maps.

        The maps have the names and shapes of ``Detector.dense`` and are float32. ``batch`` must not be changed before
        they are there. Any thread may wait; waiting twice is not allowed.
        """
        ...
