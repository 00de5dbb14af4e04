"""Box, objectness and class losses of the one-stage detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from yolofpn.models.box_coder import xyxy_to_yolo_targets
from yolofpn.models.heads.assigner import Assignment
from yolofpn.models.heads.predictions import Grid, flatten_maps
from yolofpn.models.losses import Losses
from yolofpn.models.postprocess import MapSpec
from yolofpn.ops.boxes import elementwise_iou
from yolofpn.structures import Target

BoxLoss = Literal["squared", "bce", "iou", "giou", "diou", "ciou"]


class Assigner(Protocol):
    """Assigns predictions of an image to ground-truth boxes."""

    def __call__(self, raw: Tensor, grid: Grid, target: Target) -> Assignment:
        """``raw`` [N, 5 + C] and the boxes of one image in network pixels."""
        ...


@dataclass(frozen=True)
class Positives:
    """The P predictions of a batch that are assigned to a box, with their targets."""

    raw: Tensor  # [P, 5 + C]
    index: Tensor  # [P] int64, which of the N predictions
    boxes: Tensor  # [P, 4]
    labels: Tensor  # [P] int64


class YOLOLoss:
    """Computes the losses of a batch, summed over predictions and divided by the number of positives on all processes.

    Args:
        specs: how each raw map is read.
        assigner: assigns predictions to boxes.
        box: 'squared' or 'bce' on sigmoid(t_x) with squared error on t_w (YOLOv3, section 2.1), or an IoU loss.
        iou_aware_classes: the class target is the IoU instead of 1 (arXiv 2107.08430, section 2.1); softmax
            classes always have target 1.
        focal_gamma: gamma of the focal loss (arXiv 1708.02002) of objectness, with alpha 0.25; 0: none.
        box_weight: factor of the box loss.
        objectness_weight: factor of the objectness loss.
        class_weight: factor of the class loss.
    """

    def __init__(
        self,
        specs: Mapping[str, MapSpec],
        assigner: Assigner,
        *,
        box: BoxLoss = "ciou",
        iou_aware_classes: bool = True,
        focal_gamma: float = 0.0,
        box_weight: float = 5.0,
        objectness_weight: float = 1.0,
        class_weight: float = 1.0,
    ) -> None:
        self.specs = dict(specs)
        self.assigner = assigner
        self.box = box
        self.iou_aware_classes = iou_aware_classes
        self.focal_gamma = focal_gamma
        self.weights = {"loss_box": box_weight, "loss_objectness": objectness_weight, "loss_class": class_weight}

    def __call__(self, dense: Mapping[str, Tensor], targets: list[Target], size: tuple[int, int]) -> Losses:
        """Compute {"loss_box", "loss_objectness", "loss_class"} of raw outputs and targets.

        Args:
            dense: raw outputs [B, A * (5 + C), H, W] of each level.
            targets: ground truth of the B images in network pixels.
            size: (height, width) of the network's input.
        """
        raw, grid = flatten_maps(dense, self.specs)
        return self.of_assigned(raw, grid, self.assign(raw, grid, targets), targets, size)

    def assign(self, raw: Tensor, grid: Grid, targets: Sequence[Target]) -> list[Assignment]:
        """Assign the predictions ``raw`` [B, N, 5 + C] of each image to its boxes."""
        return [self.assigner(raw[i], grid, target) for i, target in enumerate(targets)]

    def of_assigned(
        self, raw: Tensor, grid: Grid, assignments: list[Assignment], targets: list[Target], size: tuple[int, int]
    ) -> Losses:
        """Compute the losses of predictions ``raw`` [B, N, 5 + C] that ``assign`` assigned; otherwise as a call."""
        positives = gather_positives(raw, assignments, targets)
        losses = {
            "loss_box": self._box_loss(positives, grid, size),
            "loss_objectness": self._objectness_loss(raw[:, :, 4], assignments),
            "loss_class": self._class_loss(positives, grid),
        }
        return Losses.over({name: self.weights[name] * loss for name, loss in losses.items()}, len(positives.raw))

    def _box_loss(self, positives: Positives, grid: Grid, size: tuple[int, int]) -> Tensor:
        deltas = positives.raw[:, :4]
        if self.box == "squared" or self.box == "bce":
            return self._loss_on_deltas(deltas, positives, grid, size)
        predicted = grid.decode(deltas, positives.index)
        return (1 - elementwise_iou(predicted, positives.boxes, self.box)).sum()

    def _loss_on_deltas(self, deltas: Tensor, positives: Positives, grid: Grid, size: tuple[int, int]) -> Tensor:
        index = positives.index
        xy, wh = xyxy_to_yolo_targets(
            positives.boxes,
            grid.anchors[index],
            grid.cells[index],
            grid.strides[index],
            grid.scale_x_y,
            linear_xy=grid.linear_xy,
        )
        if grid.linear_xy:
            loss_xy = (deltas[:, :2] - xy).square() / 2
        elif self.box == "bce":
            loss_xy = F.binary_cross_entropy_with_logits(deltas[:, :2], xy.clamp(0, 1), reduction="none")
        else:
            loss_xy = (deltas[:, :2].sigmoid() - xy).square() / 2
        loss_wh = (deltas[:, 2:] - wh).square() / 2
        # Small boxes have up to twice the weight, as in Darknet.
        share = (positives.boxes[:, 2:] - positives.boxes[:, :2]).prod(dim=1) / (size[0] * size[1])
        return ((2 - share)[:, None] * (loss_xy + loss_wh)).sum()

    def _objectness_loss(self, logits: Tensor, assignments: list[Assignment]) -> Tensor:
        wanted = torch.zeros_like(logits)
        counted = torch.ones_like(logits, dtype=torch.bool)
        for i, assignment in enumerate(assignments):
            counted[i] = ~assignment.ignored
            counted[i, assignment.positive] = True
            wanted[i, assignment.positive] = 1.0
        loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        if self.focal_gamma:
            loss = loss * focal_factor(logits, wanted, self.focal_gamma)
        return (loss * counted).sum()

    def _class_loss(self, positives: Positives, grid: Grid) -> Tensor:
        logits = positives.raw[:, 5:]
        if grid.softmax:
            return F.cross_entropy(logits, positives.labels, reduction="sum")
        wanted = F.one_hot(positives.labels, logits.shape[1]).to(logits.dtype)
        if self.iou_aware_classes:
            predicted = grid.decode(positives.raw[:, :4].detach(), positives.index)
            wanted = wanted * elementwise_iou(predicted, positives.boxes)[:, None]
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")


def gather_positives(raw: Tensor, assignments: list[Assignment], targets: list[Target]) -> Positives:
    """Gather the positive predictions of ``raw`` [B, N, 5 + C] with their targets."""
    kept = [~target.ignore for target in targets]
    return Positives(
        torch.cat([raw[i, a.positive] for i, a in enumerate(assignments)]),
        torch.cat([a.positive for a in assignments]),
        torch.cat([t.boxes[k][a.matched] for a, t, k in zip(assignments, targets, kept, strict=True)]),
        torch.cat([t.labels[k][a.matched] for a, t, k in zip(assignments, targets, kept, strict=True)]),
    )


def focal_factor(logits: Tensor, wanted: Tensor, gamma: float, alpha: float = 0.25) -> Tensor:
    """Return alpha_t (1 - p_t)^gamma, the factor of the focal loss (arXiv 1708.02002, equation 5).

    ``wanted`` is 0 or 1.
    """
    # The power's own gradient is infinite at p_t = 1 for gamma below 1, that of its logarithm never is.
    log_error = F.logsigmoid(logits * (1 - 2 * wanted))
    alpha_t = alpha * wanted + (1 - alpha) * (1 - wanted)
    return alpha_t * (gamma * log_error).exp()
