"""The detector to which a run adds classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from yolofpn.config import Config, Metadata
from yolofpn.data.added_classes import AddedClasses, add_classes
from yolofpn.data.dataset import DetectionDataset
from yolofpn.errors import UserError
from yolofpn.evaluation.class_groups import Groups, class_groups_of, read_class_groups, write_class_groups
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.models.yolo import YOLO
from yolofpn.structures import Detections
from yolofpn.training.incremental import IncrementalTraining, unexplained
from yolofpn.training.run_plan import Plan
from yolofpn.training.splits import Splits
from yolofpn.weights import load_weights, save_weights

OLD_WEIGHTS = (
    "old_weights.safetensors"  # in the run folder: a copy, so that the run can be resumed without the original
)
NEW_SCORE_THRESH = 0.25  # of new classes, where the old ones have a score threshold each


@dataclass(frozen=True)
class OldDetector:
    """The old detector with the classes that it is going to have.

    Attributes:
        detector: the old one, which stays as it is.
        metadata: of its weights.
        classes: the old classes and the new ones.
        groups: names of the classes of the first training, then of each addition.
    """

    detector: YOLO
    metadata: Metadata
    classes: AddedClasses
    groups: Groups

    def relabel(self, splits: Splits) -> Splits:
        """Return the splits with the merged classes."""
        return replace(splits, train=self.classes.relabel(splits.train), val=self.classes.relabel(splits.val))

    def with_thresholds(self, config: Config) -> Config:
        """Return the config with a score threshold for each new class, if each old one has its own."""
        thresholds = config.postprocess.score_thresh
        if not isinstance(thresholds, tuple) or len(thresholds) != len(self.metadata.names):
            return config
        more = (*thresholds, *(NEW_SCORE_THRESH for _ in self.classes.new))
        return config.model_copy(update={"postprocess": config.postprocess.model_copy(update={"score_thresh": more})})

    def keep_in(self, run_dir: Path) -> None:
        """Write a copy of the weights, and the groups of classes, into the run folder.

        Raises:
            UserError: it cannot be written.
        """
        save_weights(run_dir / OLD_WEIGHTS, self.detector.state_dict(), self.metadata)
        write_class_groups(run_dir, self.groups)

    def training(self, student: YOLO, config: Config) -> IncrementalTraining:
        """Return the module that computes the losses of ``student``, which is on its device."""
        settings = config.train.add_classes
        assert settings is not None  # without it there is no old detector
        device = next(student.parameters()).device
        return IncrementalTraining(
            student,
            self.detector.to(device),
            self.classes,
            weight=settings.weight,
            ignore_thresh=settings.ignore_thresh,
        )

    def with_old_objects(self, dataset: DetectionDataset, found: DetectionMetrics) -> tuple[DetectionDataset, int]:
        """Add what the old detector finds in images to their labels; also return the number of added boxes.

        Nobody labelled objects of the kept classes there. How far the new detector agrees with the old one about them
        is what can be measured of its memory without images of the first training.

        Args:
            dataset: with the merged classes.
            found: by the old detector in its images, at any score.
        """
        limits = self.detector.limits.score_thresh
        thresholds = np.broadcast_to(np.array(limits, dtype=np.float32), (len(self.metadata.names),))
        kept = np.isin(np.arange(len(thresholds)), self.classes.kept)
        more: dict[int, Detections] = {}
        for image_id, detections, target in found.images():
            sure = kept[detections.labels] & (detections.scores > thresholds[detections.labels])
            more[image_id] = unexplained(detections[sure], target)
        return _with_boxes(dataset, more), sum(len(each) for each in more.values())


def open_old_detector(plan: Plan, splits: Splits) -> OldDetector | None:
    """Load the detector to which the run adds classes; None if it adds none.

    Raises:
        UserError: it cannot be read, is not a native one-stage detector, or already knows all classes.
    """
    settings = plan.config.train.add_classes
    if settings is None:
        return None
    weights = Path(settings.weights) if plan.checkpoint is None else plan.checkpoint.parent / OLD_WEIGHTS
    loaded = load_weights(weights if weights.exists() else settings.weights)
    if not isinstance(loaded.detector, YOLO):
        raise UserError(
            f"{settings.weights}: classes can be added to native one-stage detectors only: Darknet's files can be "
            "converted (python -m yolofpn convert)"
        )
    metadata = loaded.metadata
    classes = add_classes(metadata.names, metadata.category_ids, splits.train, splits.data.source)
    if plan.checkpoint is not None:
        return OldDetector(loaded.detector, metadata, classes, read_class_groups(weights))
    known = class_groups_of(weights, metadata.names) or (metadata.names,)
    new = tuple(classes.names[label] for label in classes.new)
    return OldDetector(loaded.detector, metadata, classes, (*known, new))


def _with_boxes(dataset: DetectionDataset, more: Mapping[int, Detections]) -> DetectionDataset:
    """Append boxes to the images of the ids that are the keys."""
    none = Detections.empty()
    added = [more.get(image_id, none) for image_id in dataset.image_ids.tolist()]
    counts = np.array([len(each) for each in added], dtype=np.int64)
    # Each added box comes before the first box of the next image.
    places = np.repeat(dataset.offsets[1:], counts)
    boxes = np.concatenate([none.boxes, *(each.boxes for each in added)])
    labels = np.concatenate([none.labels, *(each.labels for each in added)])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return replace(
        dataset,
        offsets=dataset.offsets + np.concatenate([[0], np.cumsum(counts)]),
        boxes=np.insert(dataset.boxes, places, boxes, axis=0),
        labels=np.insert(dataset.labels, places, labels),
        ignore=np.insert(dataset.ignore, places, False),
        areas=np.insert(dataset.areas, places, areas),
    )
