"""All detections and objects of an evaluated data set as flat arrays, which every metric reads.

Shapes: I images, D detections and M objects of all images together, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from yolofpn.structures import Detections, Target
from yolofpn.types import Arrays, to_array

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class DetectionTable:
    """Detections sorted by image, label and descending score; the sort is stable.

    Attributes:
        boxes: [D, 4] xyxy pixels.
        scores: [D].
        labels: [D].
        images: [D] index into the table's ``image_ids``.
    """

    boxes: Floats
    scores: Floats
    labels: Ints
    images: Ints

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: Ints | Bools) -> DetectionTable:
        """Return the given rows, in that order."""
        return DetectionTable(self.boxes[rows], self.scores[rows], self.labels[rows], self.images[rows])

    def best_first(self) -> DetectionTable:
        """Return the rows sorted by image and descending score."""
        return self.take(np.lexsort((-self.scores, self.images)))


@dataclass(frozen=True)
class ObjectTable:
    """Ground-truth boxes sorted by image, then label, else in the order of the annotations.

    Attributes:
        boxes: [M, 4] xyxy pixels.
        labels: [M].
        ignore: [M] crowd regions and difficult objects.
        areas: [M] square pixels, as annotated.
        images: [M] index into the table's ``image_ids``.
    """

    boxes: Floats
    labels: Ints
    ignore: Bools
    areas: Floats
    images: Ints

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Ints | Bools) -> ObjectTable:
        """Return the given rows, in that order."""
        return ObjectTable(self.boxes[rows], self.labels[rows], self.ignore[rows], self.areas[rows], self.images[rows])


@dataclass(frozen=True)
class EvaluationTable:
    """Detections and ground truth of all images.

    Attributes:
        image_ids: [I] ascending.
        detections: D rows.
        objects: M rows.
        num_classes: C.
    """

    image_ids: Ints
    detections: DetectionTable
    objects: ObjectTable
    num_classes: int

    @property
    def detection_groups(self) -> Ints:
        """[D] ascending; equal for the detections of one image and class."""
        return self.detections.images * self.num_classes + self.detections.labels

    @property
    def object_groups(self) -> Ints:
        """[M] ascending; the same numbers as ``detection_groups``."""
        return self.objects.images * self.num_classes + self.objects.labels

    def above(self, score_thresh: float | Floats) -> EvaluationTable:
        """Return a table of the detections above ``score_thresh``, one value or one per class [C]."""
        limit = np.broadcast_to(score_thresh, self.num_classes)[self.detections.labels]
        return replace(self, detections=self.detections.take(self.detections.scores > limit))

    def class_agnostic(self) -> EvaluationTable:
        """Return the same boxes with a single class."""
        found, objects = self.detections.best_first(), self.objects
        return EvaluationTable(
            image_ids=self.image_ids,
            detections=replace(found, labels=np.zeros_like(found.labels)),
            objects=replace(objects, labels=np.zeros_like(objects.labels)),
            num_classes=1,
        )


def build_table(images: Iterable[tuple[int, Detections, Target]], num_classes: int) -> EvaluationTable:
    """Build the table from (image id, detections, target) of each image.

    The result does not depend on the order of ``images``. Ids must be distinct.
    """
    by_id = sorted(images, key=lambda image: image[0])
    found = [detections for _, detections, _ in by_id]
    targets = [target for _, _, target in by_id]
    return EvaluationTable(
        image_ids=np.array([image_id for image_id, _, _ in by_id], dtype=np.int64),
        detections=_detection_table(found),
        objects=_object_table(targets),
        num_classes=num_classes,
    )


def _detection_table(found: list[Detections]) -> DetectionTable:
    table = DetectionTable(
        boxes=_join([each.boxes for each in found], np.float64, (4,)),
        scores=_join([each.scores for each in found], np.float64),
        labels=_join([each.labels for each in found], np.int64),
        images=_image_index([len(each) for each in found]),
    )
    return table.take(np.lexsort((-table.scores, table.labels, table.images)))


def _object_table(targets: list[Target]) -> ObjectTable:
    table = ObjectTable(
        boxes=_join([each.boxes for each in targets], np.float64, (4,)),
        labels=_join([each.labels for each in targets], np.int64),
        ignore=_join([each.ignore for each in targets], np.bool_),
        areas=_join([each.areas for each in targets], np.float64),
        images=_image_index([len(each) for each in targets]),
    )
    return table.take(np.lexsort((table.labels, table.images)))


def _image_index(counts: list[int]) -> Ints:
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _join(columns: Sequence[Arrays], dtype: type[np.generic], trailing: tuple[int, ...] = ()) -> NDArray[Any]:
    """Concatenate along the first dimension; [0, *trailing] where there is nothing to join."""
    empty = np.zeros((0, *trailing), dtype=dtype)
    return np.concatenate([empty, *(to_array(column) for column in columns)], dtype=dtype)
