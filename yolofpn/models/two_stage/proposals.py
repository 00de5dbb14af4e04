"""Proposals of a one-stage detector: where any object is, whatever its class, the counterpart of an RPN's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from yolofpn.models.postprocess import MapSpec, class_scores, decode_picked, pick_predictions
from yolofpn.ops.boxes import clip_boxes
from yolofpn.ops.nms import nms
from yolofpn.structures import Limits

PROPOSAL_LIMITS = Limits(score_thresh=0.0, nms_thresh=0.7, detections_per_img=1000)  # an RPN's (arXiv 1506.01497, 3.3)
BEFORE_NMS = 6000  # the best of an image that NMS looks at, in the same section

Proposals = tuple[Tensor, Tensor]  # boxes [P, 4] and their scores [P], descending


def propose_from_maps(
    dense: Mapping[str, Tensor],
    specs: Mapping[str, MapSpec],
    num_classes: int,
    image_sizes: Sequence[tuple[int, int]],
) -> list[Proposals]:
    """Each prediction once, by objectness times its best class score, after NMS over all classes together.

    Args:
        dense: {"p3": [B, A * (5 + C), H/8, W/8], ...}.
        specs: how each raw map is read.
        num_classes: C.
        image_sizes: each image's (height, width), to which its boxes are clipped.

    Returns:
        For each image at most 1000 boxes in network pixels, with their scores.
    """
    parts = [pick_predictions(dense[name], spec, num_classes, 0.0, image_sizes[0]) for name, spec in specs.items()]
    spec = next(iter(specs.values()))
    scores = torch.cat([class_scores(part, spec).amax(dim=1) for part in parts])
    boxes = torch.cat([decode_picked(part, spec) for part in parts])
    images = torch.cat([part.images for part in parts])
    return [_best(boxes[images == number], scores[images == number], size) for number, size in enumerate(image_sizes)]


def _best(boxes: Tensor, scores: Tensor, image_size: tuple[int, int]) -> Proposals:
    scores, order = scores.sort(descending=True, stable=True)
    boxes, scores = clip_boxes(boxes[order[:BEFORE_NMS]], image_size), scores[:BEFORE_NMS]
    keep = nms(boxes, scores, PROPOSAL_LIMITS.nms_thresh)[: PROPOSAL_LIMITS.detections_per_img]
    return boxes[keep], scores[keep]
