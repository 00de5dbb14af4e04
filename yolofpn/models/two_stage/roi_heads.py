"""Parameter-free operations of the second stage: sampling, losses and detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from yolofpn.errors import NaNOutputError
from yolofpn.models.losses import Losses
from yolofpn.models.postprocess import class_thresholds
from yolofpn.models.two_stage.box_head import BoxHead
from yolofpn.models.two_stage.delta_coder import DeltaCoder
from yolofpn.models.two_stage.matcher import BalancedSampler, Matcher, usable_objects
from yolofpn.models.two_stage.roi_pooler import RoIPooler, image_of_each
from yolofpn.models.two_stage.rpn import SMOOTH_L1_BETA
from yolofpn.ops.boxes import clip_boxes
from yolofpn.ops.nms import batched_nms
from yolofpn.structures import Detections, Limits, Target

SMALLEST_DETECTION = 1e-2  # pixels of a side
# Values of pooled feature maps per chunk in inference. CPUs are faster with small chunks, whose
# memory is reused (300 ms with 16 MB, 350 ms with 256 MB); other devices are faster with large ones.
_POOLED_AT_ONCE = {"cpu": 2**22}
_POOLED_AT_ONCE_ELSE = 2**26


class RoIHeads:
    """Fast R-CNN (arXiv 1504.08083, section 2), pooling each proposal from its level (arXiv 1612.03144, section 4.2).

    Args:
        pooler: pools feature maps of fixed size for boxes.
        matcher: matches proposals with boxes.
        sampler: samples proposals for training.
        coder: encodes and decodes the deltas.
        num_classes: C, without the background.
    """

    def __init__(
        self, pooler: RoIPooler, matcher: Matcher, sampler: BalancedSampler, coder: DeltaCoder, num_classes: int
    ) -> None:
        self.num_classes = num_classes
        self.pooler = pooler
        self.matcher = matcher
        self.sampler = sampler
        self.coder = coder

    def losses(
        self, head: BoxHead, pyramid: Mapping[str, Tensor], proposals: Sequence[Tensor], targets: Sequence[Target]
    ) -> Losses:
        """Return ``loss_class`` and ``loss_box`` of a sample of the proposals [P, 4] of each image.

        Both are divided by the number of sampled proposals (arXiv 1504.08083, equation 1). Ground-truth boxes
        are added to the proposals, so that there are always positives.
        """
        boxes, labels, wanted = [], [], []
        for own, target in zip(proposals, targets, strict=True):
            own = torch.cat([own, target.boxes[usable_objects(target)]])
            matched = self.matcher(own, target)
            positive, background = self.sampler(matched)
            chosen = torch.cat([positive, background])
            boxes.append(own[chosen])
            labels.append(torch.cat([1 + target.labels[matched[positive]], torch.zeros_like(background)]))
            wanted.append(self.coder.encode(target.boxes[matched[positive]], own[positive]))
        label = torch.cat(labels)
        logits, deltas = head(self.pooler(pyramid, boxes))
        positive = label.nonzero().squeeze(1)
        own_class = deltas[positive, label[positive]]
        sums = {
            "loss_class": F.cross_entropy(logits, label, reduction="sum"),
            "loss_box": F.smooth_l1_loss(own_class, torch.cat(wanted), beta=SMOOTH_L1_BETA, reduction="sum"),
        }
        return Losses.over(sums, len(label))

    def detect(
        self,
        head: BoxHead,
        pyramid: Mapping[str, Tensor],
        proposals: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        limits: Limits,
    ) -> list[Detections]:
        """Return detections of each image, clipped to its (height, width).

        A proposal is a detection of every class whose probability is above its threshold, each with its own box.

        Raises:
            NaNOutputError: if the network's output is NaN.
            ValueError: if the thresholds are not one or C.
        """
        logits, deltas = self._predict(head, pyramid, proposals)
        if bool(logits.isnan().any() | deltas.isnan().any()):
            raise NaNOutputError
        classes = slice(1, 1 + self.num_classes)
        scores = logits.softmax(dim=1)[:, classes]
        thresholds = scores.new_tensor(class_thresholds(limits.score_thresh, self.num_classes))
        boxes = self.coder.decode(deltas[:, classes], torch.cat(list(proposals))[:, None])  # [R, C, 4]
        counts = [len(own) for own in proposals]
        boxes_of_each, scores_of_each = torch.split(boxes, counts), torch.split(scores, counts)
        found = []
        for own_boxes, own_scores, size in zip(boxes_of_each, scores_of_each, image_sizes, strict=True):
            index, label = (own_scores > thresholds).nonzero(as_tuple=True)
            found.append(
                best_detections(clip_boxes(own_boxes[index, label], size), own_scores[index, label], label, limits)
            )
        return found

    def _predict(
        self, head: BoxHead, pyramid: Mapping[str, Tensor], proposals: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Run the head on all proposals, in chunks of some thousand."""
        channels = next(iter(pyramid.values())).shape[1]
        height, width = self.pooler.size
        rois, images = torch.cat(list(proposals)), image_of_each(proposals)
        numbers = _POOLED_AT_ONCE.get(rois.device.type, _POOLED_AT_ONCE_ELSE)
        at_once = max(1, numbers // (channels * height * width))
        # The order that pooling reads them in: else it would bring the whole maps into it for every part.
        maps = {name: feature.contiguous(memory_format=torch.channels_last) for name, feature in pyramid.items()}
        batches = zip(torch.split(rois, at_once), torch.split(images, at_once), strict=True)
        parts = [head(self.pooler.pool(maps, some, of)) for some, of in batches]
        logits, deltas = zip(*parts, strict=True)
        return torch.cat(logits), torch.cat(deltas)


def best_detections(boxes: Tensor, scores: Tensor, labels: Tensor, limits: Limits) -> Detections:
    """What NMS within each class leaves of candidates in any order, the best first."""
    visible = (boxes[:, 2:] - boxes[:, :2] >= SMALLEST_DETECTION).all(dim=1)
    candidates = Detections(boxes[visible], scores[visible], labels[visible])
    kept = batched_nms(candidates.boxes, candidates.scores, candidates.labels, limits.nms_thresh)
    return candidates[kept[: limits.detections_per_img]]
