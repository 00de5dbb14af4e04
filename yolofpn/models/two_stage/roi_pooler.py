"""Pools fixed-size feature maps for boxes from the pyramid level assigned to each box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from yolofpn.ops.boxes import box_area
from yolofpn.ops.roi_align import roi_align, roi_max_pool
from yolofpn.structures import FeatureInfo

CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4  # an ImageNet image's box belongs to p4
_NEARLY_WHOLE = 1e-6  # a logarithm that rounds to just below a whole number is that number


def assign_levels(boxes: Tensor, lowest: int, highest: int) -> Tensor:
    """Return the level of each box: floor(k0 + log2(sqrt(width height) / 224)), clamped (arXiv 1612.03144, equation 1).

    Boxes [R, 4] xyxy in pixels -> [R] int64; a box without area belongs to the finest level.
    """
    scale = box_area(boxes).sqrt() / CANONICAL_SIZE
    return (CANONICAL_LEVEL + scale.log2() + _NEARLY_WHOLE).floor().clamp(lowest, highest).long()


def image_of_each(boxes: Sequence[Tensor]) -> Tensor:
    """Return [R] int64: the image index of each box, for boxes [R_b, 4] of each image."""
    device = boxes[0].device
    counts = torch.tensor([len(each) for each in boxes], device=device)
    return torch.arange(len(boxes), device=device).repeat_interleave(counts)


class RoIPooler:
    """Pools every box from its pyramid level.

    Args:
        feature_info: of the pyramid; consecutive levels p<k>.
        size: height and width of a pooled feature map.
        kind: 'align', or 'max' for RoI max pooling as in Fast R-CNN.
        sampling_ratio: see ``roi_align``.
        aligned: see ``roi_align``.
    """

    def __init__(
        self,
        feature_info: Mapping[str, FeatureInfo],
        size: int,
        *,
        kind: Literal["align", "max"] = "align",
        sampling_ratio: int = 2,
        aligned: bool = False,
    ) -> None:
        self.strides = {int(name.removeprefix("p")): info.stride for name, info in feature_info.items()}
        self.size = (size, size)
        self.kind = kind
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def __call__(self, pyramid: Mapping[str, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """{"p2": [B, C, H, W], ...} and of each image boxes [R_b, 4] -> [R, C, size, size], image after image."""
        return self.pool(pyramid, torch.cat(list(boxes)), image_of_each(boxes))

    def pool(self, pyramid: Mapping[str, Tensor], rois: Tensor, images: Tensor) -> Tensor:
        """{"p2": [B, C, H, W], ...}, boxes [R, 4] and the image of each, [R] -> [R, C, size, size]."""
        levels = assign_levels(rois, min(self.strides), max(self.strides))
        order, pooled = [], []
        for level, stride in self.strides.items():
            own = (levels == level).nonzero().squeeze(1)
            order.append(own)
            pooled.append(self._pool(pyramid[f"p{level}"], rois[own], images[own], stride))
        return torch.cat(pooled)[torch.cat(order).argsort()]

    def _pool(self, feature: Tensor, boxes: Tensor, images: Tensor, stride: int) -> Tensor:
        if self.kind == "max":
            return roi_max_pool(feature, boxes, images, self.size, 1 / stride)
        return roi_align(feature, boxes, images, self.size, 1 / stride, self.sampling_ratio, self.aligned)
