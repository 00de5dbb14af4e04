"""Box formats and the IoU family.

Boxes are xyxy unless a name says otherwise; a box whose width or height is not positive has area 0. An IoU that is
not defined (both areas are 0) is 0, never NaN.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

IoUKind = Literal["iou", "giou", "diou", "ciou"]


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """[..., 4] corners -> [..., 4] centre x, centre y, width, height."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """[..., 4] corners -> [..., 4] left, top, width, height (COCO's format)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1, y1, x2 - x1, y2 - y1), dim=-1)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """[..., 4] boxes cut to an image of ``size`` (height, width); one that lies outside becomes empty."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """[..., 4] boxes -> [...] areas."""
    width, height = _sides(boxes[..., :2], boxes[..., 2:])
    return width * height


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every box of ``boxes1`` [..., N, 4] with every one of ``boxes2`` [..., M, 4] -> [..., N, M] in [0, 1]."""
    boxes1, boxes2 = _at_least_float32(boxes1), _at_least_float32(boxes2)
    intersection, union = _intersection_and_union(boxes1.unsqueeze(-2), boxes2.unsqueeze(-3))
    return _ratio(intersection, union)


def elementwise_iou(boxes1: Tensor, boxes2: Tensor, kind: IoUKind = "iou") -> Tensor:
    """IoU of each box with the box at the same place, or one of its kin made for regression.

    Gradients are finite for identical, disjoint and empty boxes too.

    Args:
        boxes1: [..., 4], the predictions.
        boxes2: [..., 4], the ground truth.
        kind: ``giou`` (arXiv 1902.09630), ``diou`` or ``ciou`` (arXiv 1911.08287) subtract a penalty from the IoU.

    Returns:
        [...], at most 1; at least 0 (iou), -1 (giou, diou), -1.5 (ciou).

    Raises:
        ValueError: if there is no such kind.
    """
    boxes1, boxes2 = _at_least_float32(boxes1), _at_least_float32(boxes2)
    intersection, union = _intersection_and_union(boxes1, boxes2)
    iou = _ratio(intersection, union)
    match kind:
        case "iou":
            return iou
        case "giou":
            return iou - _hull_penalty(boxes1, boxes2, union)
        case "diou":
            return iou - _distance_penalty(boxes1, boxes2)
        case "ciou":
            return iou - _distance_penalty(boxes1, boxes2) - _aspect_penalty(boxes1, boxes2, iou)
    raise ValueError(f"kind must be iou, giou, diou or ciou, got {kind!r}")


def _hull_penalty(boxes1: Tensor, boxes2: Tensor, union: Tensor) -> Tensor:
    """The share of the smallest enclosing box that neither box covers (arXiv 1902.09630, algorithm 1)."""
    hull_width, hull_height = _hull_sides(boxes1, boxes2)
    hull = hull_width * hull_height
    return _ratio(hull - union, hull)


def _distance_penalty(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the hull (arXiv 1911.08287, equation 6)."""
    hull_width, hull_height = _hull_sides(boxes1, boxes2)
    offset = (boxes1[..., :2] + boxes1[..., 2:] - boxes2[..., :2] - boxes2[..., 2:]) / 2
    return _ratio(offset.square().sum(-1), hull_width.square() + hull_height.square())


def _aspect_penalty(boxes1: Tensor, boxes2: Tensor, iou: Tensor) -> Tensor:
    """The term alpha * v (arXiv 1911.08287, equations 8 to 11); alpha is a weight: no gradient flows through it."""
    v = (4 / math.pi**2) * (_aspect_angle(boxes2) - _aspect_angle(boxes1)).square()
    with torch.no_grad():
        alpha = _ratio(v, 1 - iou + v)
    return alpha * v


def _aspect_angle(boxes: Tensor) -> Tensor:
    width, height = _sides(boxes[..., :2], boxes[..., 2:])
    return torch.atan2(width, height)  # arctan(width / height) that allows a height of 0


def _intersection_and_union(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    top_left = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    width, height = _sides(top_left, bottom_right)
    intersection = width * height
    return intersection, box_area(boxes1) + box_area(boxes2) - intersection


def _hull_sides(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    top_left = torch.minimum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.maximum(boxes1[..., 2:], boxes2[..., 2:])
    return _sides(top_left, bottom_right)


def _sides(top_left: Tensor, bottom_right: Tensor) -> tuple[Tensor, Tensor]:
    width, height = (bottom_right - top_left).clamp(min=0).unbind(-1)
    return width, height


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    # Both branches must be finite: where() multiplies the gradient of the one not taken by 0, and 0 * inf is NaN.
    defined = whole > 0
    return torch.where(defined, part / torch.where(defined, whole, 1), 0)


def _at_least_float32(boxes: Tensor) -> Tensor:
    # Areas overflow half precision from 256 x 256 pixels on.
    return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float()
