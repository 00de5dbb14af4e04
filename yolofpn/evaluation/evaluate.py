"""Run a detector over a data set and measure what it finds: the one way in which AP is computed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from yolofpn.data.loader import Batch
from yolofpn.detector import Detector
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.models.postprocess import postprocess_placed
from yolofpn.models.two_stage.fast_rcnn import FastRCNN
from yolofpn.structures import Detections, Limits
from yolofpn.types import RawMaps

EVALUATION_LIMITS = Limits(score_thresh=0.001, nms_thresh=0.6, detections_per_img=300)


@torch.inference_mode()
def collect(
    detector: Detector,
    batches: Iterable[Batch],
    metrics: DetectionMetrics,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    limits: Limits = EVALUATION_LIMITS,
    relabel: Sequence[int | None] | None = None,
    on_dense: Callable[[RawMaps, Batch], None] | None = None,
    run: Callable[[Tensor], RawMaps] | None = None,
) -> None:
    """Detect on every batch and hand the results to ``metrics``, in pixels of the pictures.

    Args:
        detector: is set to evaluation mode for the while.
        batches: of an evaluation loader.
        metrics: receives (detections, target) of each picture.
        device: where the detector lies.
        dtype: of the network's arithmetic.
        limits: low enough a threshold for whole precision-recall curves.
        relabel: by label of the detector, the data set's, or None for classes that it does not have.
        on_dense: called with the maps that the network makes of each batch.
        run: makes the maps in place of the detector itself, in its own precision.
    """
    network = detector if isinstance(detector, nn.Module) else nn.Module()  # a graph has no modes
    was_training = network.training
    network.eval()
    try:
        for batch in batches:
            images = batch.images.to(device, non_blocking=True)
            dense = run(images) if run else run_dense(detector, images, dtype)
            found = place_detections(detector, dense, batch, limits)
            for detections, target, readable in zip(found, batch.originals, batch.readable, strict=True):
                kept = relabelled(detections, relabel) if readable else Detections.empty()
                metrics.add(kept, target)
            if on_dense is not None:
                on_dense(dense, batch)
    finally:
        network.train(was_training)


def detect_batch(
    detector: Detector, images: Tensor, batch: Batch, dtype: torch.dtype, limits: Limits
) -> list[Detections]:
    """The detections of an evaluation batch in pixels of its pictures."""
    return place_detections(detector, run_dense(detector, images, dtype), batch, limits)


def run_dense(detector: Detector, images: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """The maps of a batch [B, 3, H, W], computed in ``dtype``."""
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        return detector.dense(images)


def place_detections(detector: Detector, dense: RawMaps, batch: Batch, limits: Limits) -> list[Detections]:
    """The maps of an evaluation batch -> detections in pixels of its pictures."""
    if isinstance(detector, FastRCNN):
        sizes = [placement.network_size for placement in batch.placements]
        found = detector.detect(dense, batch.targets, sizes, limits)
    else:
        found = postprocess_placed(detector, dense, batch.placements, limits)
    placed = zip(found, batch.placements, strict=True)
    return [replace(each, boxes=placement.to_image(each.boxes)) for each, placement in placed]


def relabelled(detections: Detections, mapping: Sequence[int | None] | None) -> Detections:
    """With the data set's labels: ``mapping`` gives it for each of the detector's, None where it has none."""
    if mapping is None:
        return detections
    table = np.array([-1 if label is None else label for label in mapping], np.int64)
    labels = table[detections.labels]
    known = labels >= 0
    return replace(detections[known], labels=labels[known])
