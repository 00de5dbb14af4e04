"""Knowledge distillation: beside its boxes a one-stage model learns what a trained one makes of the same images.

Dense and response-based, for teachers and students whose cells and anchors correspond (arXiv 1503.02531; weighting by
the teacher's objectness as in arXiv 1807.02834, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.data.class_names import match_classes
from yolofpn.detector import input_form
from yolofpn.errors import UserError
from yolofpn.models.heads.predictions import flatten_maps
from yolofpn.models.yolo import YOLO
from yolofpn.ops.boxes import elementwise_iou
from yolofpn.structures import Target
from yolofpn.weights import load_weights

# Boxes and classes of cells in which the teacher sees next to nothing are noise.
LEAST_OBJECTNESS = 0.05


class Distillation(nn.Module):
    """A student that is called for its losses together with those against its teacher.

    The teacher's part fades from ``weight`` to 0 over the run: it teaches what the boxes of a small data set cannot,
    and at the end the boxes have the last word.

    Args:
        student: learns.
        teacher: a trained detector, in evaluation mode; its parameters are none of this module's.
        levels: the maps that both have, with as many anchors.
        classes: of each of the teacher's classes the student's, None where it has none.
        weight: of the teacher's losses at the start.

    Attributes:
        progress: share of the run that has passed, in [0, 1].
    """

    def __init__(
        self, student: YOLO, teacher: YOLO, levels: Sequence[str], classes: Sequence[int | None], weight: float
    ) -> None:
        super().__init__()
        self.student = student
        self._teacher = [teacher]  # in a list, so that it is no submodule: neither trained nor saved
        self.levels = tuple(levels)
        known = [(theirs, ours) for theirs, ours in enumerate(classes) if ours is not None]
        self.theirs, self.ours = [theirs for theirs, _ in known], [ours for _, ours in known]
        self.weight = weight
        self.progress = 0.0

    def forward(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Losses by name: those of the student and, with a weight above 0, 'loss_teacher'."""
        dense = self.student.dense(images)
        size = (images.shape[-2], images.shape[-1])
        weight = self.weight * (1 - self.progress)
        with torch.no_grad():
            taught = self._teacher[0].dense(images) if weight > 0 else {}
        with torch.autocast(images.device.type, enabled=False):
            losses = self.student.loss(dense, targets, size)
            if weight > 0:
                losses["loss_teacher"] = weight * self._difference(dense, taught)
        return losses

    def _difference(self, dense: dict[str, Tensor], taught: dict[str, Tensor]) -> Tensor:
        raw, grid = flatten_maps(dense, {name: self.student.specs[name] for name in self.levels})
        wanted, their_grid = flatten_maps(taught, {name: self._teacher[0].specs[name] for name in self.levels})
        objectness = wanted[:, :, 4].sigmoid()
        total = objectness.sum().clamp(min=1)
        loss = F.binary_cross_entropy_with_logits(raw[:, :, 4], objectness, reduction="sum")
        image, place = (objectness > LEAST_OBJECTNESS).nonzero(as_tuple=True)
        certainty, raw, wanted = objectness[image, place], raw[image, place], wanted[image, place]
        class_losses = F.binary_cross_entropy_with_logits(
            raw[:, 5:][:, self.ours], wanted[:, 5:][:, self.theirs].sigmoid(), reduction="none"
        )
        boxes, their_boxes = grid.decode(raw[:, :4], place), their_grid.decode(wanted[:, :4], place)
        box_losses = 1 - elementwise_iou(boxes, their_boxes, "giou")
        return (loss + (certainty * (class_losses.sum(dim=1) + 5 * box_losses)).sum()) / total


def with_teacher(
    student: nn.Module, names: Sequence[str], ids: Sequence[int], spec: str, weight: float
) -> Distillation:
    """``student`` together with the detector of the weights ``spec``.

    Args:
        student: on its device.
        names: of its classes.
        ids: their category ids, or empty.
        spec: weights of a native one-stage detector.
        weight: of the teacher's losses at the start.

    Raises:
        UserError: one of the two is no native one-stage detector, or they share no level or no class.
    """
    loaded = load_weights(spec)
    teacher = loaded.detector
    if not isinstance(student, YOLO) or not isinstance(teacher, YOLO):
        raise UserError(f"{spec}: only native one-stage detectors teach and learn from each other")
    if input_form(student) != input_form(teacher):
        raise UserError(f"{spec}: takes other channels than the student: distill from weights of the same input")
    levels = [
        name
        for name, spec_of_level in student.specs.items()
        if name in teacher.specs and len(teacher.specs[name].anchors) == len(spec_of_level.anchors)
    ]
    match = match_classes(loaded.metadata.names, loaded.metadata.category_ids, names, ids)
    if not levels or all(label is None for label in match.mapping):
        raise UserError(f"{spec}: has no level or no class in common with the model: it cannot teach it")
    device = next(student.parameters()).device
    return Distillation(student, teacher.to(device).eval(), levels, match.mapping, weight)
