"""Compares the outputs of a backend with PyTorch in full precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yolofpn.bands import COLOUR, InputForm
from yolofpn.data.images import read_image
from yolofpn.data.samples import to_tensor
from yolofpn.detector import Detector
from yolofpn.errors import InputError, UserError
from yolofpn.ops.array_boxes import box_iou
from yolofpn.ops.resize import resize_image
from yolofpn.runtimes.backend import Backend
from yolofpn.runtimes.exported import ExportedDetector
from yolofpn.runtimes.second_stage import prepare_postprocess
from yolofpn.shipped import sample_images
from yolofpn.structures import Detections, Limits
from yolofpn.types import RawMaps, to_array

SCORE_THRESH = 0.25
_CANDIDATES = Limits(score_thresh=0.1, nms_thresh=0.45, detections_per_img=1000)
_MAX_IMAGES = 8
_ENOUGH = 5  # detections that say something; with fewer the maps decide


@dataclass(frozen=True)
class Tolerance:
    """Tolerances of a precision.

    Attributes:
        partners: lowest share of detections that have a partner.
        box: largest difference of a partner's box in network pixels; None: an IoU of 0.9 is enough.
        score: largest difference of a partner's score.
        maps: largest error of the raw maps, as a share of their own spread.
    """

    partners: float
    box: float | None
    score: float
    maps: float


TOLERANCES = {
    "fp32": Tolerance(1.0, 0.01, 1e-4, 1e-4),
    "bf16": Tolerance(0.97, None, 0.1, 0.1),
    "fp16": Tolerance(0.97, None, 0.1, 0.1),
    "int8": Tolerance(0.9, None, 0.2, 0.2),
}
FILE_TOLERANCE = Tolerance(1.0, 0.05, 1e-3, 1e-3)  # Darknet's files hold batch norm with another epsilon


@dataclass(frozen=True)
class Parity:
    """The result of a comparison; errors are the maxima over matched detections.

    Attributes:
        detections: how many, in both, have a score above ``SCORE_THRESH``.
        partners: share of them that have one of the same class, IoU >= 0.9 and a score within the tolerance's.
        box_error: in network pixels.
        score_error: of the score.
        map_error: root of the mean square of the difference of the maps, as a share of their spread.
    """

    detections: int
    partners: float
    box_error: float
    score_error: float
    map_error: float

    def __str__(self) -> str:
        if self.detections < _ENOUGH:
            return f"raw maps within {self.map_error:.2g} of their spread"
        return (
            f"{self.partners:.1%} of {self.detections} detections are matched, "
            f"boxes within {self.box_error:.2g} px, scores within {self.score_error:.2g}"
        )

    def holds(self, tolerance: Tolerance) -> bool:
        """Return whether both agree within ``tolerance``."""
        if self.detections < _ENOUGH:
            return self.map_error <= tolerance.maps
        return self.partners >= tolerance.partners and (tolerance.box is None or self.box_error <= tolerance.box)


def compare_backends(
    detector: Detector, reference: Backend, other: Backend, images: Sequence[Tensor], tolerance: Tolerance
) -> Parity:
    """Run both on ``images`` (uint8 [1, 3, H, W] each)."""
    finish = [prepare_postprocess(detector, backend.precision) for backend in (reference, other)]
    pairs, square_errors = [], []
    for image in images:
        expected, given = reference.start(image)(), other.start(image)()
        square_errors.append(_relative_square_error(expected, given))
        size = (image.shape[2], image.shape[3])
        pairs.append(tuple(_detect(*each, size) for each in zip(finish, (expected, given), strict=True)))
    found = [match_detections(one, two, tolerance) for pair in pairs for one, two in (pair, pair[::-1])]
    return _summary(found, float(np.sqrt(max(square_errors))))


def compare_detections(
    detector: Detector, reference: Backend, other: ExportedDetector, images: Sequence[Tensor], tolerance: Tolerance
) -> Parity:
    """Compare what ``detector`` finds in ``reference``'s maps with what ``other``, a graph that decodes, finds.

    NMS is the graph's own if it has one, so both use its limits.
    """
    limits = other.limits if other.layout == "end2end" else _CANDIDATES
    found, errors = [], []
    for image in images:
        size = (image.shape[2], image.shape[3])
        with torch.inference_mode():
            (expected,) = detector.postprocess(reference.start(image)(), [size], limits)
            (given,) = other.postprocess(other.dense(image), [size], limits)
        found += [match_detections(one, two, tolerance) for one, two in ((expected, given), (given, expected))]
        errors.append(abs(expected.scores.sum() - given.scores.sum()) / max(expected.scores.sum(), 1.0))
    return _summary(found, float(max(errors)))


def check_images(size: tuple[int, int], form: InputForm = COLOUR) -> list[Tensor]:
    """What backends are compared on: the sample images, or drawn ones where these are missing.

    Args:
        size: (height, width) that they are stretched to.
        form: what the network takes; bands are red, green, blue, red, ... of these images.

    Returns:
        uint8 [1, 3, H, W] each, RGB; or float32 [1, N, H, W], in fractions and, as bands may be, beyond 0..255.
    """
    try:
        images = [read_image(path) for path in sample_images()[:_MAX_IMAGES]]
    except (InputError, UserError):
        images = []
    if not images:
        random = np.random.default_rng(0)
        coarse = random.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
        images = list(coarse)
    tensors = [to_tensor(resize_image(image, size, "stretch")[0][:, :, ::-1])[None] for image in images]
    if not form.is_float:
        return tensors
    bands = [channel % 3 for channel in range(form.channels)]
    return [1.1 * tensor[:, bands].float() - 12.3 for tensor in tensors]


@dataclass(frozen=True)
class MatchedDetections:
    """Of the detections above ``SCORE_THRESH``, how many are matched, and the largest errors of those."""

    matched: int
    total: int
    box_error: float
    score_error: float


def match_detections(found: Detections, others: Detections, tolerance: Tolerance) -> MatchedDetections:
    """Partners among ``others`` of those in ``found`` that have a score above the threshold."""
    # What the image's edge has cut to less than a pixel has no overlap to speak of.
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).min(axis=1)
    # Others may be weaker: at the threshold itself the smallest difference decides whether a detection is there.
    sure = found[(found.scores > SCORE_THRESH) & (sides >= 1)]
    if not len(sure) or not len(others):
        return MatchedDetections(0, len(sure), 0.0, 0.0)
    difference = np.abs(sure.scores[:, None] - others.scores[None])
    fits = (box_iou(sure.boxes, others.boxes) >= 0.9) & (sure.labels[:, None] == others.labels[None])
    fits &= difference <= tolerance.score
    # Several may fit, such as boxes that the image's edge has made equal; the one of the nearest score is meant.
    difference[~fits] = np.inf
    index, nearest = difference.argmin(axis=1), difference.min(axis=1)
    good = np.isfinite(nearest)
    if not good.any():
        return MatchedDetections(0, len(sure), 0.0, 0.0)
    box_error = np.abs(sure.boxes - others.boxes[index])[good].max()
    return MatchedDetections(int(good.sum()), len(sure), float(box_error), float(nearest[good].max()))


def _summary(found: Sequence[MatchedDetections], map_error: float) -> Parity:
    matched, total = sum(each.matched for each in found), sum(each.total for each in found)
    return Parity(
        total,
        matched / total if total else 1.0,
        max((each.box_error for each in found), default=0.0),
        max((each.score_error for each in found), default=0.0),
        map_error,
    )


def _detect(detector: Detector, maps: RawMaps, size: tuple[int, int]) -> Detections:
    if detector.needs_proposals:  # it detects nothing without proposals, so the maps decide
        return Detections.empty()
    with torch.inference_mode():
        return detector.postprocess(maps, [size], _CANDIDATES)[0]


def _relative_square_error(expected: RawMaps, given: RawMaps) -> float:
    """Return the error of the worst output."""
    pairs = [(to_array(raw), to_array(given[name])) for name, raw in expected.items()]
    return max(float(((given - raw) ** 2).mean() / max(raw.var(), 1e-12)) for raw, given in pairs)
