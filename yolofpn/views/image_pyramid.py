"""The featurised image pyramid: one detector on several sizes of an image, and what it found on each made one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from yolofpn.ops.nms import batched_nms
from yolofpn.structures import Detections, Limits


def merge_detections(
    parts: Sequence[Detections],
    limits: Limits,
    distance_exponent: float | None = None,
    image_size: tuple[int, ...] = (1, 1),
) -> Detections:
    """What was found in one image at each size, in pixels of the image, without what was found twice.

    Args:
        parts: one for each size, at least one; a single one comes back as it is.
        limits: NMS within each class at its threshold, then its number of the best; the scores are not looked at.
        distance_exponent: see ``batched_nms``.
        image_size: (height, width), in whose parts distances are measured.
    """
    if len(parts) == 1:
        return parts[0]
    boxes, scores, labels = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "scores", "labels")
    )
    measured = boxes
    if distance_exponent is not None:
        measured = boxes / np.array([image_size[1], image_size[0]] * 2, boxes.dtype)
    keep = batched_nms(measured, scores, labels, limits.nms_thresh, distance_exponent)[: limits.detections_per_img]
    return replace(parts[0], boxes=boxes[keep], scores=scores[keep], labels=labels[keep])
