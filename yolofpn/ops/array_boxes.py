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
    x1, y1, x2, y2 = boxes2.T
    width = np.minimum(boxes1[:, 2:3], x2) - np.maximum(boxes1[:, :1], x1)  # by coordinate: three times as fast
    height = np.minimum(boxes1[:, 3:], y2) - np.maximum(boxes1[:, 1:2], y1)
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    area1, area2 = (np.multiply(*np.maximum(boxes[:, 2:] - boxes[:, :2], 0).T) for boxes in (boxes1, boxes2))
    union = area1[:, None] + area2 - intersection
    ious: Floats = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return ious
