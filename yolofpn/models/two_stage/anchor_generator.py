"""Anchors of the region proposal network (arXiv 1506.01497, section 3.1.1; arXiv 1612.03144, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def base_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Return the anchors of one cell, centred at the origin, ordered by ratio, then by size.

    Args:
        sizes: square roots of the areas, in pixels.
        ratios: aspect ratios, height / width.

    Returns:
        [A, 4] xyxy in pixels, rounded to whole ones as in torchvision.
    """
    with torch.device("cpu"):  # also of a network that is built without numbers, on the meta device
        height_factors = torch.tensor(ratios).sqrt()
        widths = ((1 / height_factors)[:, None] * torch.tensor(sizes)).flatten()
        heights = (height_factors[:, None] * torch.tensor(sizes)).flatten()
        return (torch.stack([-widths, -heights, widths, heights], dim=1) / 2).round()


def place_anchors(base: Tensor, map_size: tuple[int, int], input_size: tuple[int, int]) -> Tensor:
    """Return the anchors of every cell of a feature map, row by row, including those that exceed the image.

    Cells are a whole number of pixels apart: the input's size divided by the map's, rounded down. Where the coarsest
    map is a rounded half of the one before, that is less than its nominal stride, as in torchvision.

    Args:
        base: [A, 4], the anchors of the cell at the origin.
        map_size: (height, width) in cells.
        input_size: (height, width) of the network's input in pixels.

    Returns:
        [H * W * A, 4] xyxy in pixels.
    """
    step_y, step_x = (pixels // cells for pixels, cells in zip(input_size, map_size, strict=True))
    y = torch.arange(map_size[0], device=base.device) * step_y
    x = torch.arange(map_size[1], device=base.device) * step_x
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([columns, rows, columns, rows], dim=-1).view(-1, 1, 4)
    return (shifts + base).view(-1, 4)


class AnchorGenerator:
    """The anchors of all levels.

    Args:
        sizes: square roots of the areas in pixels, for each level from the finest to the coarsest.
        ratios: aspect ratios, height / width, for every level.

    Raises:
        ValueError: if the levels differ in their number of anchors.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> None:
        if len({len(level) for level in sizes}) != 1:
            raise ValueError("every level needs the same number of anchor sizes")
        self.base = [base_anchors(level, ratios) for level in sizes]
        self.num_anchors = len(self.base[0])

    def __call__(self, map_sizes: Sequence[tuple[int, int]], input_size: tuple[int, int]) -> list[Tensor]:
        """Return the anchors [H * W * A, 4] of each level, for (height, width) of each feature map and of the input."""
        return [place_anchors(base, size, input_size) for base, size in zip(self.base, map_sizes, strict=True)]
