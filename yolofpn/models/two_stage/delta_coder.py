"""The box parametrisation of R-CNN: deltas relative to a reference box (arXiv 1311.2524, appendix C)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from yolofpn.ops.boxes import xyxy_to_cxcywh

MAX_LOG_SCALE = math.log(1000 / 16)  # Detectron's: one step makes a box of 16 pixels one of 1000 at most


@dataclass(frozen=True)
class DeltaCoder:
    """t_x = w_x (x - x_a) / width_a, t_w = w_w log(width / width_a), and likewise y, h (arXiv 1506.01497, equation 2).

    Attributes:
        weights: w of x, y, width and height; those of the second stage normalise its deltas to about 1.
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def encode(self, boxes: Tensor, references: Tensor) -> Tensor:
        """Encode ``boxes`` as deltas [..., 4] relative to ``references``; both are [..., 4] xyxy of positive size."""
        centre, size = xyxy_to_cxcywh(boxes).chunk(2, dim=-1)
        reference_centre, reference_size = xyxy_to_cxcywh(references).chunk(2, dim=-1)
        deltas = torch.cat([(centre - reference_centre) / reference_size, (size / reference_size).log()], dim=-1)
        return deltas * deltas.new_tensor(self.weights)

    def decode(self, deltas: Tensor, references: Tensor) -> Tensor:
        """Apply ``deltas`` [..., 4] to ``references`` [..., 4] xyxy; return boxes [..., 4] xyxy."""
        shift, log_scale = (deltas / deltas.new_tensor(self.weights)).chunk(2, dim=-1)
        centre, size = xyxy_to_cxcywh(references).chunk(2, dim=-1)
        centre = centre + shift * size
        half = size * log_scale.clamp(max=MAX_LOG_SCALE).exp() / 2
        return torch.cat([centre - half, centre + half], dim=-1)
