"""Automatic annotation in CVAT: ``cvat-cli task auto-annotate TASK --function-module yolofpn.cvat``.

cvat-cli imports this module and calls ``create`` with what ``-p NAME=TYPE:VALUE`` gives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cvat_sdk.auto_annotation as cvataa
import PIL.Image
from cvat_sdk import models

from yolofpn.data.image_inputs import as_bgr
from yolofpn.inference.load_detector import load_detector
from yolofpn.inference.predictor import Predictor


def create(weights: str = "auto", **settings: Any) -> Detect:  # noqa: ANN401
    """The detection function that CVAT calls.

    Args:
        weights: as ``load_detector`` takes them.
        **settings: those of ``load_detector``, such as ``-p score_thresh=float:0.3`` and ``-p device=str:cuda:0``.

    Raises:
        UserError: as ``load_detector``.
    """
    return Detect(load_detector(weights, **settings))


class Detect:
    """A detection function of cvat-sdk's protocol; labels of the task are matched by name.

    Args:
        detector: what detects.
    """

    def __init__(self, detector: Predictor) -> None:
        self._detector = detector
        labels = [cvataa.label_spec(name, label, type="rectangle") for label, name in enumerate(detector.names)]
        self._spec = cvataa.DetectionFunctionSpec(labels=labels)

    @property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """The classes of the detector."""
        return self._spec

    def detect(
        self, context: cvataa.DetectionFunctionContext, image: PIL.Image.Image
    ) -> list[models.LabeledShapeRequest]:
        """The boxes of an image with a score of at least ``--conf-threshold``, by default the detector's own."""
        limits, wanted = self._detector.limits, context.conf_threshold
        if wanted is not None:
            limits = replace(limits, score_thresh=max(wanted - 1e-6, 0.0))  # scores must exceed it
        pixels = as_bgr(image, rgb=False, depth=self._detector.depth)
        found = self._detector.predict([pixels], limits)[0]
        height, width = pixels.shape[:2]
        boxes = found.boxes.clip(0, [width, height, width, height]).tolist()
        return [
            cvataa.rectangle(label, box, score=min(score, 1.0))
            for box, label, score in zip(boxes, found.labels.tolist(), found.scores.tolist(), strict=True)
            if box[2] > box[0] and box[3] > box[1]
        ]
