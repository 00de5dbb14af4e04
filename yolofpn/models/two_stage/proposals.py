"""Class-agnostic proposals of a one-stage detector, comparable to those of an RPN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolofpn.models.postprocess import MapSpec, class_scores, decode_picked, pick_from_maps
from yolofpn.ops.array_boxes import clip_boxes
from yolofpn.ops.nms import nms
from yolofpn.structures import Limits

PROPOSAL_LIMITS = Limits(score_thresh=0.0, nms_thresh=0.7, detections_per_img=1000)  # an RPN's (arXiv 1506.01497, 3.3)
BEFORE_NMS = 6000  # best boxes per image before NMS, in the same section

Proposals = tuple[Tensor, Tensor]  # boxes [P, 4] and their scores [P], descending


def propose_from_maps(
    dense: dict[str, Tensor],
    specs: Mapping[str, MapSpec],
    num_classes: int,
    image_sizes: Sequence[tuple[int, int]],
) -> list[Proposals]:
    """Return proposals scored by objectness times the best class score, after class-agnostic NMS.

    Args:
        dense: {"p3": [B, A * (5 + C), H/8, W/8], ...}.
        specs: how each raw map is read.
        num_classes: C.
        image_sizes: each image's (height, width), to which its boxes are clipped.

    Returns:
        For each image at most 1000 boxes in network pixels, with their scores; they lie on the CPU.
    """
    picked, spec = pick_from_maps(dense, specs, num_classes, 0.0, image_sizes[0]), next(iter(specs.values()))
    scores, boxes = class_scores(picked, spec).max(axis=1, initial=0), decode_picked(picked, spec)
    own = [picked.images == number for number in range(len(image_sizes))]
    return [_best(boxes[mine], scores[mine], size) for mine, size in zip(own, image_sizes, strict=True)]


def _best(boxes: NDArray[np.float32], scores: NDArray[np.float32], image_size: tuple[int, int]) -> Proposals:
    order = np.argsort(-scores, kind="stable")[:BEFORE_NMS]
    boxes, scores = clip_boxes(boxes[order], image_size), scores[order]
    keep = nms(boxes, scores, PROPOSAL_LIMITS.nms_thresh)[: PROPOSAL_LIMITS.detections_per_img]
    return torch.from_numpy(boxes[keep]), torch.from_numpy(scores[keep])
