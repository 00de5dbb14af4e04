"""From the outputs of exported graphs that decode, or also suppress, to detections; NumPy on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yolofpn.errors import NaNOutputError
from yolofpn.models.postprocess import class_thresholds, suppress
from yolofpn.ops.array_boxes import clip_boxes
from yolofpn.structures import Detections, Limits

Floats = NDArray[np.float32]


def detections_from_decoded(
    output: Floats,
    image_sizes: Sequence[tuple[int, int]],
    limits: Limits,
    nms_exponent: float | None = None,
    regions: Sequence[tuple[int, int]] | None = None,
) -> list[Detections]:
    """Detections of each image in network pixels, clipped to its (height, width).

    Args:
        output: [B, 4 + C, N]: cx, cy, w, h in network pixels, and the score of each class.
        image_sizes: each image's (height, width) in network pixels.
        limits: which predictions become detections.
        nms_exponent: see ``ops.nms.batched_nms``.
        regions: see ``postprocess_maps``.

    Raises:
        NaNOutputError: if the output holds NaN.
        ValueError: the thresholds are not one or C.
    """
    if np.isnan(output.min()):
        raise NaNOutputError
    thresholds = class_thresholds(limits.score_thresh, output.shape[1] - 4)
    scores = output[:, 4:]
    images, places = (scores.max(axis=1) > min(thresholds)).nonzero()
    centre, half = output[images, :2, places], output[images, 2:4, places] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return suppress(images, boxes, scores[images, :, places], image_sizes, limits, nms_exponent, regions)


def detections_from_rows(output: Floats, image_sizes: Sequence[tuple[int, int]], limits: Limits) -> list[Detections]:
    """Detections of each image in network pixels, clipped to its (height, width).

    Args:
        output: [B, K, 6] by descending score: x1, y1, x2, y2, score, label; rows of score 0 are padding.
        image_sizes: each image's (height, width) in network pixels.
        limits: those of the graph, or stricter ones; NMS has been done.

    Raises:
        NaNOutputError: if the output holds NaN.
    """
    if np.isnan(output.min(initial=0.0)):
        raise NaNOutputError
    results = []
    for rows, size in zip(output, image_sizes, strict=True):
        labels = rows[:, 5].astype(np.int64)
        thresholds = np.asarray(limits.score_thresh, np.float32)
        least = thresholds[labels] if thresholds.ndim else thresholds
        rows, labels = ((each[rows[:, 4] > least][: limits.detections_per_img]) for each in (rows, labels))
        results.append(Detections(clip_boxes(rows[:, :4], size), rows[:, 4], labels))
    return results
