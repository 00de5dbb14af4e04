"""From raw output maps to detections: threshold first, decode what is left, then NMS within each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolofpn.errors import NaNOutputError
from yolofpn.models.box_coder import yolo_box_to_xyxy
from yolofpn.ops.boxes import clip_boxes
from yolofpn.ops.nms import batched_nms
from yolofpn.ops.resize import Placement
from yolofpn.structures import Detections, Detector, Limits


@dataclass(frozen=True)
class MapSpec:
    """How one raw map [B, A * (5 + C), H, W] is read: per anchor x, y, w, h, objectness and the classes.

    The maps of one network agree on all but stride, anchors, scale_x_y and gaussian.

    Attributes:
        stride: pixels per cell.
        anchors: A times (width, height) in pixels.
        scale_x_y: see ``yolo_box_to_xyxy``.
        linear_xy: see ``yolo_box_to_xyxy``.
        softmax: class scores by softmax (YOLOv2) instead of independent sigmoids (YOLOv3).
        new_coords: see ``yolo_box_to_xyxy``; objectness and classes, too, are in 0..1 already.
        gaussian: x, y, w and h are each followed by their uncertainty, so A * (9 + C) channels (arXiv 1904.04620).
        nms_exponent: ``distance_exponent`` of ``batched_nms``.
        divides: the stride divides the input; else a cell has the size of the input over that of the map.
        anchors_in_cells: the anchors are those of cells of ``stride`` pixels, and as much larger as the cells are.
    """

    stride: int
    anchors: tuple[tuple[float, float], ...]
    scale_x_y: float = 1.0
    linear_xy: bool = False
    softmax: bool = False
    new_coords: bool = False
    gaussian: bool = False
    nms_exponent: float | None = None
    divides: bool = True
    anchors_in_cells: bool = False

    @property
    def box_values(self) -> int:
        """How many values of a prediction come before the classes."""
        return 9 if self.gaussian else 5

    def cell_size(self, cells: tuple[int, int], input_size: tuple[int, int]) -> tuple[float, float]:
        """(width, height) in pixels of each of ``cells`` (rows, columns) of an input of (height, width)."""
        if self.divides:
            return self.stride, self.stride
        return input_size[1] / cells[1], input_size[0] / cells[0]


@dataclass(frozen=True)
class Picked:
    """Predictions whose objectness alone is above the threshold, not decoded yet: K of them."""

    images: Tensor  # [K] int64, index into the batch
    raw: Tensor  # [K, 5 + C]
    cells: Tensor  # [K, 2] int64, column and row
    layout: Tensor  # [K, 5], the anchor's width and height, those of a cell, scale_x_y
    certainty: Tensor  # [K, 1], a factor of the scores


def postprocess_maps(
    dense: Mapping[str, Tensor],
    specs: Mapping[str, MapSpec],
    num_classes: int,
    image_sizes: Sequence[tuple[int, int]],
    limits: Limits,
    regions: Sequence[tuple[int, int]] | None = None,
) -> list[Detections]:
    """Detections of each image in network pixels, clipped to its (height, width); they lie on the CPU.

    A prediction is a detection of class c if objectness x class score > score_thresh[c], so one box may have several
    classes (YOLOv3, section 2.2). The result of an image does not depend on the others of its batch.

    Args:
        dense: the maps [B, A * (5 + C), H, W].
        specs: how each is read.
        num_classes: C.
        image_sizes: each image's (height, width) in network pixels.
        limits: which predictions become detections.
        regions: (height, width) in network pixels of what each image shows without its padding: Darknet measures
            distances in parts of these. By default ``image_sizes``.

    Raises:
        ValueError: a prediction that could become a detection holds NaN, a map does not have A * (5 + C) channels,
            the thresholds are not one or C, or the maps differ where they have to agree.
    """
    batch = len(next(iter(dense.values())))
    if len(image_sizes) != batch:
        raise ValueError(f"{len(image_sizes)} image sizes for a batch of {batch}")
    thresholds = class_thresholds(limits.score_thresh, num_classes)
    first = next(iter(specs.values()))
    if any(_shared(spec) != _shared(first) for spec in specs.values()):
        raise ValueError("the maps of one network must agree on softmax, linear_xy, new_coords and nms_exponent")
    lowest, input_size = min(thresholds), image_sizes[0]
    parts = [pick_predictions(dense[name], spec, num_classes, lowest, input_size) for name, spec in specs.items()]
    # From here on all levels go together: many small steps cost more than what they compute.
    picked = Picked(*(torch.cat(columns) for columns in zip(*map(_columns, parts), strict=True)))
    scores = class_scores(picked, first)
    index, labels = (scores > scores.new_tensor(thresholds)).nonzero(as_tuple=True)
    boxes = decode_picked(picked, first)[index]
    # NMS works on the CPU: a GPU is waited for once for the candidates of all images, not for each image.
    columns = (boxes, scores[index, labels], labels, picked.images[index])
    boxes, scores, labels, images = (column.cpu() for column in columns)
    results = []
    for number, size in enumerate(image_sizes):
        own = slice(None) if batch == 1 else images == number
        measured = boxes[own]
        if first.nms_exponent is not None:
            height, width = (regions or image_sizes)[number]
            measured = measured / measured.new_tensor([width, height, width, height])
        keep = batched_nms(measured, scores[own], labels[own], limits.nms_thresh, first.nms_exponent)
        keep = keep[: limits.detections_per_img]
        results.append(Detections(clip_boxes(boxes[own][keep], size), scores[own][keep], labels[own][keep]))
    return results


def postprocess_placed(
    detector: Detector, dense: dict[str, Tensor], placements: Sequence[Placement], limits: Limits
) -> list[Detections]:
    """``detector.postprocess`` of images that lie in the network's input as ``placements`` say."""
    sizes = [placement.network_size for placement in placements]
    if nms_exponent(detector) is None:
        return detector.postprocess(dense, sizes, limits)
    regions = [placement.region_size for placement in placements]
    # Only networks from a Darknet cfg have such maps, and take regions.
    return detector.postprocess(dense, sizes, limits, regions)  # type: ignore[call-arg]


def nms_exponent(detector: object) -> float | None:
    """``distance_exponent`` of the NMS of ``detector``."""
    specs: Mapping[str, MapSpec] = getattr(detector, "specs", {})
    return next((spec.nms_exponent for spec in specs.values()), None)


def divides_inputs(detector: object) -> bool:
    """Whether each map of ``detector`` has the size of its input over its stride."""
    specs: Mapping[str, MapSpec] = getattr(detector, "specs", {})
    return all(spec.divides for spec in specs.values())


def pick_predictions(
    raw: Tensor, spec: MapSpec, num_classes: int, lowest: float, input_size: tuple[int, int]
) -> Picked:
    """The predictions of one map [B, A * (5 + C), H, W] whose objectness is above ``lowest``.

    Objectness bounds the score from above, so most predictions are dropped before any other value is touched.
    """
    batch, channels, height, width = raw.shape
    num_anchors, values = len(spec.anchors), spec.box_values
    if channels != num_anchors * (values + num_classes):
        raise ValueError(f"{channels} channels for {num_anchors} anchors x ({values} + {num_classes} classes)")
    raw = raw.view(batch, num_anchors, values + num_classes, height, width)
    objectness = raw[:, :, values - 1].float()
    # What is not surely below stays, NaN too, so that it is found out.
    below = (objectness if spec.new_coords else objectness.sigmoid()) <= lowest  # [B, A, H, W]
    image, anchor, row, column = (~below).nonzero(as_tuple=True)
    picked = raw[image, anchor, :, row, column].float()  # [K, 5 + C]
    if picked.isnan().any():
        raise NaNOutputError
    certainty = torch.ones_like(picked[:, :1])
    if spec.gaussian:
        certainty -= picked[:, 1:8:2].sigmoid().mean(dim=1, keepdim=True)
        picked = torch.cat([picked[:, :8:2], picked[:, 8:]], dim=1)
    cell = spec.cell_size((height, width), input_size)
    grown = (cell[0] / spec.stride, cell[1] / spec.stride) if spec.anchors_in_cells else (1.0, 1.0)
    layout = torch.tensor(
        [(width * grown[0], height * grown[1], *cell, spec.scale_x_y) for width, height in spec.anchors],
        device=raw.device,
    )
    return Picked(image, picked, torch.stack([column, row], dim=1), layout[anchor], certainty)


def class_scores(picked: Picked, spec: MapSpec) -> Tensor:
    """[K, C]: objectness x class score, and in the Gaussian form x certainty."""
    objectness, classes = picked.raw[:, 4:5], picked.raw[:, 5:]
    if not spec.new_coords:
        objectness = objectness.sigmoid()
        classes = classes.softmax(dim=1) if spec.softmax else classes.sigmoid()
    return objectness * classes * picked.certainty


def decode_picked(picked: Picked, spec: MapSpec) -> Tensor:
    """The boxes [K, 4] of predictions of all levels."""
    anchors, cell, scale_x_y = picked.layout[:, :2], picked.layout[:, 2:4], picked.layout[:, 4:]
    return yolo_box_to_xyxy(
        picked.raw[:, :4],
        anchors,
        picked.cells,
        cell,
        scale_x_y,
        linear_xy=spec.linear_xy,
        new_coords=spec.new_coords,
    )


def class_thresholds(score_thresh: float | tuple[float, ...], num_classes: int) -> tuple[float, ...]:
    """One threshold for each class, or one for all.

    Raises:
        ValueError: there are neither one nor C of them.
    """
    if not isinstance(score_thresh, tuple):
        return (score_thresh,)
    if len(score_thresh) != num_classes:
        raise ValueError(f"{len(score_thresh)} score thresholds for {num_classes} classes")
    return score_thresh


def _columns(picked: Picked) -> tuple[Tensor, ...]:
    return picked.images, picked.raw, picked.cells, picked.layout, picked.certainty


def _shared(spec: MapSpec) -> tuple[object, ...]:
    return spec.softmax, spec.linear_xy, spec.new_coords, spec.nms_exponent
