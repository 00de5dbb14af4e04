"""OpenCV's own reader and runner of Darknet files: a baseline that is always installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarking.candidates import NETWORK, POST, PRE, OurCandidate, TimedDetections
from yolofpn.config import Metadata
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.predictor_options import Workload
from yolofpn.ops.resize import Placement, resize_image
from yolofpn.structures import Detections, Image, Limits


class OpenCVBaseline:
    """Baseline: the same cfg and weights in OpenCV's DNN module, with OpenCV's NMS and the same resizing.

    Args:
        weights: a Darknet file.
        like: our predictor of the same file, whose size, way to it and limits it has.
        batch_size: images of a pass.
        folder: receives the cfg, which lies anywhere.
    """

    backend = "opencv"
    precision = "fp32"
    predictor: Predictor | None = None
    is_random = False
    workload: Workload = "many"

    def __init__(self, weights: Path, like: Predictor, batch_size: int, folder: Path) -> None:
        self.weights = weights.name
        self.img_size = like.img_size
        self.batch_size = batch_size
        self._like = like
        assert like.metadata.darknet_cfg is not None
        cfg = folder / f"opencv-{weights.stem}.cfg"
        # OpenCV leaves out class scores under 0.2 unless the cfg says otherwise.
        cfg.write_text(like.metadata.darknet_cfg.replace("[yolo]", "[yolo]\nthresh=0.001"))
        self._net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
        self._outputs = self._net.getUnconnectedOutLayersNames()

    def detect(self, images: Sequence[Image]) -> TimedDetections:
        """Detect in one batch and time each stage."""
        times = [time.perf_counter()]
        resized = [resize_image(image, self.img_size, self._like.resize) for image in images]
        blob = cv2.dnn.blobFromImages([image for image, _ in resized], 1 / 255, swapRB=True)
        times.append(time.perf_counter())
        self._net.setInput(blob)
        raw = [np.asarray(output) for output in self._net.forward(self._outputs)]
        times.append(time.perf_counter())
        per_image = [output.reshape(len(images), -1, output.shape[-1]) for output in raw]
        rows = np.concatenate(per_image, axis=1)
        found = [
            to_detections(each, placement, self._like.limits, self._like.metadata)
            for each, (_, placement) in zip(rows, resized, strict=True)
        ]
        times.append(time.perf_counter())
        return TimedDetections(found, dict(zip((PRE, NETWORK, POST), np.diff(times).tolist(), strict=True)))

    def network_passes(self, count: int) -> float:
        """Time forward passes one after the other."""
        start = time.perf_counter()
        for _ in range(count):
            self._net.forward(self._outputs)
        return (time.perf_counter() - start) / count


def opencv_baselines(
    ours: Sequence[OurCandidate], folder: Path, leave_out: Callable[[str], None]
) -> list[OpenCVBaseline]:
    """Create an OpenCV baseline for each Darknet file, size and batch size.

    Args:
        ours: what is measured.
        folder: receives cfg files.
        leave_out: called with a line for what OpenCV cannot read.
    """
    found: list[OpenCVBaseline] = []
    seen: set[tuple[Path, tuple[int, int], int]] = set()
    for each in ours:
        if each.darknet_file is None or (key := (each.darknet_file, each.img_size, each.batch_size)) in seen:
            continue
        seen.add(key)
        try:
            found.append(OpenCVBaseline(each.darknet_file, each.own_predictor, each.batch_size, folder))
        except cv2.error as error:
            leave_out(f"skipped: OpenCV does not read {each.darknet_file.name}: {error.err}")
    return found


def to_detections(rows: NDArray[np.float32], placement: Placement, limits: Limits, metadata: Metadata) -> Detections:
    """OpenCV's rows [N, 5 + C] (centre, size, objectness, scores of 0..1) -> detections in image pixels."""
    thresholds = np.asarray(limits.score_thresh, dtype=np.float32)
    index, labels = np.nonzero(rows[:, 5:] > thresholds)
    scores = rows[index, 5 + labels]
    height, width = placement.network_size
    centre, size = rows[index, 0:2] * (width, height), rows[index, 2:4] * (width, height)
    boxes = np.concatenate([centre - size / 2, size], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        boxes.tolist(), scores.tolist(), labels.tolist(), float(thresholds.min()), limits.nms_thresh
    )
    best = np.asarray(kept, dtype=np.int64).ravel()
    best = best[np.argsort(-scores[best], kind="stable")][: limits.detections_per_img]
    boxes = np.concatenate([boxes[best, :2], boxes[best, :2] + boxes[best, 2:]], axis=1)
    return Detections(
        placement.to_image(boxes.astype(np.float32)),
        scores[best],
        labels[best],
        names=metadata.names,
        category_ids=metadata.category_ids,
    )
