"""Class-agnostic proposals of a data set: their recall, and their file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from yolofpn.data.loader import Batch
from yolofpn.detector import Detector
from yolofpn.errors import UserError
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.evaluation.output_files import WrittenIds
from yolofpn.files import unfinished, write_errors
from yolofpn.sinks.coco_results import rounded_results
from yolofpn.structures import Detections
from yolofpn.types import RawMaps

NAMES = ("object",)


@runtime_checkable
class Proposer(Protocol):
    """A detector with class-agnostic proposals."""

    def propose(self, dense: dict[str, Tensor], image_sizes: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Return boxes [P, 4] in network pixels and scores [P], descending, of each image."""
        ...


class ProposalCollector:
    """Collects the proposals of each batch from the raw outputs of a detector.

    Args:
        detector: computes the proposals.

    Attributes:
        metrics: proposals and ground truth of every image, of one class that is everything.

    Raises:
        UserError: if the detector makes no proposals.
    """

    def __init__(self, detector: Detector) -> None:
        if detector.needs_proposals:
            raise UserError("--save-proposals: Fast R-CNN makes no proposals, it takes those of another detector")
        if not isinstance(detector, Proposer):
            raise UserError(
                "--save-proposals: a network in this format makes no proposals: give the weights themselves"
            )
        self._detector = detector
        self.metrics = DetectionMetrics(NAMES)

    def add(self, dense: RawMaps, batch: Batch) -> None:
        """Add the proposals of an evaluation batch; unreadable images have none."""
        proposals = self._detector.propose(dense, [placement.network_size for placement in batch.placements])
        placed = zip(proposals, batch.placements, batch.originals, batch.readable, strict=True)
        for (boxes, scores), placement, original, readable in placed:
            found = Detections.empty()
            if readable:
                found = Detections(placement.to_image(boxes), scores, np.zeros(len(scores)))
                found = found[(found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)]  # none of the padding
            self.metrics.add(found, replace(original, labels=torch.zeros_like(original.labels)))


def write_proposals(path: Path, metrics: DetectionMetrics, ids: WrittenIds) -> None:
    """Write a COCO results list: image_id, category_id, bbox [x, y, width, height], score, each image's best first.

    Args:
        path: the JSON file; of 5,000 images it takes about 500 MB.
        metrics: of a ``ProposalCollector``.
        ids: what the file calls the images, and one of the data set's categories, the first: pycocotools leaves out
            all others even where it ignores classes.

    Raises:
        UserError: if the file cannot be written.
    """
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(path) as part, part.open("w") as file:
            file.write("[")
            for number, line in enumerate(_lines(metrics, ids)):
                file.write(",\n" + line if number else "\n" + line)
            file.write("\n]\n")


def _lines(metrics: DetectionMetrics, ids: WrittenIds) -> Iterator[str]:
    for number, found, _ in metrics.images():
        for result in rounded_results(found, number):
            yield json.dumps({**result, "image_id": ids.images[number], "category_id": ids.categories[0]})
