"""Runs a detector on a data set and collects its detections for the metrics."""

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
    """Detect on every batch and add the detections to ``metrics``, in image pixels.

    Args:
        detector: set to evaluation mode during the call.
        batches: batches of an evaluation loader.
        metrics: receives (detections, target) of each image.
        device: where the detector lies.
        dtype: data type of the forward pass.
        limits: thresholds; the score threshold should be low, for complete precision-recall curves.
        relabel: label of the data set for each label of the detector; None if the data set lacks the class.
        on_dense: called with the raw outputs of each batch.
        run: replaces the forward pass of the detector.
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
    """Return the detections of an evaluation batch in image pixels."""
    return place_detections(detector, run_dense(detector, images, dtype), batch, limits)


def run_dense(detector: Detector, images: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the raw outputs of a batch [B, 3, H, W], computed in ``dtype``."""
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        return detector.dense(images)


def place_detections(detector: Detector, dense: RawMaps, batch: Batch, limits: Limits) -> list[Detections]:
    """Convert the raw outputs of an evaluation batch to detections in image pixels."""
    if isinstance(detector, FastRCNN):
        sizes = [placement.network_size for placement in batch.placements]
        found = detector.detect(dense, batch.targets, sizes, limits)
    else:
        found = postprocess_placed(detector, dense, batch.placements, limits)
    placed = zip(found, batch.placements, strict=True)
    return [replace(each, boxes=placement.to_image(each.boxes)) for each, placement in placed]


def relabelled(detections: Detections, mapping: Sequence[int | None] | None) -> Detections:
    """Return the detections with labels mapped by ``mapping``; those mapped to None are dropped."""
    if mapping is None:
        return detections
    table = np.array([-1 if label is None else label for label in mapping], np.int64)
    labels = table[detections.labels]
    known = labels >= 0
    return replace(detections[known], labels=labels[known])
