"""The featurised image pyramid: one detector on several sizes of a picture, and what it found on each made one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from yolofpn.ops.nms import batched_nms
from yolofpn.structures import Detections, Limits


def merge_detections(parts: Sequence[Detections], limits: Limits) -> Detections:
    """What was found in one picture at each size, in pixels of the picture, without what was found twice.

    Args:
        parts: one for each size, at least one; a single one comes back as it is.
        limits: NMS within each class at its threshold, then its number of the best; the scores are not looked at.
    """
    if len(parts) == 1:
        return parts[0]
    boxes, scores, labels = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("boxes", "scores", "labels")
    )
    keep = batched_nms(boxes, scores, labels, limits.nms_thresh)[: limits.detections_per_img]
    return replace(parts[0], boxes=boxes[keep], scores=scores[keep], labels=labels[keep])
