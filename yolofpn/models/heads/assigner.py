"""Assigns predictions of an image to ground-truth boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from yolofpn.models.heads.predictions import Grid
from yolofpn.ops.boxes import box_area, box_iou, xyxy_to_cxcywh
from yolofpn.structures import Target


@dataclass(frozen=True)
class Assignment:
    """The assignment of the N predictions of an image.

    Attributes:
        positive: [P] int64, indices of the predictions assigned to a box; each at most once.
        matched: [P] int64, index of the ground-truth box of each.
        ignored: [N] bool, predictions without objectness loss.
    """

    positive: Tensor
    matched: Tensor
    ignored: Tensor


class BestAnchorAssigner:
    """Best-anchor assignment (YOLOv3, arXiv 1804.02767, section 2.1): the anchor of the best shape in the box's cell.

    Args:
        ignore_iou_thresh: predictions with a larger IoU with any box are ignored instead of being background.
        positive_iou_thresh: if given, predictions with a larger IoU with a box are assigned to it too (section 4:
            0.3 and 0.7).
    """

    def __init__(self, ignore_iou_thresh: float = 0.5, positive_iou_thresh: float | None = None) -> None:
        self.ignore_iou_thresh = ignore_iou_thresh
        self.positive_iou_thresh = positive_iou_thresh

    @torch.no_grad()
    def __call__(self, raw: Tensor, grid: Grid, target: Target) -> Assignment:
        """Assign the predictions ``raw`` [N, 5 + C] of one image to the boxes of ``target`` in network pixels."""
        boxes = target.boxes[~target.ignore]
        predicted = grid.decode(raw[:, :4])
        overlap = box_iou(predicted, boxes)  # [N, M]
        best_iou, best_box = overlap.max(dim=1) if len(boxes) else (raw.new_zeros(len(raw)), raw.new_zeros(0))
        ignored = best_iou > self.ignore_iou_thresh
        ignored |= covered_by_ignore_regions(predicted, target)
        matched = torch.full((len(raw),), -1, device=raw.device)
        # If two boxes are assigned to the same prediction the later one wins, as in Darknet.
        order = torch.arange(len(boxes), device=raw.device)
        matched.scatter_reduce_(0, best_anchor_of_each_box(boxes, grid), order, "amax")
        if self.positive_iou_thresh is not None and len(boxes):
            near = (best_iou > self.positive_iou_thresh) & (matched < 0)
            matched[near] = best_box[near]
        positive = (matched >= 0).nonzero().squeeze(1)
        return Assignment(positive, matched[positive], ignored)


class SimOTAAssigner:
    """Dynamic assignment by cost (YOLOX, arXiv 2107.08430, section 2.1), on anchors.

    Candidates of a box are the predictions whose cell can reach its centre. Each box takes as many of
    the candidates of lowest cost as its best ``top_candidates`` IoUs add up to, at least one; a prediction selected by
    several boxes is assigned to the one with the lowest cost.

    Args:
        top_candidates: number of IoUs that are added up.
        iou_weight: weight of -log IoU in the cost; the classification cost has weight 1.
    """

    def __init__(self, top_candidates: int = 10, iou_weight: float = 3.0) -> None:
        self.top_candidates = top_candidates
        self.iou_weight = iou_weight

    @torch.no_grad()
    def __call__(self, raw: Tensor, grid: Grid, target: Target) -> Assignment:
        """Assign the predictions ``raw`` [N, 5 + C] of one image to the boxes of ``target`` in network pixels."""
        boxes, labels = target.boxes[~target.ignore], target.labels[~target.ignore]
        ignored = raw.new_zeros(len(raw), dtype=torch.bool)
        if target.ignore.any():
            ignored = covered_by_ignore_regions(grid.decode(raw[:, :4]), target)
        if not len(boxes):
            nothing = torch.zeros(0, dtype=torch.int64, device=raw.device)
            return Assignment(nothing, nothing, ignored)
        reachable = cells_that_reach(boxes, grid)  # [M, N]
        candidates = reachable.any(dim=0).nonzero().squeeze(1)  # [K]
        reachable = reachable[:, candidates]
        iou = box_iou(boxes, grid.decode(raw[candidates, :4], candidates)) * reachable  # [M, K]
        cost = classification_cost(raw[candidates], labels, softmax=grid.softmax)
        cost = (cost - self.iou_weight * iou.clamp(min=1e-8).log()).masked_fill(~reachable, torch.inf)
        top = iou.topk(min(self.top_candidates, len(candidates)), dim=1).values
        wanted = torch.minimum(top.sum(dim=1).int().clamp(min=1), reachable.sum(dim=1))  # [M]
        rank = cost.argsort(dim=1, stable=True).argsort(dim=1)
        taken = rank < wanted[:, None]
        best_cost, best_box = cost.masked_fill(~taken, torch.inf).min(dim=0)
        positive = taken.any(dim=0) & best_cost.isfinite()
        return Assignment(candidates[positive], best_box[positive], ignored)


def best_anchor_of_each_box(boxes: Tensor, grid: Grid) -> Tensor:
    """Return [M] int64: the prediction in each box's cell with the anchor of the most similar shape.

    Shapes are compared by the IoU of boxes with the same centre.
    """
    centre, size = xyxy_to_cxcywh(boxes).chunk(2, dim=1)
    centred = torch.cat([-size, size], dim=1) / 2
    anchors = torch.cat([-grid.shapes, grid.shapes], dim=1) / 2
    shape = box_iou(centred, anchors).argmax(dim=1) if len(boxes) else boxes.new_zeros(0, dtype=torch.int64)
    start, last_cell = grid.shape_starts[shape], grid.shape_maps[shape] - 1
    cell = (centre / grid.strides[start]).floor().long()
    # Centres on the right and bottom border of the image belong to the last column and row.
    column, row = torch.minimum(cell.clamp(min=0), last_cell).unbind(dim=1)
    return start + row * grid.shape_maps[shape, 0] + column


def cells_that_reach(boxes: Tensor, grid: Grid) -> Tensor:
    """Return [M, N] bool: whether each cell can reach the centre of each of ``boxes`` [M, 4] with its ``scale_x_y``."""
    centre = xyxy_to_cxcywh(boxes)[:, None, :2]
    distance = (centre / grid.strides - (grid.cells + 0.5)).abs().amax(dim=2)  # [M, N]
    # A centre exactly between two cells belongs to both.
    return distance <= grid.scale_x_y / 2


def classification_cost(raw: Tensor, labels: Tensor, *, softmax: bool = False) -> Tensor:
    """Return [M, K]: cross-entropy of sqrt(objectness x class score) of ``raw`` [K, 5 + C] with ``labels`` [M]."""
    log_classes = F.log_softmax(raw[:, 5:], dim=1) if softmax else F.logsigmoid(raw[:, 5:])
    score = (F.logsigmoid(raw[:, 4:5]) + log_classes) / 2  # [K, C], log of the score
    against = -torch.log1p(-score.exp().clamp(max=1 - 1e-7))
    return (against.sum(dim=1, keepdim=True) - against[:, labels] - score[:, labels]).T


def covered_by_ignore_regions(predicted: Tensor, target: Target) -> Tensor:
    """Boxes [N, 4] -> [N] bool: more than half of the box lies in a ignore region.

    Ignore regions are crowds, difficult objects, and cropped objects of which too little is visible.
    """
    regions = target.boxes[target.ignore]
    if not len(regions):
        return torch.zeros(len(predicted), dtype=torch.bool, device=predicted.device)
    top_left = torch.maximum(predicted[:, None, :2], regions[None, :, :2])
    bottom_right = torch.minimum(predicted[:, None, 2:], regions[None, :, 2:])
    inside = (bottom_right - top_left).clamp(min=0).prod(dim=2)  # [N, R]
    return (inside > 0.5 * box_area(predicted)[:, None]).any(dim=1)
