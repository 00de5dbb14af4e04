"""Calibration images for int8, and its loss of AP on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from torch import Tensor

from yolofpn.bands import in_tensor_order
from yolofpn.config import Metadata
from yolofpn.data.class_names import match_classes
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import open_data
from yolofpn.data.samples import to_tensor
from yolofpn.detector import Detector
from yolofpn.errors import InputError, UserError
from yolofpn.evaluation.evaluator import EVALUATION_LIMITS, relabelled
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.inference.export_graph import Calibration
from yolofpn.inference.predictor import Predictor
from yolofpn.ops.resize import resize_image

MOST_IMAGES = 128


def open_calibration(data: str, metadata: Metadata) -> Calibration:
    """Return the first images of a data set, of its training split if it has one.

    Raises:
        UserError: if the data set cannot be read, none of its images can, or it shares no class with the detector.
    """
    source = open_data(data)
    dataset = source.load("all" if "train" in source.layout.splits else "val")
    dataset = replace(dataset, depth=metadata.input.reading)
    match = match_classes(metadata.names, metadata.category_ids, dataset.names, dataset.category_ids)
    if match.how is None:
        raise UserError(f"{data}: has no class in common with the weights, so AP cannot be measured on it")
    readable = list(islice(_readable(dataset), MOST_IMAGES))
    if not readable:
        raise UserError(f"{data}: none of its images can be read")
    images = [_as_network_sees(dataset, index, metadata) for index in readable]

    def average_precision(detector: Detector) -> float:
        predictor = Predictor(
            detector,
            metadata,
            score_thresh=0.001,
            nms_thresh=EVALUATION_LIMITS.nms_thresh,
            detections_per_img=EVALUATION_LIMITS.detections_per_img,
            device="cpu",
            backend="auto" if detector.is_graph else "torch",
            precision="auto" if detector.is_graph else "fp32",
        )
        metrics = DetectionMetrics(dataset.names)
        for index in readable:
            image = dataset.image(index)
            found = predictor.predict([image])[0]
            metrics.add(relabelled(found, match.mapping), dataset.target(index, (image.shape[0], image.shape[1])))
        return metrics.compute().values["AP"]

    return Calibration(images, average_precision)


def _readable(dataset: DetectionDataset) -> Iterator[int]:
    for index in range(len(dataset)):
        try:
            dataset.image(index)
        except InputError:
            continue
        yield index


def _as_network_sees(dataset: DetectionDataset, index: int, metadata: Metadata) -> Tensor:
    resized, _ = resize_image(dataset.image(index), metadata.input.size, metadata.input.resize)
    return to_tensor(in_tensor_order(resized))[None]
