"""Parameter-free operations of the first stage: anchors, proposals and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from yolofpn.models.two_stage.anchor_generator import AnchorGenerator
from yolofpn.models.two_stage.rpn import (
    ProposalLimits,
    ProposalSelector,
    RPNHead,
    RPNLoss,
    RPNOutput,
    flatten_rpn_maps,
)


@dataclass(frozen=True)
class FirstStage:
    """The parameter-free operations of the RPN.

    Attributes:
        anchors: one set per level of the neck, and one more for the level above, if there is one.
        select: selects proposals from anchors.
        loss: computes the training losses.
        train_limits: limits of proposals in training.
        test_limits: limits of proposals in evaluation.
    """

    anchors: AnchorGenerator
    select: ProposalSelector
    loss: RPNLoss
    train_limits: ProposalLimits
    test_limits: ProposalLimits

    def maps(self, rpn: RPNHead, pyramid: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"objectness_p2": [B, A, H/4, W/4], "deltas_p2": [B, 4 A, H/4, W/4], ...} of every level."""
        maps = {}
        for name, feature in self._levels(pyramid).items():
            maps[f"objectness_{name}"], maps[f"deltas_{name}"] = rpn(feature)
        return maps

    def _levels(self, pyramid: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid, and the level above it: every other cell of the coarsest one (arXiv 1612.03144, section 4.1)."""
        levels = dict(pyramid)
        if len(self.anchors.base) > len(pyramid):
            name, coarsest = list(pyramid.items())[-1]
            levels[f"p{int(name[1:]) + 1}"] = F.max_pool2d(coarsest, kernel_size=1, stride=2)
        return levels

    def read(self, dense: Mapping[str, Tensor], input_size: tuple[int, int]) -> RPNOutput:
        """Flatten the RPN outputs in ``dense`` for a network input of (height, width)."""
        objectness = [map for name, map in dense.items() if name.startswith("objectness_")]
        deltas = [map for name, map in dense.items() if name.startswith("deltas_")]
        return flatten_rpn_maps(objectness, deltas, self.anchors, input_size)

    def propose(self, output: RPNOutput, image_sizes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Return boxes [P, 4] in network pixels and scores [P], descending, of each image."""
        return self.select(output, image_sizes, self.test_limits)
