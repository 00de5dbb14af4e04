"""From raw output maps to detections: threshold first, decode what is left, then NMS within each class.

All of it is NumPy on the CPU, so that exported graphs need no PyTorch; maps on a GPU are thresholded there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolofpn.detector import Detector
from yolofpn.errors import NaNOutputError
from yolofpn.ops.array_boxes import clip_boxes
from yolofpn.ops.nms import batched_nms
from yolofpn.ops.resize import Placement
from yolofpn.structures import Detections, Limits
from yolofpn.types import RawMaps, to_array

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
# exp(10) x anchor is far beyond any image, and finite: a wild weight gives a clipped box instead of inf - inf.
MAX_LOG_SIZE = 10.0


@dataclass(frozen=True)
class MapSpec:
    """How one raw output [B, A * (5 + C), H, W] is decoded: per anchor x, y, w, h, objectness and the classes.

    The outputs of one network may differ in stride, anchors, scale_x_y and gaussian only.

    Attributes:
        stride: pixels per cell.
        anchors: A times (width, height) in pixels.
        scale_x_y: see ``yolo_box_to_xyxy``.
        linear_xy: see ``yolo_box_to_xyxy``.
        softmax: class scores by softmax (YOLOv2) instead of independent sigmoids (YOLOv3).
        new_coords: see ``yolo_box_to_xyxy``; objectness and classes, too, are in 0..1 already.
        gaussian: x, y, w and h are each followed by their uncertainty, so A * (9 + C) channels (arXiv 1904.04620).
        nms_exponent: ``distance_exponent`` of ``batched_nms``.
        divides: whether the stride divides the input size; else the cell size is the input size over the map size.
        anchors_in_cells: whether anchors scale with the cell size, relative to cells of ``stride`` pixels.
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
        """Number of values of a prediction before the classes."""
        return 9 if self.gaussian else 5

    def cell_size(self, cells: tuple[int, int], input_size: tuple[int, int]) -> tuple[float, float]:
        """Return the cell (width, height) in pixels for ``cells`` (rows, columns) and an input of (height, width)."""
        if self.divides:
            return self.stride, self.stride
        return input_size[1] / cells[1], input_size[0] / cells[0]


@dataclass(frozen=True)
class Picked:
    """The K predictions with an objectness above the threshold, not decoded yet."""

    images: Indices  # [K], index into the batch
    raw: Floats  # [K, 5 + C]
    cells: Indices  # [K, 2], column and row
    layout: Floats  # [K, 5], the anchor's width and height, those of a cell, scale_x_y
    certainty: Floats  # [K, 1], a factor of the scores


def postprocess_maps(
    dense: Mapping[str, Any],
    specs: Mapping[str, MapSpec],
    num_classes: int,
    image_sizes: Sequence[tuple[int, int]],
    limits: Limits,
    regions: Sequence[tuple[int, int]] | None = None,
) -> list[Detections]:
    """Detections of each image in network pixels, clipped to its (height, width).

    A prediction is a detection of class c if objectness x class score > score_thresh[c], so one box may have several
    classes (YOLOv3, section 2.2). The result of an image does not depend on the others of its batch.

    Args:
        dense: raw outputs [B, A * (5 + C), H, W].
        specs: how each of them is decoded.
        num_classes: C.
        image_sizes: each image's (height, width) in network pixels.
        limits: which predictions become detections.
        regions: (height, width) in network pixels of each image without its padding: Darknet's NMS measures
            distances relative to these. By default ``image_sizes``.

    Raises:
        NaNOutputError: if a map holds NaN.
        ValueError: a map does not have A * (5 + C) channels, the thresholds are not one or C, or the maps differ where
            they have to agree.
    """
    batch = len(next(iter(dense.values())))
    if len(image_sizes) != batch:
        raise ValueError(f"{len(image_sizes)} image sizes for a batch of {batch}")
    thresholds = class_thresholds(limits.score_thresh, num_classes)
    first = next(iter(specs.values()))
    shared = {(spec.softmax, spec.linear_xy, spec.new_coords, spec.nms_exponent) for spec in specs.values()}
    if len(shared) > 1:
        raise ValueError("the maps of one network must agree on softmax, linear_xy, new_coords and nms_exponent")
    picked = pick_from_maps(dense, specs, num_classes, min(thresholds), image_sizes[0])
    boxes, scores = decode_picked(picked, first), class_scores(picked, first)
    return suppress(picked.images, boxes, scores, image_sizes, limits, first.nms_exponent, regions)


def suppress(
    images: Indices,
    boxes: Floats,
    scores: Floats,
    image_sizes: Sequence[tuple[int, int]],
    limits: Limits,
    nms_exponent: float | None = None,
    regions: Sequence[tuple[int, int]] | None = None,
) -> list[Detections]:
    """Apply score thresholds and NMS to decoded predictions.

    Args:
        images: [K], index into the batch.
        boxes: [K, 4] xyxy in network pixels.
        scores: [K, C].
        image_sizes: see ``postprocess_maps``.
        limits: which predictions become detections.
        nms_exponent: see ``batched_nms``.
        regions: see ``postprocess_maps``.
    """
    thresholds = np.array(class_thresholds(limits.score_thresh, scores.shape[1]), np.float32)
    index, labels = (scores > thresholds).nonzero()
    boxes, images = boxes[index], images[index]
    best = scores[index, labels]
    results = []
    for number, size in enumerate(image_sizes):
        own = slice(None) if len(image_sizes) == 1 else images == number
        measured = boxes[own]
        if nms_exponent is not None:
            height, width = (regions or image_sizes)[number]
            measured = np.divide(measured, (width, height, width, height), dtype=np.float32)
        keep = batched_nms(measured, best[own], labels[own], limits.nms_thresh, nms_exponent)
        keep = keep[: limits.detections_per_img]
        results.append(Detections(clip_boxes(boxes[own][keep], size), best[own][keep], labels[own][keep]))
    return results


def postprocess_placed(
    detector: Detector, dense: RawMaps, placements: Sequence[Placement], limits: Limits
) -> list[Detections]:
    """Call ``detector.postprocess`` for images placed in the network input as in ``placements``."""
    sizes = [placement.network_size for placement in placements]
    if nms_exponent(detector) is None:
        return detector.postprocess(dense, sizes, limits)
    regions = [placement.region_size for placement in placements]
    # Only networks built from a Darknet cfg need regions.
    return detector.postprocess(dense, sizes, limits, regions)  # type: ignore[call-arg]


def nms_exponent(detector: object) -> float | None:
    """Return the ``distance_exponent`` of the NMS of ``detector``; None: plain IoU."""
    specs: Mapping[str, MapSpec] = getattr(detector, "specs", {})
    return next((spec.nms_exponent for spec in specs.values()), None)


def divides_inputs(detector: object) -> bool:
    """Return whether the size of each output of ``detector`` is the input size divided by its stride."""
    specs: Mapping[str, MapSpec] = getattr(detector, "specs", {})
    return all(spec.divides for spec in specs.values())


def pick_from_maps(
    dense: Mapping[str, Any], specs: Mapping[str, MapSpec], num_classes: int, lowest: float, input_size: tuple[int, int]
) -> Picked:
    """The predictions of all maps whose objectness is above ``lowest``: many small steps cost more than one large one.

    Raises:
        NaNOutputError: if a map holds NaN.
        ValueError: if a map does not have A * (5 + C) channels.
    """
    parts = [_pick(dense[name], spec, num_classes, lowest, input_size) for name, spec in specs.items()]
    columns = zip(*((part.images, part.raw, part.cells, part.layout, part.certainty) for part in parts), strict=True)
    return Picked(*(np.concatenate(column) for column in columns))


def _pick(raw: Floats | Tensor, spec: MapSpec, num_classes: int, lowest: float, input_size: tuple[int, int]) -> Picked:
    """From one map [B, A * (5 + C), H, W].

    Objectness is an upper bound of the score, so most predictions are dropped before other values are read.
    """
    batch, channels, height, width = raw.shape
    num_anchors, values = len(spec.anchors), spec.box_values
    if channels != num_anchors * (values + num_classes):
        raise ValueError(f"{channels} channels for {num_anchors} anchors x ({values} + {num_classes} classes)")
    shape = (batch, num_anchors, values + num_classes, height, width)
    if isinstance(raw, np.ndarray) or raw.device.type == "cpu":
        (image, anchor, row, column), picked = pick_above(
            to_array(raw, np.float32).reshape(shape), values - 1, lowest, is_score=spec.new_coords
        )
    else:
        from yolofpn.models.pick_on_device import pick_on_device

        (image, anchor, row, column), picked = pick_on_device(
            raw.view(shape), values - 1, lowest, is_score=spec.new_coords
        )
    certainty = np.ones_like(picked[:, :1])
    if spec.gaussian:
        certainty -= sigmoid(picked[:, 1:8:2]).mean(axis=1, keepdims=True)
        picked = np.concatenate([picked[:, :8:2], picked[:, 8:]], axis=1)
    cell = spec.cell_size((height, width), input_size)
    grown = (cell[0] / spec.stride, cell[1] / spec.stride) if spec.anchors_in_cells else (1.0, 1.0)
    layout = np.array(
        [(width * grown[0], height * grown[1], *cell, spec.scale_x_y) for width, height in spec.anchors], np.float32
    )
    return Picked(image, picked, np.stack([column, row], axis=1), layout[anchor], certainty)


def pick_above(
    raw: Floats, place: int, lowest: float, *, is_score: bool
) -> tuple[tuple[Indices, Indices, Indices, Indices], Floats]:
    """The predictions of ``raw`` [B, A, 5 + C, H, W] whose objectness, at ``place``, is above ``lowest``.

    Returns:
        Image, anchor, row and column of each [K], and its values [K, 5 + C].

    Raises:
        NaNOutputError: if a value of the map, of whatever prediction, is NaN.
    """
    if np.isnan(raw.min()):  # a minimum is NaN if any value is, and takes no memory
        raise NaNOutputError
    objectness = raw[:, :, place]
    image, anchor, row, column = ((objectness if is_score else sigmoid(objectness)) > lowest).nonzero()
    return (image, anchor, row, column), raw[image, anchor, :, row, column]


def class_scores(picked: Picked, spec: MapSpec) -> Floats:
    """Return the scores [K, C]: objectness x class score, and x certainty for Gaussian outputs."""
    objectness, classes = picked.raw[:, 4:5], picked.raw[:, 5:]
    if not spec.new_coords:
        objectness = sigmoid(objectness)
        classes = _softmax(classes) if spec.softmax else sigmoid(classes)
    return objectness * classes * picked.certainty


def decode_picked(picked: Picked, spec: MapSpec) -> Floats:
    """The boxes [K, 4] of predictions of all levels: ``box_coder.yolo_box_to_xyxy`` in NumPy."""
    anchors, cell, scale_x_y = picked.layout[:, :2], picked.layout[:, 2:4], picked.layout[:, 4:]
    offset, size = picked.raw[:, :2], picked.raw[:, 2:4]
    if not spec.linear_xy:
        shift = np.multiply(scale_x_y - 1, 0.5, dtype=np.float32)
        offset = (offset if spec.new_coords else sigmoid(offset)) * scale_x_y - shift
    centre = (offset + picked.cells.astype(np.float32)) * cell
    sides = (2 * size) ** 2 if spec.new_coords else np.exp(np.minimum(size, MAX_LOG_SIZE))
    half = sides * anchors / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)) of each value; exp may overflow, whose reciprocal is the 0 that it should be."""
    with np.errstate(over="ignore"):
        powers: Floats = np.exp(-values)
        return np.reciprocal(1 + powers)


def _softmax(values: Floats) -> Floats:
    """Of each row [K, C]."""
    with np.errstate(invalid="ignore"):  # infinite logits give NaN, which is no detection
        powers = np.exp(values - values.max(axis=1, keepdims=True, initial=-np.inf))
        result: Floats = powers / powers.sum(axis=1, keepdims=True)
    return result


def class_thresholds(score_thresh: float | tuple[float, ...], num_classes: int) -> tuple[float, ...]:
    """Return one score threshold per class.

    Raises:
        ValueError: if there are neither one nor C thresholds.
    """
    if not isinstance(score_thresh, tuple):
        return (score_thresh,)
    if len(score_thresh) != num_classes:
        raise ValueError(f"{len(score_thresh)} score thresholds for {num_classes} classes")
    return score_thresh
