"""The region proposal network (arXiv 1506.01497, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.models.losses import Losses
from yolofpn.models.two_stage.anchor_generator import AnchorGenerator
from yolofpn.models.two_stage.delta_coder import DeltaCoder
from yolofpn.models.two_stage.matcher import BalancedSampler, Matcher
from yolofpn.ops.boxes import clip_boxes
from yolofpn.ops.tensor_nms import batched_nms
from yolofpn.structures import Target

SMALLEST_PROPOSAL = 1e-3  # pixels of a side
SMOOTH_L1_BETA = 1 / 9  # below it the loss is a square: (arXiv 1504.08083, equation 3) with Detectron's sigma of 3


class RPNHead(nn.Module):
    """A 3x3 convolution and two 1x1 siblings, shared by all levels (arXiv 1612.03144, section 4.1).

    Args:
        in_channels: channels of every feature map.
        channels: hidden channels.
        num_anchors: A, per cell.
    """

    def __init__(self, in_channels: int, channels: int, num_anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, num_anchors, 1)
        self.deltas = nn.Conv2d(channels, 4 * num_anchors, 1)
        for conv in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """[B, in_channels, H, W] -> objectness logits [B, A, H, W] and deltas [B, 4 A, H, W]."""
        hidden = F.relu(self.conv(feature))
        return self.objectness(hidden), self.deltas(hidden)


@dataclass(frozen=True)
class RPNOutput:
    """Outputs of the RPN for the N anchors of all levels.

    Attributes:
        objectness: [B, N] logits.
        deltas: [B, N, 4].
        anchors: [N, 4] xyxy in pixels.
        counts: number of anchors of each level.
    """

    objectness: Tensor
    deltas: Tensor
    anchors: Tensor
    counts: tuple[int, ...]


@dataclass(frozen=True)
class ProposalLimits:
    """Limits on the number and overlap of proposals.

    Attributes:
        pre_nms_top_n: best anchors of each level kept before NMS.
        post_nms_top_n: the most proposals of an image, over all levels.
        nms_thresh: IoU threshold of NMS within each level.
    """

    pre_nms_top_n: int
    post_nms_top_n: int
    nms_thresh: float


def flatten_rpn_maps(
    objectness: Sequence[Tensor], deltas: Sequence[Tensor], generator: AnchorGenerator, input_size: tuple[int, int]
) -> RPNOutput:
    """Flatten the outputs [B, A, H, W] and [B, 4 A, H, W] of all levels, ordered by level, row and column."""
    sizes = [(scores.shape[2], scores.shape[3]) for scores in objectness]
    anchors = [level.to(objectness[0].device) for level in generator(sizes, input_size)]
    return RPNOutput(
        torch.cat([scores.float().permute(0, 2, 3, 1).flatten(1) for scores in objectness], dim=1),
        torch.cat([level.float().permute(0, 2, 3, 1).reshape(len(level), -1, 4) for level in deltas], dim=1),
        torch.cat(anchors),
        tuple(map(len, anchors)),
    )


class ProposalSelector:
    """Selects proposals: the best anchors of each level, decoded, clipped to the image, after NMS within each level.

    Args:
        coder: encodes and decodes the deltas.
    """

    def __init__(self, coder: DeltaCoder) -> None:
        self.coder = coder

    @torch.no_grad()
    def __call__(
        self, output: RPNOutput, image_sizes: Sequence[tuple[int, int]], limits: ProposalLimits
    ) -> list[tuple[Tensor, Tensor]]:
        """Return boxes [P, 4] clipped to (height, width) and scores [P] in 0..1, descending, of each image.

        An image's proposals do not depend on the others of its batch.

        Raises:
            ValueError: if a score or a box is NaN.
        """
        best, level = self._best_of_each_level(output.objectness, output.counts, limits.pre_nms_top_n)
        found = []
        for scores, deltas, chosen, size in zip(output.objectness, output.deltas, best, image_sizes, strict=True):
            boxes = clip_boxes(self.coder.decode(deltas[chosen], output.anchors[chosen]), size)
            # Boxes with NaN pass this comparison and are detected by NMS.
            keep = (~(boxes[:, 2:] - boxes[:, :2] < SMALLEST_PROPOSAL).any(dim=1)).nonzero().squeeze(1)
            boxes, probabilities = boxes[keep], scores[chosen][keep].sigmoid()
            kept = batched_nms(boxes, probabilities, level[keep], limits.nms_thresh)[: limits.post_nms_top_n]
            found.append((boxes[kept], probabilities[kept]))
        return found

    @staticmethod
    def _best_of_each_level(objectness: Tensor, counts: Sequence[int], top_n: int) -> tuple[Tensor, Tensor]:
        """Return [B, K] indices of the best ``top_n`` anchors of each level, and the level [K] of each."""
        best, levels, start = [], [], 0
        for number, logits in enumerate(torch.split(objectness, list(counts), dim=1)):
            count = min(top_n, logits.shape[1])
            best.append(logits.topk(count, dim=1).indices + start)
            levels.append(torch.full((count,), number, device=objectness.device))
            start += logits.shape[1]
        return torch.cat(best, dim=1), torch.cat(levels)


class RPNLoss:
    """Objectness and box losses of a sample of anchors (arXiv 1506.01497, equation 1).

    Args:
        matcher: matches anchors with boxes.
        sampler: samples anchors.
        coder: encodes and decodes the deltas.
    """

    def __init__(self, matcher: Matcher, sampler: BalancedSampler, coder: DeltaCoder) -> None:
        self.matcher = matcher
        self.sampler = sampler
        self.coder = coder

    def __call__(self, output: RPNOutput, targets: Sequence[Target]) -> Losses:
        """Return ``loss_objectness`` and ``loss_rpn_box``, each divided by the number of sampled anchors."""
        logits, wanted, predicted, deltas = [], [], [], []
        for scores, shifts, target in zip(output.objectness, output.deltas, targets, strict=True):
            matched = self.matcher(output.anchors, target)
            positive, background = self.sampler(matched)
            logits.append(scores[torch.cat([positive, background])])
            wanted.append(torch.cat([torch.ones_like(scores[positive]), torch.zeros_like(scores[background])]))
            predicted.append(shifts[positive])
            deltas.append(self.coder.encode(target.boxes[matched[positive]], output.anchors[positive]))
        objectness = F.binary_cross_entropy_with_logits(torch.cat(logits), torch.cat(wanted), reduction="sum")
        box = F.smooth_l1_loss(torch.cat(predicted), torch.cat(deltas), beta=SMOOTH_L1_BETA, reduction="sum")
        return Losses.over({"loss_objectness": objectness, "loss_rpn_box": box}, sum(map(len, logits)))
