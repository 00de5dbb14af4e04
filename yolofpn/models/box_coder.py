"""YOLO's box parametrisation, decoded and encoded."""

from __future__ import annotations

import torch
from torch import Tensor

from yolofpn.models.postprocess import MAX_LOG_SIZE
from yolofpn.ops.boxes import xyxy_to_cxcywh


def yolo_box_to_xyxy(
    deltas: Tensor,
    anchors: Tensor,
    cells: Tensor,
    stride: int | Tensor,
    scale_x_y: float | Tensor = 1.0,
    *,
    linear_xy: bool = False,
    new_coords: bool = False,
) -> Tensor:
    """b_x = sigmoid(t_x) + c_x, b_w = p_w exp(t_w), and likewise y, h (YOLOv3, section 2.1; arXiv 1804.02767).

    Args:
        deltas: t, [..., 4].
        anchors: p, (width, height) in pixels, [..., 2].
        cells: c, (column, row) of the grid cell, [..., 2].
        stride: pixels per cell; this and ``scale_x_y`` may be tensors that broadcast against [..., 2].
        scale_x_y: stretches the sigmoid about its centre, so that centres on a cell's border can be reached
            (YOLOv4, arXiv 2004.10934, section 3.4; Darknet's key of the same name).
        linear_xy: b_x = t_x + c_x instead, which YOLOv3 tried (section 4).
        new_coords: t are in 0..1 already, and b_w = p_w (2 t_w)^2 (Scaled-YOLOv4, arXiv 2011.08036; Darknet's key).

    Returns:
        Boxes [..., 4] xyxy in pixels.
    """
    offset = deltas[..., :2]
    if not linear_xy:
        offset = (offset if new_coords else offset.sigmoid()) * scale_x_y - (scale_x_y - 1) / 2
    centre = (offset + cells) * stride
    size = (2 * deltas[..., 2:]).square() if new_coords else deltas[..., 2:].clamp(max=MAX_LOG_SIZE).exp()
    half = size * anchors / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def xyxy_to_yolo_targets(
    boxes: Tensor,
    anchors: Tensor,
    cells: Tensor,
    stride: int | Tensor,
    scale_x_y: float = 1.0,
    *,
    linear_xy: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute the training targets of ``boxes`` [..., 4] xyxy: the inverse of ``yolo_box_to_xyxy``.

    Returns:
        [..., 2] targets of sigmoid(t_x), sigmoid(t_y), in [0, 1] if the cell can reach the centre (with
        ``linear_xy``: of t_x, t_y), and [..., 2] targets of t_w, t_h.
    """
    centre, size = xyxy_to_cxcywh(boxes).chunk(2, dim=-1)
    offset = centre / stride - cells
    if not linear_xy:
        offset = (offset + (scale_x_y - 1) / 2) / scale_x_y
    return offset, (size / anchors).log()
