"""NMS of tensors on any device, computed by the NMS of arrays."""

from __future__ import annotations

import torch
from torch import Tensor

from yolofpn.ops import nms as arrays


def nms(boxes: Tensor, scores: Tensor, nms_thresh: float) -> Tensor:
    """``ops.nms.nms``; the indices are int64 on the device of ``boxes``."""
    return torch.from_numpy(arrays.nms(boxes, scores, nms_thresh)).to(boxes.device)


def batched_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, nms_thresh: float, distance_exponent: float | None = None
) -> Tensor:
    """``ops.nms.batched_nms``; the indices are int64 on the device of ``boxes``."""
    kept = arrays.batched_nms(boxes, scores, labels, nms_thresh, distance_exponent)
    return torch.from_numpy(kept).to(boxes.device)
