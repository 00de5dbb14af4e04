"""From raw output maps to detections: threshold first, decode what is left, then NMS within each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolofpn.models.box_coder import yolo_box_to_xyxy
from yolofpn.ops.boxes import clip_boxes
from yolofpn.ops.nms import batched_nms
from yolofpn.structures import Detections, Limits


@dataclass(frozen=True)
class MapSpec:
    """How one raw map [B, A * (5 + C), H, W] is read: per anchor x, y, w, h, objectness and the classes.

    Attributes:
        stride: pixels per cell.
        anchors: A times (width, height) in pixels.
        scale_x_y: see ``yolo_box_to_xyxy``.
        linear_xy: see ``yolo_box_to_xyxy``.
        softmax: class scores by softmax (YOLOv2) instead of independent sigmoids (YOLOv3).
    """

    stride: int
    anchors: tuple[tuple[float, float], ...]
    scale_x_y: float = 1.0
    linear_xy: bool = False
    softmax: bool = False


@dataclass(frozen=True)
class Candidates:
    """(box, class) pairs above the threshold, of all images of a batch: K of them."""

    images: Tensor  # [K] int64, index into the batch
    boxes: Tensor  # [K, 4]
    scores: Tensor  # [K]
    labels: Tensor  # [K] int64


def postprocess_maps(
    dense: Mapping[str, Tensor],
    specs: Mapping[str, MapSpec],
    num_classes: int,
    image_sizes: Sequence[tuple[int, int]],
    limits: Limits,
) -> list[Detections]:
    """Detections of each image in network pixels, clipped to its (height, width).

    A prediction is a detection of class c if objectness x class score > score_thresh[c], so one box may have several
    classes (YOLOv3, section 2.2). The result of an image does not depend on the others of its batch.

    Raises:
        ValueError: a prediction that could become a detection holds NaN, a map does not have A * (5 + C) channels,
            or the thresholds are not one or C.
    """
    batch = len(next(iter(dense.values())))
    if len(image_sizes) != batch:
        raise ValueError(f"{len(image_sizes)} image sizes for a batch of {batch}")
    parts = [select_candidates(dense[name], spec, num_classes, limits.score_thresh) for name, spec in specs.items()]
    images = torch.cat([part.images for part in parts])
    boxes = torch.cat([part.boxes for part in parts])
    scores = torch.cat([part.scores for part in parts])
    labels = torch.cat([part.labels for part in parts])
    results = []
    for index, size in enumerate(image_sizes):
        own = slice(None) if len(image_sizes) == 1 else images == index
        keep = batched_nms(boxes[own], scores[own], labels[own], limits.nms_thresh)[: limits.detections_per_img]
        results.append(Detections(clip_boxes(boxes[own][keep], size), scores[own][keep], labels[own][keep]))
    return results


def select_candidates(
    raw: Tensor, spec: MapSpec, num_classes: int, score_thresh: float | tuple[float, ...]
) -> Candidates:
    """All (box, class) pairs of one map [B, A * (5 + C), H, W] whose score is above ``score_thresh``."""
    batch, channels, height, width = raw.shape
    num_anchors = len(spec.anchors)
    if channels != num_anchors * (5 + num_classes):
        raise ValueError(f"{channels} channels for {num_anchors} anchors x (5 + {num_classes} classes)")
    if isinstance(score_thresh, tuple) and len(score_thresh) != num_classes:
        raise ValueError(f"{len(score_thresh)} score thresholds for {num_classes} classes")
    raw = raw.view(batch, num_anchors, 5 + num_classes, height, width)
    lowest = min(score_thresh) if isinstance(score_thresh, tuple) else score_thresh
    # Objectness bounds the score from above, so most predictions are dropped before any other value is touched.
    objectness = raw[:, :, 4].float().sigmoid()  # [B, A, H, W]
    image, anchor, row, column = (objectness > lowest).nonzero(as_tuple=True)
    picked = raw[image, anchor, :, row, column].float()  # [K', 5 + C]
    if objectness.isnan().any() or picked.isnan().any():
        raise ValueError("the network's output is NaN: the weights are damaged or do not fit the network")
    classes = picked[:, 5:].softmax(dim=1) if spec.softmax else picked[:, 5:].sigmoid()
    scores = objectness[image, anchor, row, column, None] * classes  # [K', C]
    thresholds = torch.as_tensor(score_thresh, dtype=scores.dtype, device=scores.device)
    index, label = (scores > thresholds).nonzero(as_tuple=True)
    boxes = yolo_box_to_xyxy(
        picked[:, :4],
        torch.tensor(spec.anchors, device=raw.device)[anchor],
        torch.stack([column, row], dim=1),
        spec.stride,
        spec.scale_x_y,
        linear_xy=spec.linear_xy,
    )
    return Candidates(image[index], boxes[index], scores[index, label], label)
