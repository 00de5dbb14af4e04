"""The one-stage detector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from yolofpn.models.heads.yolo_loss import YOLOLoss
from yolofpn.models.layers import Normalize
from yolofpn.models.postprocess import MapSpec, postprocess_maps
from yolofpn.models.two_stage.proposals import Proposals, propose_from_maps
from yolofpn.structures import Detections, Limits, Target
from yolofpn.types import RawMaps


class YOLO(nn.Module):
    """Backbone, neck and head of YOLOv3; a ``Detector``.

    Args:
        normalize: the first step of the network.
        backbone: images -> {"c2" ... "c5"}.
        neck: {"c2" ... "c5"} -> {"p3" ...}.
        head: {"p3" ...} -> raw maps of the same names.
        specs: how each raw output is decoded.
        num_classes: C.
        limits: thresholds and maximum number of detections.
        loss: computes the training losses.
    """

    needs_proposals = False
    class_agnostic = False
    is_graph = False
    second_stage = None

    def __init__(
        self,
        normalize: Normalize,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        specs: Mapping[str, MapSpec],
        num_classes: int,
        limits: Limits,
        loss: YOLOLoss,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.specs = dict(specs)
        self.num_classes = num_classes
        self.limits = limits
        self.loss = loss
        self.size_divisor = 32  # c5's stride

    def dense(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (or float of the same 0..255 range) [B, 3, H, W] RGB -> {"p3": [B, A * (5 + C), H/8, W/8], ...}."""
        features = self.backbone(self.normalize(images))
        pyramid = self.neck(features)
        maps: dict[str, Tensor] = self.head(pyramid)
        return maps

    def postprocess(
        self, dense: RawMaps, image_sizes: list[tuple[int, int]], limits: Limits | None = None
    ) -> list[Detections]:
        """Convert raw outputs to detections in network pixels, clipped to each image's (height, width)."""
        return postprocess_maps(dense, self.specs, self.num_classes, image_sizes, limits or self.limits)

    def propose(self, dense: dict[str, Tensor], image_sizes: list[tuple[int, int]]) -> list[Proposals]:
        """Convert raw outputs to class-agnostic proposals in network pixels."""
        return propose_from_maps(dense, self.specs, self.num_classes, image_sizes)

    def forward(self, images: Tensor, targets: list[Target] | None = None) -> dict[str, Tensor] | list[Detections]:
        """Return losses by name if ``targets`` (in network pixels) are given, else detections in network pixels."""
        dense = self.dense(images)
        size = (images.shape[-2], images.shape[-1])
        if targets is not None:
            with torch.autocast(images.device.type, enabled=False):  # sums over thousands of cells need float32
                return self.loss(dense, targets, size)
        return self.postprocess(dense, [size] * len(images))
