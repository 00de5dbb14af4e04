"""The second stage of a two-stage detector in the form that is fast: folded, and in the backend's arithmetic."""

from __future__ import annotations

import torch

from yolofpn.detector import Detector
from yolofpn.models.two_stage.fast_rcnn import FastRCNN
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.runtimes.fold import cast_inside, copy_around_numbers, fold_norms

_TwoStage = FasterRCNN | FastRCNN


def has_second_stage(detector: Detector) -> bool:
    """Return whether the detector has a second stage, which runs in PyTorch."""
    return detector.second_stage is not None


def prepare_postprocess(detector: Detector, precision: str) -> Detector:
    """What turns the maps of a backend of ``precision`` into detections: the detector itself, if it has one stage.

    Otherwise a copy around the same numbers, whose second stage has no batch norms left; with a half precision its
    layers compute in it, except those for classes and deltas.
    """
    if not isinstance(detector, _TwoStage):
        return detector
    box = fold_norms(detector.head.box)
    dtype = _dtype(precision, next(box.parameters()).device)
    if dtype != torch.float32:
        cast_inside(box, dtype, {box.classes, box.deltas})
    prepared = copy_around_numbers(detector).eval()
    prepared.head.box = box
    return prepared


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    """Processors multiply float16 no faster than float32."""
    if precision == "fp16" and device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if precision == "bf16" else torch.float32
