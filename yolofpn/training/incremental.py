"""Class-incremental training: new classes from their labels, the old ones from what the old weights make of the images.

Images of the new classes show objects of the old ones that nobody labelled. The labels alone would train them as
background, and the old classes would be forgotten. Two measures prevent this:

- **Ignore regions.** Where the old weights detect an old class, there is no background. Detections that coincide with a
  labelled object are excepted: a sheep that the old weights call a cow is a sheep.
- **Distillation** (Shmelkov et al., arXiv 1708.06977, equations 2 and 3): the outputs for the old classes follow those
  of the frozen old network. ILOD compares class logits and box offsets of 64 proposals by their squared error, with a
  weight of 1 beside the losses of the labels; RILOD (Li et al., arXiv 1904.00781) does so for a one-stage detector.
  YOLOv3 predicts independent probabilities, for which the divergence between two Bernoulli distributions takes the
  place of the squared error, and an objectness, which says where there is anything to compare: class scores and boxes
  are weighted by that of the old network, as in arXiv 1807.02834, section 3. All cells but those of labelled objects
  are compared, so the background, too, stays as it was.

The distillation of feature maps (Faster ILOD, arXiv 2003.03901; RILOD's third part) is not included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.data.added_classes import AddedClasses
from yolofpn.models.heads.assigner import Assignment
from yolofpn.models.heads.predictions import Grid, flatten_maps
from yolofpn.models.yolo import YOLO
from yolofpn.ops.boxes import box_iou, elementwise_iou
from yolofpn.structures import Detections, Limits, Target

LEAST_OBJECTNESS = 0.05  # class scores and boxes of cells in which the old network sees next to nothing are noise
SAME_OBJECT = 0.5  # IoU from which a box of the old network and a labelled one are of the same object
BOX_WEIGHT = 5.0  # that of the box loss beside the class loss, as in YOLOLoss


class IncrementalTraining(nn.Module):
    """A detector that is called for its losses together with those that keep its old classes.

    Args:
        student: learns; its first classes are those of the old detector.
        old: the detector to which classes are added; frozen.
        classes: which of the student's classes are new, and which have no labels.
        weight: of the distillation, beside the losses of the labels.
        ignore_thresh: score, in [0, 1], from which a detection of the old network is an ignore region.
    """

    def __init__(
        self, student: YOLO, old: YOLO, classes: AddedClasses, *, weight: float = 1.0, ignore_thresh: float = 0.2
    ) -> None:
        super().__init__()
        self.student = student
        self._old = [old.eval().requires_grad_(requires_grad=False)]  # in a list: no submodule, so it is not saved
        self.kept, self.new = list(classes.kept), list(classes.new)
        self.weight = weight
        thresholds = [ignore_thresh if label in classes.kept else 1.0 for label in range(old.num_classes)]
        self._limits = replace(old.limits, score_thresh=tuple(thresholds))

    def forward(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Losses by name: those of the student's labels, and 'loss_kept'."""
        dense = self.student.dense(images)
        with torch.no_grad():
            taught = self._old[0].dense(images)
        size = (images.shape[-2], images.shape[-1])
        with torch.autocast(images.device.type, enabled=False):
            regions = old_objects(self._old[0], taught, targets, size, self._limits)
            targets = [with_ignore_regions(target, boxes) for target, boxes in zip(targets, regions, strict=True)]
            raw, grid = flatten_maps(dense, self.student.specs)
            assignments = self.student.loss.assign(raw, grid, targets)
            losses = self.student.loss.of_assigned(raw, grid, assignments, targets, size)
            wanted, _ = flatten_maps(taught, self._old[0].specs)
            losses["loss_kept"] = self.weight * self._difference(raw, wanted, grid, assignments, targets)
        return losses

    def _difference(
        self, raw: Tensor, wanted: Tensor, grid: Grid, assignments: Sequence[Assignment], targets: Sequence[Target]
    ) -> Tensor:
        """Compare raw predictions [B, N, 5 + C] with those of the old network, [B, N, 5 + C'], to one number.

        It is divided by the sum of the old network's objectness, as the losses of labels are by their positives.
        """
        objectness = wanted[:, :, 4].sigmoid()
        scores = wanted[:, :, 5:].sigmoid()
        if len(self.kept) < scores.shape[2]:  # an object of a class that has labels, and here none, is no object
            best = scores.amax(dim=2).clamp(min=1e-6)
            objectness = objectness * (scores[:, :, self.kept].amax(dim=2) / best if self.kept else 0.0)
        compared = torch.stack(
            [
                _unlabelled(grid.decode(each[:, :4]), assignment, target)
                for each, assignment, target in zip(wanted, assignments, targets, strict=True)
            ]
        )
        total = (objectness * compared).sum().clamp(min=1)
        loss = bernoulli_divergence(raw[:, :, 4][compared], objectness[compared]).sum()
        image, place = (compared & (objectness > LEAST_OBJECTNESS)).nonzero(as_tuple=True)
        certainty, raw, wanted = objectness[image, place], raw[image, place], wanted[image, place]
        scores = scores[image, place]
        class_losses = bernoulli_divergence(raw[:, 5:][:, self.kept], scores[:, self.kept]).sum(dim=1)
        class_losses = class_losses + F.softplus(raw[:, 5:][:, self.new]).sum(dim=1)  # would be labelled, were it new
        boxes, old_boxes = grid.decode(raw[:, :4], place), grid.decode(wanted[:, :4], place)
        box_losses = 1 - elementwise_iou(boxes, old_boxes, "giou")
        return (loss + (certainty * (class_losses + BOX_WEIGHT * box_losses)).sum()) / total


def bernoulli_divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of sigmoid(``logits``) from the probabilities ``wanted``, elementwise."""
    entropy = -torch.xlogy(wanted, wanted) - torch.xlogy(1 - wanted, 1 - wanted)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") - entropy


def old_objects(
    old: YOLO, dense: dict[str, Tensor], targets: Sequence[Target], size: tuple[int, int], limits: Limits
) -> list[Tensor]:
    """Detections of the old network that no label explains: boxes [R, 4] of each image in network pixels.

    Args:
        old: the old network.
        dense: its raw outputs.
        targets: labels of the images.
        size: (height, width) of the images.
        limits: of the detections.
    """
    found = old.postprocess(dense, [target.image_size or size for target in targets], limits)
    return [
        torch.from_numpy(unexplained(each, target).boxes).to(target.boxes)
        for each, target in zip(found, targets, strict=True)
    ]


def unexplained(found: Detections, target: Target) -> Detections:
    """Return the detections whose IoU with every labelled object is at most ``SAME_OBJECT``."""
    return found[~_overlap(torch.from_numpy(found.boxes).to(target.boxes), target).cpu()]


def with_ignore_regions(target: Target, boxes: Tensor) -> Target:
    """Return the target with ``boxes`` [R, 4] as further ignore regions."""
    count = len(boxes)
    return replace(
        target,
        boxes=torch.cat([target.boxes, boxes]),
        labels=torch.cat([target.labels, target.labels.new_zeros(count)]),
        ignore=torch.cat([target.ignore, target.ignore.new_ones(count)]),
        areas=torch.cat([target.areas, (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).to(target.areas)]),
    )


def _unlabelled(old_boxes: Tensor, assignment: Assignment, target: Target) -> Tensor:
    """[N] bool: predictions that no labelled object claims."""
    free = ~_overlap(old_boxes, target)
    free[assignment.positive] = False
    return free


def _overlap(boxes: Tensor, target: Target) -> Tensor:
    """[R] bool: whether each of ``boxes`` [R, 4] has an IoU above ``SAME_OBJECT`` with a labelled object."""
    objects = target.boxes[~target.ignore]
    if not len(objects):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    return box_iou(boxes, objects).amax(dim=1) > SAME_OBJECT
