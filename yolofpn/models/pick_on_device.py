"""The first step of decoding where the maps are: little of them has to leave a GPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from yolofpn.errors import NaNOutputError

Indices = NDArray[np.int64]


def pick_on_device(
    raw: Tensor, place: int, lowest: float, *, is_score: bool
) -> tuple[tuple[Indices, Indices, Indices, Indices], NDArray[np.float32]]:
    """``postprocess.pick_above`` for a tensor [B, A, 5 + C, H, W] on any device; the results are on the CPU.

    Raises:
        NaNOutputError: if the map holds NaN.
    """
    if bool(raw.isnan().any()):
        raise NaNOutputError
    objectness = raw[:, :, place].float()
    index = ((objectness if is_score else objectness.sigmoid()) > lowest).nonzero()  # [K, 4]
    image, anchor, row, column = index.unbind(dim=1)
    picked = raw[image, anchor, :, row, column].detach().float().cpu().numpy()
    columns = index.cpu().numpy()
    return (columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3]), picked
