"""The contract of what runs a detector's dense part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from yolofpn.types import RawMaps, to_array

if TYPE_CHECKING:
    from torch import Tensor

Batch: TypeAlias = "NDArray[np.uint8] | NDArray[np.float32] | Tensor"  # [B, N, H, W] in 0..255, three channels RGB
Wait: TypeAlias = Callable[[], RawMaps]


class Backend(Protocol):
    """Runs ``Detector.dense``: images in, raw maps out; everything around it is the same for all backends.

    Attributes:
        name: 'torch', or the key of a runtime.
        precision: of its arithmetic, 'fp32', 'bf16', 'fp16' or 'int8'.
        slots: requests in flight that it can use: start so many before waiting for the first.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def precision(self) -> str: ...  # noqa: D102

    @property
    def slots(self) -> int: ...  # noqa: D102

    def start(self, batch: Batch) -> Wait:
        """Start a forward pass of [B, 3, H, W] RGB; return a function that waits for the raw outputs.

        The images are uint8, or float of the same 0..255 range, which graphs that take uint8 round.
        The maps have the names and shapes of ``Detector.dense`` and are float32: arrays, or PyTorch's tensors.
        ``batch`` must not be changed before they are there. Any thread may wait; waiting twice is not allowed.
        """
        ...


def as_input(batch: Batch, *, is_float: bool) -> NDArray[Any]:
    """Return the batch as a graph takes it.

    Args:
        batch: uint8, or float of the range 0..255.
        is_float: the graph takes floats: of bands in 0..255, as they are; of layouts for other programs in 0..1, whose
            images are uint8 here.
    """
    return as_floats(batch, unit=True) if is_float else as_uint8(batch)


def as_floats(batch: Batch, *, unit: bool) -> NDArray[np.float32]:
    """Return the batch as a graph takes it that knows no bytes.

    Args:
        batch: uint8, or float of bands, in any range, which stays as it is.
        unit: bytes become 0..1, not 0..255.
    """
    array = to_array(batch)
    floats = array.astype(np.float32, copy=False)
    return np.ascontiguousarray(floats / np.float32(255) if unit and array.dtype == np.uint8 else floats)


def as_uint8(batch: Batch) -> NDArray[np.uint8]:
    """Return the batch as a contiguous array."""
    array = to_array(batch)
    return np.ascontiguousarray(array if array.dtype == np.uint8 else array.round().astype(np.uint8))


@dataclass(frozen=True)
class Wrapped:
    """A ``Backend`` around another one, whose name, precision and slots it has; a subclass says how it starts."""

    inner: Backend

    @property
    def name(self) -> str:
        """See ``Backend``."""
        return self.inner.name

    @property
    def precision(self) -> str:
        """See ``Backend``."""
        return self.inner.precision

    @property
    def slots(self) -> int:
        """See ``Backend``."""
        return self.inner.slots


@dataclass(frozen=True)
class InChunks(Wrapped):
    """For batches of any size, around a backend whose graph takes no more than ``most``."""

    most: int

    def start(self, batch: Batch) -> Wait:
        """Begins with every part of the batch."""
        waits = [self.inner.start(batch[first : first + self.most]) for first in range(0, len(batch), self.most)]

        def wait() -> RawMaps:
            parts = [each() for each in waits]
            return {name: np.concatenate([to_array(maps[name]) for maps in parts]) for name in parts[0]}

        return wait
