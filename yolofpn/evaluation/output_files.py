"""Writes the results of an evaluation: metrics, detections, plots and the images with the most errors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.images import image_size
from yolofpn.data.label_pages import draw_target
from yolofpn.errors import InputError
from yolofpn.evaluation.confusion import confusion_matrix, worst_images
from yolofpn.evaluation.metrics import Metrics
from yolofpn.evaluation.operating_point import f1_over_thresholds, match_darknet
from yolofpn.evaluation.table import EvaluationTable
from yolofpn.extras import is_installed
from yolofpn.files import write_atomically, write_errors
from yolofpn.ops.boxes import xyxy_to_xywh
from yolofpn.sinks.coco_results import rounded_results
from yolofpn.sinks.output_names import next_output_dir
from yolofpn.structures import Detections, Image, Target
from yolofpn.text import safe_part

OUTPUT_BASE = Path("runs/evaluate")
WORST_IMAGES = 16
THRESHOLDS = np.linspace(0, 1, 201)
GAP = 8  # pixels between ground truth and detections
JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 90]


def prepare_output(output: Path | None, data: str) -> Path:
    """Create the output folder; by default the first free ``runs/evaluate/DATA-N``.

    Raises:
        UserError: if it cannot be made.
    """
    if output is None:
        return next_output_dir(OUTPUT_BASE, Path(data).absolute().as_posix())
    with write_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    return output


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write metrics as indented JSON.

    Raises:
        UserError: if the file cannot be written.
    """
    text = json.dumps(tree, indent=2, ensure_ascii=False, default=str) + "\n"
    # File names that are not UTF-8 become escapes that JSON readers turn back into what the system gave.
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


@dataclass(frozen=True)
class WrittenIds:
    """The ids of images and categories in the annotation file.

    Attributes:
        images: by image id of the data set.
        categories: by label.
    """

    images: dict[int, int | str]
    categories: tuple[int | str, ...]

    @classmethod
    def of(cls, dataset: DetectionDataset) -> WrittenIds:
        """Return the ids of a data set."""
        numbers: list[int] = dataset.image_ids.tolist()
        source = dataset.source_ids
        images = dict(zip(numbers, numbers if source is None else source.images, strict=True))
        return cls(images, dataset.category_ids if source is None else source.categories)


def write_detections(path: Path, found: Mapping[int, Detections], ids: WrittenIds, *, exact: bool = False) -> None:
    """Write all detections as a COCO results list, which pycocotools loads beside the data set's annotations.

    Args:
        path: the JSON file.
        found: by image id of the data set, with its labels.
        ids: what the file calls them.
        exact: write all digits, for an exact comparison.

    Raises:
        UserError: if the file cannot be written.
    """

    def results() -> Iterator[dict[str, Any]]:
        for number in sorted(found):
            detections = replace(found[number], category_ids=())
            for result in detections.to_coco(number) if exact else rounded_results(detections, number):
                yield {**result, "image_id": ids.images[number], "category_id": ids.categories[result["category_id"]]}

    _write_list(path, results())


def write_images(path: Path, dataset: DetectionDataset, ids: WrittenIds) -> None:
    """Write the images by id: a JSON list of id, file_name, width and height.

    Raises:
        UserError: if the file cannot be written.
    """
    _write_list(path, _image_entries(dataset, ids))


def write_truth(path: Path, dataset: DetectionDataset, targets: Iterable[Target], ids: WrittenIds) -> None:
    """Write the ground truth that was measured against as a COCO data set; ignore regions are its crowds.

    Args:
        path: the JSON file.
        dataset: whose images and classes they are.
        targets: of all images, in pixels of the images as they are.
        ids: what the file calls them.

    Raises:
        UserError: if the file cannot be written.
    """
    annotations: list[dict[str, Any]] = []
    for target in targets:
        boxes = xyxy_to_xywh(target.boxes.double()).tolist()
        rows = zip(boxes, target.labels.tolist(), target.ignore.tolist(), target.areas.double().tolist(), strict=True)
        annotations += (
            {
                "image_id": ids.images[target.image_id],
                "category_id": ids.categories[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(ignored),
            }
            for box, label, ignored, area in rows
        )
    tree = {
        "images": list(_image_entries(dataset, ids)),
        "categories": [{"id": i, "name": name} for i, name in zip(ids.categories, dataset.names, strict=True)],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
    }
    write_atomically(path, json.dumps(tree).encode())


def _image_entries(dataset: DetectionDataset, ids: WrittenIds) -> Iterator[dict[str, Any]]:
    for index, number in enumerate(dataset.image_ids.tolist()):
        path = Path(dataset.paths[index])
        try:
            height, width = image_size(dataset.encoded(index) or path, name=str(path), channels=dataset.form.channels)
        except InputError:
            height, width = dataset.sizes[index].tolist()
        yield {"id": ids.images[number], "file_name": str(path), "width": width, "height": height}


def _write_list(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    lines = ",\n".join(map(json.dumps, entries))
    write_atomically(path, f"[\n{lines}\n]\n".encode())


def write_plots(folder: Path, metrics: Metrics, table: EvaluationTable) -> None:
    """Draw the curves of precision over recall and of F1 over the score threshold, and the confusion matrix.

    Without matplotlib nothing is drawn.

    Raises:
        UserError: if a file cannot be written.
    """
    if not is_installed("matplotlib"):
        return
    from yolofpn.evaluation.evaluation_plots import plot_confusion, plot_f1, plot_precision_recall

    names = [each.name for each in metrics.per_class]
    outcomes = match_darknet(table)
    f1 = f1_over_thresholds(outcomes, THRESHOLDS)
    with write_errors(folder):
        plot_precision_recall(folder / "precision_recall.png", metrics.precision, names)
        plot_f1(folder / "f1.png", THRESHOLDS, f1, outcomes.positives > 0, names)
        plot_confusion(folder / "confusion.png", confusion_matrix(table, metrics.report_thresh), names)


def write_worst_images(
    folder: Path,
    dataset: DetectionDataset,
    found: Mapping[int, Detections],
    table: EvaluationTable,
    score_thresh: float,
    unreadable: Collection[int],
) -> None:
    """Write the images with the most mistakes, the worst first: ground truth at the left, detections at the right.

    Args:
        folder: gets ``01_STEM_MISSED_missed_FALSE_false.jpg`` and so on.
        dataset: whose images they are.
        found: by image id.
        table: all detections and objects.
        score_thresh: detections with a score above it count and are drawn.
        unreadable: numbers of the images that cannot be shown.

    Raises:
        UserError: if a file cannot be written.
    """
    index_of = {image_id: index for index, image_id in enumerate(dataset.image_ids.tolist())}
    worst = worst_images(table, score_thresh, WORST_IMAGES + len(unreadable))
    worst = [mistakes for mistakes in worst if index_of[mistakes.image_id] not in unreadable][:WORST_IMAGES]
    for place, mistakes in enumerate(worst, start=1):
        index = index_of[mistakes.image_id]
        stem = safe_part(Path(dataset.paths[index]).stem)
        name = f"{place:02d}_{stem}_{mistakes.missed}_missed_{mistakes.false_positives}_false.jpg"
        with contextlib.suppress(InputError):  # it was readable a moment ago
            image = dataset.shown_image(index)
            target = dataset.target(index, (image.shape[0], image.shape[1]))
            detections = found[mistakes.image_id]
            pair = side_by_side(image, target, detections[detections.scores > score_thresh], dataset.names)
            write_atomically(folder / name, cv2.imencode(".jpg", pair, JPEG_QUALITY)[1].tobytes())


def side_by_side(image: Image, target: Target, detections: Detections, names: tuple[str, ...]) -> Image:
    """Draw ground truth and detections on two copies of ``image``, side by side."""
    truth, result = draw_target(image, target, names), detections.draw(image)
    gap = np.full((image.shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([truth, gap, result], axis=1)
