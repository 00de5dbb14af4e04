"""Types that arrays and settings share, and the way from tensors to arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

Image: TypeAlias = NDArray[np.uint8]  # [H, W, 3], BGR
ResizeMode: TypeAlias = Literal["letterbox", "stretch", "shortest-edge"]
Arrays: TypeAlias = "ArrayLike | Tensor"  # what ``to_array`` takes
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
