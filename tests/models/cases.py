"""Small heads, maps and targets for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from yolofpn.models.postprocess import MapSpec
from yolofpn.structures import Target

Boxes = Sequence[Sequence[float]]

# Two levels of two anchors; on a 64 x 96 (height x width) input 4 x 6 and 2 x 3 cells.
SPECS = {"p4": MapSpec(16, ((10, 14), (24, 20))), "p5": MapSpec(32, ((60, 40), (50, 70)))}
SIZE = (64, 96)


def random_maps(
    specs: Mapping[str, MapSpec], num_classes: int, size: tuple[int, int], *, batch: int = 1, seed: int = 0
) -> dict[str, Tensor]:
    """Normally distributed raw maps for an input of ``size`` (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(
            batch,
            len(spec.anchors) * (5 + num_classes),
            size[0] // spec.stride,
            size[1] // spec.stride,
            generator=generator,
        )
        for name, spec in specs.items()
    }


def make_target(boxes: Boxes, labels: Sequence[int] | None = None, ignore: Sequence[bool] | None = None) -> Target:
    """A target of ``boxes``, all of class 0 and none to be ignored unless said otherwise."""
    count = len(boxes)
    corners = torch.tensor(boxes, dtype=torch.float32).view(count, 4)
    return Target(
        boxes=corners,
        labels=torch.tensor(labels if labels is not None else [0] * count, dtype=torch.int64),
        ignore=torch.tensor(ignore if ignore is not None else [False] * count, dtype=torch.bool),
        areas=(corners[:, 2:] - corners[:, :2]).prod(dim=1),
    )
