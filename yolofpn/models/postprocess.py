"""From raw output maps to detections: threshold first, decode what is left, then NMS within each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolofpn.errors import NaNOutputError
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
class Picked:
    """Predictions whose objectness alone is above the threshold, not decoded yet: K of them."""

    images: Tensor  # [K] int64, index into the batch
    raw: Tensor  # [K, 5 + C]
    cells: Tensor  # [K, 2] int64, column and row
    layout: Tensor  # [K, 4], the anchor's width and height, the stride, scale_x_y


def postprocess_maps(
    dense: Mapping[str, Tensor],
    specs: Mapping[str, MapSpec],
    num_classes: int,
    image_sizes: Sequence[tuple[int, int]],
    limits: Limits,
) -> list[Detections]:
    """Detections of each image in network pixels, clipped to its (height, width); they lie on the CPU.

    A prediction is a detection of class c if objectness x class score > score_thresh[c], so one box may have several
    classes (YOLOv3, section 2.2). The result of an image does not depend on the others of its batch.

    Raises:
        ValueError: a prediction that could become a detection holds NaN, a map does not have A * (5 + C) channels,
            the thresholds are not one or C, or the maps differ in ``softmax`` or ``linear_xy``.
    """
    batch = len(next(iter(dense.values())))
    if len(image_sizes) != batch:
        raise ValueError(f"{len(image_sizes)} image sizes for a batch of {batch}")
    thresholds = class_thresholds(limits.score_thresh, num_classes)
    first = next(iter(specs.values()))
    if any((spec.softmax, spec.linear_xy) != (first.softmax, first.linear_xy) for spec in specs.values()):
        raise ValueError("the maps of one network must agree on softmax and linear_xy")
    parts = [pick_predictions(dense[name], spec, num_classes, min(thresholds)) for name, spec in specs.items()]
    # From here on all levels go together: many small steps cost more than what they compute.
    picked = Picked(*(torch.cat(columns) for columns in zip(*map(_columns, parts), strict=True)))
    scores = class_scores(picked.raw, softmax=first.softmax)
    index, labels = (scores > scores.new_tensor(thresholds)).nonzero(as_tuple=True)
    boxes = decode_picked(picked, linear_xy=first.linear_xy)[index]
    # NMS works on the CPU: a GPU is waited for once for the candidates of all images, not for each image.
    columns = (boxes, scores[index, labels], labels, picked.images[index])
    boxes, scores, labels, images = (column.cpu() for column in columns)
    results = []
    for number, size in enumerate(image_sizes):
        own = slice(None) if batch == 1 else images == number
        keep = batched_nms(boxes[own], scores[own], labels[own], limits.nms_thresh)[: limits.detections_per_img]
        results.append(Detections(clip_boxes(boxes[own][keep], size), scores[own][keep], labels[own][keep]))
    return results


def pick_predictions(raw: Tensor, spec: MapSpec, num_classes: int, lowest: float) -> Picked:
    """The predictions of one map [B, A * (5 + C), H, W] whose objectness is above ``lowest``.

    Objectness bounds the score from above, so most predictions are dropped before any other value is touched.
    """
    batch, channels, height, width = raw.shape
    num_anchors = len(spec.anchors)
    if channels != num_anchors * (5 + num_classes):
        raise ValueError(f"{channels} channels for {num_anchors} anchors x (5 + {num_classes} classes)")
    raw = raw.view(batch, num_anchors, 5 + num_classes, height, width)
    # What is not surely below stays, NaN too, so that it is found out.
    below = raw[:, :, 4].float().sigmoid() <= lowest  # [B, A, H, W]
    image, anchor, row, column = (~below).nonzero(as_tuple=True)
    picked = raw[image, anchor, :, row, column].float()  # [K, 5 + C]
    if picked.isnan().any():
        raise NaNOutputError
    layout = torch.tensor([(*anchor, spec.stride, spec.scale_x_y) for anchor in spec.anchors], device=raw.device)
    return Picked(image, picked, torch.stack([column, row], dim=1), layout[anchor])


def class_scores(raw: Tensor, *, softmax: bool) -> Tensor:
    """[K, 5 + C] -> [K, C]: objectness x class score."""
    classes = raw[:, 5:].softmax(dim=1) if softmax else raw[:, 5:].sigmoid()
    return raw[:, 4:5].sigmoid() * classes


def decode_picked(picked: Picked, *, linear_xy: bool) -> Tensor:
    """The boxes [K, 4] of predictions of all levels."""
    anchors, stride, scale_x_y = picked.layout[:, :2], picked.layout[:, 2:3], picked.layout[:, 3:]
    return yolo_box_to_xyxy(picked.raw[:, :4], anchors, picked.cells, stride, scale_x_y, linear_xy=linear_xy)


def class_thresholds(score_thresh: float | tuple[float, ...], num_classes: int) -> tuple[float, ...]:
    """One threshold for each class, or one for all.

    Raises:
        ValueError: there are neither one nor C of them.
    """
    if not isinstance(score_thresh, tuple):
        return (score_thresh,)
    if len(score_thresh) != num_classes:
        raise ValueError(f"{len(score_thresh)} score thresholds for {num_classes} classes")
    return score_thresh


def _columns(picked: Picked) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return picked.images, picked.raw, picked.cells, picked.layout
