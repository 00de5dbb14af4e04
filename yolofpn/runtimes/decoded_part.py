"""A detector's decoded predictions as one tensor, for graphs that other programs read: no knowledge of anchors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from yolofpn.detector import Detector
from yolofpn.models.postprocess import MAX_LOG_SIZE, MapSpec
from yolofpn.runtimes.torch_backend import DensePart


class DecodedPart(nn.Module):
    """``dense`` and the decoding of ``models/postprocess.py``, as the ``forward`` of a module.

    Args:
        part: of a one-stage detector.
        specs: how its raw outputs are decoded.
        size: (height, width) of the input.
        uint8: the input is uint8 in 0..255, or bands of that range; else float in 0..1.
    """

    def __init__(self, part: DensePart, specs: Mapping[str, MapSpec], size: tuple[int, int], *, uint8: bool) -> None:
        super().__init__()
        self.part = part
        self.size = size
        self.uint8 = uint8
        self._specs = dict(specs)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] RGB -> [B, 4 + C, N]: cx, cy, w, h in network pixels, and the score of each class.

        The score is objectness x class probability (x certainty of Gaussian outputs). The N predictions are in the
        order of the maps, in each anchor by anchor, and row by row.
        """
        maps = self.part(images if self.uint8 else images * 255)
        return torch.cat([self._decoded(maps[name], spec) for name, spec in self._specs.items()], dim=2)

    def _decoded(self, raw: Tensor, spec: MapSpec) -> Tensor:
        """[B, A * (5 + C), H, W] -> [B, 4 + C, A * H * W]."""
        rows, columns = raw.shape[2:]
        num_anchors, first = len(spec.anchors), spec.box_values
        raw = raw.reshape(-1, num_anchors, raw.shape[1] // num_anchors, rows * columns)
        box, certainty = raw[:, :, : first - 1], None
        if spec.gaussian:
            certainty = 1 - box[:, :, 1::2].sigmoid().mean(dim=2, keepdim=True)
            box = box[:, :, ::2]
        objectness, classes = raw[:, :, first - 1 : first], raw[:, :, first:]
        if not spec.new_coords:
            objectness = objectness.sigmoid()
            classes = classes.softmax(dim=2) if spec.softmax else classes.sigmoid()
        scores = objectness * classes if certainty is None else objectness * classes * certainty
        width, height = spec.cell_size((rows, columns), self.size)
        grown = (width / spec.stride, height / spec.stride) if spec.anchors_in_cells else (1.0, 1.0)
        cell = torch.tensor([width, height], dtype=torch.float32).view(2, 1)
        anchors = (torch.tensor(spec.anchors) * torch.tensor(grown)).view(num_anchors, 2, 1)
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        cells = torch.stack([x, y]).view(2, -1).float()
        offset, size = box[:, :, :2], box[:, :, 2:]
        if not spec.linear_xy:
            offset = (offset if spec.new_coords else offset.sigmoid()) * spec.scale_x_y - (spec.scale_x_y - 1) / 2
        sides = (2 * size).square() if spec.new_coords else size.clamp(max=MAX_LOG_SIZE).exp()
        predictions = torch.cat([(offset + cells) * cell, sides * anchors, scores], dim=2)
        return predictions.transpose(1, 2).reshape(-1, predictions.shape[2], num_anchors * rows * columns)


def specs_of(detector: Detector) -> Mapping[str, MapSpec]:
    """How the raw outputs of a one-stage detector are decoded."""
    specs: Mapping[str, MapSpec] = detector.specs  # type: ignore[attr-defined]  # of one-stage detectors only
    return specs
