"""Fast R-CNN: the second stage of a two-stage detector, on given proposals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor, nn

from yolofpn.detector import SecondStage
from yolofpn.errors import UserError
from yolofpn.models.layers import Normalize
from yolofpn.models.losses import Losses
from yolofpn.models.two_stage.box_head import BoxHead
from yolofpn.models.two_stage.faster_rcnn import Projection
from yolofpn.models.two_stage.roi_heads import RoIHeads
from yolofpn.structures import Detections, Limits, Target
from yolofpn.text import command


class RegionHead(nn.Module):
    """The modules of the detector head."""

    def __init__(self, project: Projection, box: BoxHead) -> None:
        super().__init__()
        self.project = project
        self.box = box


class FastRCNN(nn.Module):
    """Fast R-CNN on a feature pyramid (arXiv 1504.08083; arXiv 1612.03144, section 5.2.1).

    A ``Detector`` without proposal network: proposals come with the targets, both in training
    and in evaluation.

    Args:
        normalize: the first step of the network.
        backbone: images -> {"c2" ... "c5"}.
        neck: {"c2" ... "c5"} -> {"p2" ...}.
        head: the parts that have weights.
        roi_heads: proposals -> losses or detections.
        num_classes: C, without the background.
        limits: which predictions become detections.
    """

    needs_proposals = True
    class_agnostic = False
    is_graph = False

    def __init__(
        self,
        normalize: Normalize,
        backbone: nn.Module,
        neck: nn.Module,
        head: RegionHead,
        roi_heads: RoIHeads,
        num_classes: int,
        limits: Limits,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.roi_heads = roi_heads
        self.num_classes = num_classes
        self.limits = limits
        self.size_divisor = 32  # c5's stride
        self.feature_info = head.project.feature_info

    @property
    def second_stage(self) -> SecondStage:
        """The box head, which runs on every region."""
        channels = next(iter(self.feature_info.values())).channels
        return SecondStage(self.head.box, (channels, *self.roi_heads.pooler.size))

    def dense(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (or float of the same 0..255 range) [B, 3, H, W] RGB -> the pyramid, {"p2": [B, C, H/4, W/4], ...}."""
        pyramid: dict[str, Tensor] = self.head.project(self.neck(self.backbone(self.normalize(images))))
        return pyramid

    def detect(
        self,
        dense: dict[str, Tensor],
        targets: Sequence[Target],
        image_sizes: list[tuple[int, int]],
        limits: Limits | None = None,
    ) -> list[Detections]:
        """Classify the proposals of ``targets``; return detections in network pixels, clipped to each (height, width).

        Raises:
            ValueError: if the network's output is NaN, or a target has no proposals.
        """
        device = next(iter(dense.values())).device
        proposals = [boxes.to(device) for boxes in _proposals_of(targets)]
        return self.roi_heads.detect(self.head.box, dense, proposals, image_sizes, limits or self.limits)

    def postprocess(
        self, dense: dict[str, Tensor], image_sizes: list[tuple[int, int]], limits: Limits | None = None
    ) -> NoReturn:
        """Raise an error, as there are no proposals.

        Raises:
            UserError: always.
        """
        raise UserError(
            "Fast R-CNN finds no proposals itself: detecting needs an RPN (a training with head.type=rcnn can start "
            f"from these weights); {command('evaluate')} --proposals FILE measures them"
        )

    def forward(self, images: Tensor, targets: list[Target] | None = None) -> dict[str, Tensor]:
        """Return losses by name; ``targets`` are in network pixels and have proposals.

        Raises:
            UserError: if no targets are given.
            ValueError: if a target has no proposals.
        """
        dense = self.dense(images)
        if targets is None:
            self.postprocess(dense, [])
        return self.losses(dense, targets)

    def losses(self, dense: dict[str, Tensor], targets: Sequence[Target]) -> Losses:
        """Return ``loss_class`` and ``loss_box``; ground-truth boxes are used as additional proposals."""
        losses = self.roi_heads.losses(self.head.box, dense, _proposals_of(targets), targets)
        # Several processes wait for the gradients of all levels, and no proposal may have gone to some.
        unused = torch.stack([feature.flatten()[0].float() for feature in dense.values()]).sum() * 0
        losses["loss_box"] = losses["loss_box"] + unused
        return losses


def _proposals_of(targets: Sequence[Target]) -> list[Tensor]:
    proposals = [target.proposals for target in targets if target.proposals is not None]
    if len(proposals) < len(targets):
        raise ValueError("Fast R-CNN needs the proposals of every image: its targets have none")
    return proposals
