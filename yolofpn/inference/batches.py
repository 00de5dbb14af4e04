"""Pictures that go through the network together."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from yolofpn.ops.resize import NetworkImage


def to_batch(images: Sequence[NetworkImage]) -> NDArray[np.uint8] | NDArray[np.float32]:
    """[H, W, 3] BGR, all of one size -> [B, 3, H, W] RGB of the same type."""
    height, width, _ = images[0].shape
    batch = np.empty((len(images), 3, height, width), images[0].dtype)
    for image, planes in zip(images, batch, strict=True):
        cv2.mixChannels([image], list(planes), [2, 0, 1, 1, 0, 2])  # five times as fast as NumPy or torch
    return batch


def group_by_size(images: Sequence[NetworkImage]) -> list[list[int]]:
    """The indices of pictures of each size, which can share a batch."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.shape, []).append(index)
    return list(groups.values())
