"""Collects detections and ground truth of a data set and computes all metrics.

Every metric comes from the same collected boxes, so training and evaluation print the same numbers, whatever the batch
size, the order of the images and the number of processes.

Shapes: I images, D detections and M objects of all images together, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolofpn.evaluation.coco import average_recall, match_coco, mean_of_valid, precision_at_recall
from yolofpn.evaluation.operating_point import Counts, count_above, match_darknet, total
from yolofpn.evaluation.table import EvaluationTable, Floats, build_table
from yolofpn.evaluation.voc import voc_precision
from yolofpn.structures import Detections, Target

PROPOSAL_LIMITS = (100, 1000)
COCO_LIMIT = 100  # detections of an image and class that COCO's AP counts
COCO_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
DETECTION_FIELDS = ("boxes", "scores", "labels")
OBJECT_FIELDS = ("boxes", "labels", "ignore", "areas")


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class; APs are -1 where it has no objects (of that size).

    Attributes:
        name: of the class.
        objects: number of objects, without ignored ones.
        values: AP, AP50, AP75, APs, APm, APl and AR100.
        counts: TP, FP and FN at the report threshold.
    """

    name: str
    objects: int
    values: dict[str, float]
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        """Return an entry of ``per_class``."""
        return {"name": self.name, "objects": self.objects, **self.values, **_counts_to_json(self.counts)}


@dataclass(frozen=True)
class Metrics:
    """The metrics of a data set.

    Attributes:
        values: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm and ARl as pycocotools prints them, and where
            asked for AR1000, voc07_mAP and voc10_mAP; -1 where there are no objects to find.
        per_class: by label.
        report_thresh: the score above which detections enter the counts.
        images: number of evaluated images.
        seconds: time to compute the metrics.
        precision: [C, 101] at IoU 0.5 and recall 0, 0.01 ... 1; -1 for classes without objects.
        proposal_recall: class-agnostic AR100, AR100s, AR100m, AR100l, AR1000 ... AR1000l where asked for.
    """

    values: dict[str, float]
    per_class: tuple[ClassMetrics, ...]
    report_thresh: float
    images: int
    seconds: float
    precision: Floats = field(repr=False, compare=False)
    proposal_recall: dict[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """TP, FP and FN of all classes at the report threshold."""
        return total(each.counts for each in self.per_class)

    def to_json(self) -> dict[str, Any]:
        """Return the values that ``evaluate.py --json`` writes."""
        return {
            **self.values,
            "per_class": [each.to_json() for each in self.per_class],
            "images": self.images,
            "seconds": self.seconds,
        }


class DetectionMetrics:
    """Collects (detections, target) of each image, in image pixels, and computes the metrics.

    Args:
        names: of the classes, by label.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._images: dict[int, tuple[Detections, Target]] = {}

    def __len__(self) -> int:
        """Return the number of added images."""
        return len(self._images)

    def add(self, detections: Detections, target: Target) -> None:
        """Add one image.

        Raises:
            ValueError: a label is not that of a class, or an image with this id was already added.
        """
        # without what else detections carry: their images would stay in memory
        detections = Detections(detections.boxes, detections.scores, detections.labels)
        target = target.to("cpu")
        for labels in (detections.labels, target.labels):
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.names):
                raise ValueError(f"labels must be in 0 .. {len(self.names) - 1}, got {labels.tolist()}")
        if target.image_id in self._images:
            raise ValueError(f"two images have the id {target.image_id}")
        self._images[target.image_id] = (detections, target)

    def images(self) -> Iterator[tuple[int, Detections, Target]]:
        """Id, detections and ground truth of each image, in the order in which they were added."""
        return ((image_id, *image) for image_id, image in self._images.items())

    def state(self) -> dict[str, Tensor]:
        """Return the collected data as tensors, for ``merge`` in another process."""
        found = [detections for detections, _ in self._images.values()]
        targets = [target for _, target in self._images.values()]
        none, nothing = Detections.empty(), _no_objects()
        return {
            "image_ids": torch.tensor(list(self._images), dtype=torch.int64),
            "detection_counts": torch.tensor([len(each) for each in found], dtype=torch.int64),
            "object_counts": torch.tensor([len(each) for each in targets], dtype=torch.int64),
            **{f"detection_{name}": _join(found, none, name) for name in DETECTION_FIELDS},
            **{f"object_{name}": _join(targets, nothing, name) for name in OBJECT_FIELDS},
        }

    def merge(self, state: dict[str, Tensor]) -> None:
        """Add the ``state`` of another process, with other images.

        Raises:
            ValueError: if both have an image of the same id.
        """
        sizes = state["detection_counts"].tolist(), state["object_counts"].tolist()
        boxes, scores, labels = (torch.split(state[f"detection_{name}"], sizes[0]) for name in DETECTION_FIELDS)
        objects = [torch.split(state[f"object_{name}"], sizes[1]) for name in OBJECT_FIELDS]
        for row, image_id in enumerate(state["image_ids"].tolist()):
            target = Target(objects[0][row], objects[1][row], objects[2][row], objects[3][row], image_id)
            self.add(Detections(boxes[row], scores[row], labels[row]), target)

    def table(self) -> EvaluationTable:
        """Return the collected data as a table."""
        return build_table(self.images(), len(self.names))

    def compute(self, report_thresh: float = 0.25, *, voc: bool = False, proposals: bool = False) -> Metrics:
        """Compute the metrics of the collected images.

        Args:
            report_thresh: the score above which detections enter true and false positives, precision, recall and F1.
            voc: also compute VOC's mean average precisions.
            proposals: also compute the class-agnostic recall of up to 100 and 1000 boxes per image.
        """
        start = time.perf_counter()
        table = self.table()
        matches = match_coco(table)
        precision = precision_at_recall(table, matches)  # [C, A, T, R]
        recall = average_recall(table, matches, (1, 10, 100))  # [C, A, T, L]
        values = _precision_values(precision) | _recall_values(recall)
        proposal_recall = class_agnostic_recall(table) if proposals else {}
        if proposals:
            values["AR1000"] = proposal_recall["AR1000"]
        if voc:
            areas = voc_precision(table)
            values |= {"voc07_mAP": areas.map07, "voc10_mAP": areas.map10}
        return Metrics(
            values=values,
            per_class=self._per_class(table, precision, recall, report_thresh),
            report_thresh=report_thresh,
            images=len(self),
            seconds=time.perf_counter() - start,
            precision=precision[:, 0, 0],
            proposal_recall=proposal_recall,
        )

    def _per_class(
        self, table: EvaluationTable, precision: Floats, recall: Floats, report_thresh: float
    ) -> tuple[ClassMetrics, ...]:
        outcomes = match_darknet(table)
        counts = count_above(outcomes, report_thresh)
        return tuple(
            ClassMetrics(
                name=name,
                objects=int(outcomes.positives[label]),
                values=_precision_values(precision[label : label + 1])
                | {"AR100": mean_of_valid(recall[label, 0, :, 2])},
                counts=counts[label],
            )
            for label, name in enumerate(self.names)
        )


def class_agnostic_recall(table: EvaluationTable) -> dict[str, float]:
    """Return the class-agnostic average recall of 100 and 1000 boxes per image: pycocotools' useCats = 0.

    Returns:
        AR100, AR100s, AR100m, AR100l, AR1000, AR1000s, AR1000m, AR1000l.
    """
    table = table.class_agnostic()
    recall = average_recall(table, match_coco(table, max(PROPOSAL_LIMITS)), PROPOSAL_LIMITS)
    return {
        f"AR{limit}{size}": mean_of_valid(recall[:, area, :, place])
        for place, limit in enumerate(PROPOSAL_LIMITS)
        for area, size in enumerate(("", "s", "m", "l"))
    }


@dataclass(frozen=True)
class CrowdedImages:
    """Images with more objects than the maximum number of detections.

    Attributes:
        of_a_class: number of images with more objects of one class than COCO's limit of detections.
        most_of_a_class: the most objects of one class in an image.
        in_all: number of images with more objects than ``max_detections``.
        most_in_all: the most objects in an image.
        values: AP to APl with as many detections of an image and class as were asked for; empty where none is needed.
    """

    of_a_class: int
    most_of_a_class: int
    in_all: int
    most_in_all: int
    values: dict[str, float] = field(default_factory=dict)


def crowded_images(table: EvaluationTable, max_detections: int) -> CrowdedImages | None:
    """Return the images whose recall is capped by the limits of detections; None if there are none.

    Args:
        table: all detections and objects.
        max_detections: of an image, as they were asked for.
    """
    objects = ~table.objects.ignore
    _, places, counts = np.unique(table.object_groups[objects], return_index=True, return_counts=True)
    images = np.bincount(table.objects.images[objects], minlength=len(table.image_ids))
    over = table.objects.images[objects][places[counts > COCO_LIMIT]]
    in_all = int((images > max_detections).sum())
    if not len(over) and not in_all:
        return None
    values = {}
    if len(over) and max_detections > COCO_LIMIT:
        matches = match_coco(table, max_detections)
        values = _precision_values(precision_at_recall(table, matches, max_detections))
    return CrowdedImages(len(np.unique(over)), int(counts.max()), in_all, int(images.max()), values)


def _precision_values(precision: Floats) -> dict[str, float]:
    """[C, A, T, R] -> the six numbers; the IoU thresholds 0.5 and 0.75 are number 0 and 5."""
    return {
        "AP": mean_of_valid(precision[:, 0]),
        "AP50": mean_of_valid(precision[:, 0, 0]),
        "AP75": mean_of_valid(precision[:, 0, 5]),
        "APs": mean_of_valid(precision[:, 1]),
        "APm": mean_of_valid(precision[:, 2]),
        "APl": mean_of_valid(precision[:, 3]),
    }


def _recall_values(recall: Floats) -> dict[str, float]:
    """[C, A, T, 3] with 1, 10 and 100 detections -> the six numbers."""
    return {
        "AR1": mean_of_valid(recall[:, 0, :, 0]),
        "AR10": mean_of_valid(recall[:, 0, :, 1]),
        "AR100": mean_of_valid(recall[:, 0, :, 2]),
        "ARs": mean_of_valid(recall[:, 1, :, 2]),
        "ARm": mean_of_valid(recall[:, 2, :, 2]),
        "ARl": mean_of_valid(recall[:, 3, :, 2]),
    }


def _counts_to_json(counts: Counts) -> dict[str, float]:
    return {
        "TP": counts.true_positives,
        "FP": counts.false_positives,
        "FN": counts.false_negatives,
        "precision": counts.precision,
        "recall": counts.recall,
        "F1": counts.f1,
    }


def _join(images: Sequence[Detections | Target], empty: Detections | Target, name: str) -> Tensor:
    return torch.cat([torch.as_tensor(getattr(each, name)) for each in (images or [empty])])


def _no_objects() -> Target:
    nothing = torch.zeros(0)
    return Target(torch.zeros(0, 4), nothing.long(), nothing.bool(), nothing)
