"""Boxes of detections as arrays: what needs no gradients and no GPU, and so no PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def clip_boxes(boxes: Floats, size: tuple[int, int]) -> Floats:
    """[..., 4] boxes clipped to an image of ``size`` (height, width); one that lies outside becomes empty."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def box_iou(boxes1: Floats, boxes2: Floats) -> Floats:
    """IoU of every box of ``boxes1`` [N, 4] with every one of ``boxes2`` [M, 4] -> [N, M]; 0 where both are empty."""
    top_left = np.maximum(boxes1[:, None, :2], boxes2[None, :, :2])
    bottom_right = np.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    intersection = np.clip(bottom_right - top_left, 0, None).prod(axis=-1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=-1) for boxes in (boxes1, boxes2)]
    union = areas[0][:, None] + areas[1][None] - intersection
    ious: Floats = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return ious
