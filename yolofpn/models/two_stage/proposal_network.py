"""The region proposal network as a class-agnostic detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from yolofpn.models.layers import Normalize
from yolofpn.models.losses import Losses
from yolofpn.models.postprocess import class_thresholds
from yolofpn.models.two_stage.faster_rcnn import Projection
from yolofpn.models.two_stage.first_stage import FirstStage
from yolofpn.models.two_stage.rpn import RPNHead, RPNOutput
from yolofpn.structures import Detections, Limits, Target


class ProposalHead(nn.Module):
    """The modules of the detector head."""

    def __init__(self, project: Projection, rpn: RPNHead) -> None:
        super().__init__()
        self.project = project
        self.rpn = rpn


class ProposalNetwork(nn.Module):
    """A region proposal network on a feature pyramid (arXiv 1506.01497, section 3.1); a ``Detector`` of one class.

    Its proposals are its detections: NMS is applied within each level, and ``limits.nms_thresh`` is
    not used.

    Args:
        normalize: the first step of the network.
        backbone: images -> {"c2" ... "c5"}.
        neck: {"c2" ... "c5"} -> {"p2" ...}.
        head: the parts that have weights.
        first: the parts that have none.
        limits: which proposals become detections.
    """

    num_classes = 1

    needs_proposals = False
    class_agnostic = True
    is_graph = False
    second_stage = None

    def __init__(
        self,
        normalize: Normalize,
        backbone: nn.Module,
        neck: nn.Module,
        head: ProposalHead,
        first: FirstStage,
        limits: Limits,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.first = first
        self.limits = limits
        self.size_divisor = 32  # c5's stride
        self.feature_info = head.project.feature_info

    def dense(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (or float of the same 0..255 range) [B, 3, H, W] RGB -> see ``FirstStage.maps``."""
        return self.first.maps(self.head.rpn, self.head.project(self.neck(self.backbone(self.normalize(images)))))

    def propose(self, dense: dict[str, Tensor], image_sizes: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Return boxes [P, 4] in network pixels and scores [P], descending, of each image."""
        return self.first.propose(self._read(dense), image_sizes)

    def postprocess(
        self, dense: dict[str, Tensor], image_sizes: list[tuple[int, int]], limits: Limits | None = None
    ) -> list[Detections]:
        """Return the proposals above the score threshold as detections in network pixels.

        Raises:
            ValueError: if the network's output is NaN, or the thresholds are not one.
        """
        limits = limits or self.limits
        (threshold,) = class_thresholds(limits.score_thresh, self.num_classes)
        found = []
        for boxes, scores in self.propose(dense, image_sizes):
            count = min(int((scores > threshold).sum()), limits.detections_per_img)
            found.append(Detections(boxes[:count], scores[:count], np.zeros(count)))
        return found

    def forward(self, images: Tensor, targets: list[Target] | None = None) -> dict[str, Tensor] | list[Detections]:
        """Losses by name if ``targets`` (in network pixels) are given, else detections in network pixels."""
        dense = self.dense(images)
        if targets is None:
            return self.postprocess(dense, [(images.shape[-2], images.shape[-1])] * len(images))
        return self.losses(dense, targets)

    def losses(self, dense: dict[str, Tensor], targets: Sequence[Target]) -> Losses:
        """Return ``loss_objectness`` and ``loss_rpn_box``, ignoring the classes of objects."""
        return self.first.loss(self._read(dense), targets)

    def _read(self, dense: dict[str, Tensor]) -> RPNOutput:
        name, info = next(iter(self.feature_info.items()))
        finest = dense[f"objectness_{name}"]
        return self.first.read(dense, (finest.shape[-2] * info.stride, finest.shape[-1] * info.stride))
