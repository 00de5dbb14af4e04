"""Matching of anchors or proposals with ground-truth boxes, and their sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from yolofpn.models.heads.assigner import covered_by_ignore_regions
from yolofpn.ops.boxes import box_iou
from yolofpn.structures import Target

BACKGROUND, IGNORED = -1, -2
SMALLEST_SIDE = 1e-3  # pixels; a box without width or height has no logarithm to learn


@dataclass(frozen=True)
class Matcher:
    """Matches candidates by their IoU with the best box (arXiv 1506.01497, section 3.1.2).

    Attributes:
        positive_iou_thresh: candidates with at least this IoU are matched.
        negative_iou_thresh: candidates with a lower IoU are background; those in between are ignored.
        keep_best: match the best candidates of each box even if their IoU is low.
    """

    positive_iou_thresh: float
    negative_iou_thresh: float
    keep_best: bool = False

    @torch.no_grad()
    def __call__(self, candidates: Tensor, target: Target) -> Tensor:
        """Candidates [N, 4] and a target of objects and ignore regions -> [N] int64.

        Each is the index of a box of ``target``, ``BACKGROUND`` or ``IGNORED``.
        """
        objects = usable_objects(target)
        matched = torch.full((len(candidates),), BACKGROUND, device=candidates.device)
        if len(objects) and len(candidates):
            iou = box_iou(candidates, target.boxes[objects])  # [N, M]
            best_iou, best_object = iou.max(dim=1)
            positive = best_iou >= self.positive_iou_thresh
            if self.keep_best:
                most = iou.amax(dim=0)
                positive |= ((iou == most) & (most > 0)).any(dim=1)
            matched[best_iou >= self.negative_iou_thresh] = IGNORED
            matched[positive] = objects[best_object[positive]]
        matched[(matched == BACKGROUND) & covered_by_ignore_regions(candidates, target)] = IGNORED
        return matched


def usable_objects(target: Target) -> Tensor:
    """Return [K] int64: indices of the boxes of ``target`` that are not ignore regions and have an area."""
    sides = target.boxes[:, 2:] - target.boxes[:, :2]
    return ((sides >= SMALLEST_SIDE).all(dim=1) & ~target.ignore).nonzero().squeeze(1)


@dataclass(frozen=True)
class BalancedSampler:
    """Samples candidates at random with a limited share of background (arXiv 1504.08083, section 2.3).

    Attributes:
        batch_size_per_img: sampled candidates per image.
        positive_fraction: maximum fraction of positives; the rest is background.
    """

    batch_size_per_img: int
    positive_fraction: float

    def __call__(self, matched: Tensor) -> tuple[Tensor, Tensor]:
        """Sample from matches [N] of a ``Matcher``; return indices of positive and of background candidates."""
        positive = (matched >= 0).nonzero().squeeze(1)
        background = (matched == BACKGROUND).nonzero().squeeze(1)
        positive = _draw(positive, int(self.batch_size_per_img * self.positive_fraction))
        return positive, _draw(background, self.batch_size_per_img - len(positive))


def _draw(indices: Tensor, count: int) -> Tensor:
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices), device=indices.device)[:count]]
