"""Types that arrays and settings share, and the way from tensors to arrays."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

# [H, W, 3] uint8, BGR; or [H, W, N] float32 of the same range 0..255, as ``yolofpn.bands`` explains.
Image: TypeAlias = NDArray[Any]
ResizeMode: TypeAlias = Literal["letterbox", "stretch", "shortest-edge"]
Arrays: TypeAlias = "ArrayLike | Tensor"  # what ``to_array`` takes
Index: TypeAlias = "int | slice | Arrays"
RawMaps: TypeAlias = dict[str, Any]  # [B, C, H, W] float32 by name: arrays of a graph, or tensors of PyTorch


def to_array(values: Arrays, dtype: type[np.generic] | None = None) -> NDArray[Any]:
    """An array of ``dtype`` (None: of their own), which shares memory with ``values`` where that is possible.

    Args:
        values: also a tensor of PyTorch, on any device and of any type.
        dtype: of the result.
    """
    if hasattr(values, "detach"):  # PyTorch need not be installed
        tensor = values.detach().cpu()
        values = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return np.asarray(values, dtype)


def rows_of(index: Index, count: int) -> Any:  # noqa: ANN401
    """What chooses rows of arrays or tensors: an integer becomes a slice of one row.

    Raises:
        IndexError: it is an integer beyond the rows.
        TypeError: it is one number, but no integer.
    """
    if not isinstance(index, int | slice):
        chosen: Any = index if hasattr(index, "detach") else np.asarray(index)
        if chosen.ndim:
            return chosen if len(chosen) or "bool" in str(chosen.dtype) else slice(0, 0)
        index = operator.index(chosen)
    if isinstance(index, slice):
        return index
    if not -count <= index < count:
        raise IndexError(f"row {index} of {count}")
    return slice(index, index + 1 or None)
