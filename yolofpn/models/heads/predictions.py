"""Flattens the raw outputs of all levels into one list of predictions with their grid cells and anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolofpn.models.box_coder import yolo_box_to_xyxy
from yolofpn.models.postprocess import MapSpec


@dataclass(frozen=True)
class Grid:
    """Grid cells and anchors of the N predictions of an image.

    Attributes:
        cells: [N, 2] column and row of each prediction's cell.
        anchors: [N, 2] width and height in pixels.
        strides: [N, 1] pixels per cell.
        shapes: [S, 2] width and height of the S = levels x A anchors of the model, by level.
        shape_starts: [S] int64, index of the first prediction of each anchor; the others follow row by row.
        shape_maps: [S, 2] int64, columns and rows of each anchor's feature map.
        scale_x_y: see ``yolo_box_to_xyxy``.
        linear_xy: see ``yolo_box_to_xyxy``.
        softmax: see ``MapSpec``.
    """

    cells: Tensor
    anchors: Tensor
    strides: Tensor
    shapes: Tensor
    shape_starts: Tensor
    shape_maps: Tensor
    scale_x_y: float
    linear_xy: bool
    softmax: bool

    def decode(self, deltas: Tensor, index: Tensor | slice = slice(None)) -> Tensor:
        """Decode ``deltas`` [..., 4] of the predictions ``index`` to boxes [..., 4] xyxy in pixels."""
        return yolo_box_to_xyxy(
            deltas,
            self.anchors[index],
            self.cells[index],
            self.strides[index],
            self.scale_x_y,
            linear_xy=self.linear_xy,
        )


def flatten_maps(dense: Mapping[str, Tensor], specs: Mapping[str, MapSpec]) -> tuple[Tensor, Grid]:
    """Flatten raw outputs [B, A * (5 + C), H, W] of all levels to float32 [B, N, 5 + C]; also return their grid.

    Predictions are ordered by level, anchor, row and column.
    """
    raws = []
    for name, spec in specs.items():
        batch, _, height, width = dense[name].shape
        raw = dense[name].float().view(batch, len(spec.anchors), -1, height * width)
        raws.append(raw.transpose(2, 3).flatten(1, 2))  # [B, A * H * W, 5 + C]
    sizes = [(dense[name].shape[-2], dense[name].shape[-1]) for name in specs]
    return torch.cat(raws, dim=1), make_grid(list(specs.values()), sizes, raws[0].device)


def make_grid(specs: Sequence[MapSpec], sizes: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> Grid:
    """Create the grid of feature maps of ``sizes`` (height, width) in cells."""
    cells, anchors, strides, maps = [], [], [], []
    for spec, (height, width) in zip(specs, sizes, strict=True):
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        count, area = len(spec.anchors), height * width
        cells.append(torch.stack([columns, rows], dim=-1).view(-1, 2).repeat(count, 1))
        anchors.append(torch.tensor(spec.anchors).repeat_interleave(area, dim=0))
        strides.append(torch.full((count * area, 1), float(spec.stride)))
        maps += [(width, height)] * count
    shape_maps = torch.tensor(maps, device=device)
    cells_of_each = shape_maps.prod(dim=1)
    return Grid(
        cells=torch.cat(cells).float().to(device),
        anchors=torch.cat(anchors).float().to(device),
        strides=torch.cat(strides).to(device),
        shapes=torch.tensor([anchor for spec in specs for anchor in spec.anchors], dtype=torch.float32, device=device),
        shape_starts=cells_of_each.cumsum(dim=0) - cells_of_each,
        shape_maps=shape_maps,
        scale_x_y=specs[0].scale_x_y,
        linear_xy=specs[0].linear_xy,
        softmax=specs[0].softmax,
    )
