"""Times each pre- and post-processing step on its own."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from yolofpn.inference.predictor import Predictor
from yolofpn.models.postprocess import MapSpec, class_scores, decode_picked, pick_from_maps
from yolofpn.ops.nms import batched_nms
from yolofpn.runtimes.backend import Batch, Wait
from yolofpn.sinks.records import record
from yolofpn.structures import Frame, Image, Limits
from yolofpn.tuning.rounds import Timing, interleave, timed
from yolofpn.types import RawMaps

SECONDS = 0.2
NMS_THRESH = 0.45
SCORE_THRESHOLDS = (0.25, 0.001)


@dataclass(frozen=True)
class HotPathRow:
    """The timing of one step."""

    what: str
    on: str
    timing: Timing

    def to_json(self) -> dict[str, object]:
        """Return the row as plain values."""
        return {"what": self.what, "on": self.on, **self.timing.to_json()}


class BatchCatcher:
    """A backend that stores the batch without running a network, to time preprocessing.

    Attributes:
        batch: the last one.
    """

    name, precision, slots = "none", "fp32", 1

    def __init__(self) -> None:
        self.batch: Batch

    def start(self, batch: Batch) -> Wait:
        """Store the batch; there are no outputs."""
        self.batch = batch
        return dict


def measure_hot_path(predictor: Predictor, image: Image, name: str, rounds: int) -> list[HotPathRow]:
    """Let the steps take turns.

    Args:
        predictor: ours.
        image: the image, BGR.
        name: of the image.
        rounds: how often.
    """
    height, width = predictor.img_size
    found = predictor.predict([image])[0]
    frame = Frame(image, name)
    catcher = BatchCatcher()
    before_network = copy.copy(predictor)
    before_network.backend = catcher
    on = f"{name} {image.shape[1]}x{image.shape[0]}"
    steps: dict[tuple[str, str], Callable[[], object]] = {
        (f"{predictor.resize} and RGB tensor, {height}x{width}", on): lambda: before_network.start([image]),
        ("draw", f"{on}, {len(found)} detections"): lambda: found.draw(image),
        ("JSON line", f"{len(found)} detections"): lambda: json.dumps(record(frame, found)),
    }
    before_network.start([image])
    maps = predictor.backend.start(catcher.batch)()
    for threshold in SCORE_THRESHOLDS:
        steps |= after_network(predictor, maps, threshold)
    with torch.inference_mode():
        timings = interleave({key: partial(timed, step, SECONDS) for key, step in steps.items()}, rounds)
    return [HotPathRow(*key, timing) for key, timing in timings.items()]


def after_network(predictor: Predictor, maps: RawMaps, threshold: float) -> dict[tuple[str, str], Callable[[], object]]:
    """Return the steps after the network: postprocessing, NMS alone, and OpenCV's NMS on the same boxes."""
    limits = Limits(threshold, NMS_THRESH, predictor.limits.detections_per_img)
    sizes = [predictor.img_size]
    predictions = sum(raw.shape[2] * raw.shape[3] for raw in maps.values())
    steps: dict[tuple[str, str], Callable[[], object]] = {
        (f"decode and NMS, score > {threshold:g}", f"maps of {predictions:,} cells"): lambda: (
            predictor.postprocessor.postprocess(maps, sizes, limits)
        )
    }
    specs = getattr(predictor.detector, "specs", None)
    if specs is None:
        return steps
    boxes, scores, labels = candidates(maps, specs, predictor.detector.num_classes, threshold, predictor.img_size)
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    lists = sides.tolist(), scores.tolist(), labels.tolist()
    on = f"{len(boxes):,} candidates"
    return steps | {
        (f"NMS alone, score > {threshold:g}", on): lambda: batched_nms(boxes, scores, labels, NMS_THRESH),
        (f"OpenCV's NMSBoxesBatched, score > {threshold:g}", on): lambda: cv2.dnn.NMSBoxesBatched(
            *lists, threshold, NMS_THRESH
        ),
    }


def candidates(
    maps: RawMaps,
    specs: dict[str, MapSpec],
    num_classes: int,
    threshold: float,
    input_size: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Boxes [N, 4], scores [N] and labels [N] above ``threshold``, before suppression."""
    picked, spec = pick_from_maps(maps, specs, num_classes, threshold, input_size), next(iter(specs.values()))
    scores = class_scores(picked, spec)
    index, labels = (scores > threshold).nonzero()
    return decode_picked(picked, spec)[index], scores[index, labels], labels
