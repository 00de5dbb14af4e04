"""What an evaluation leaves behind: numbers, detections, curves and the worst images."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.show import draw_target
from yolofpn.errors import InputError
from yolofpn.evaluation.confusion import confusion_matrix, worst_images
from yolofpn.evaluation.metrics import Metrics
from yolofpn.evaluation.operating_point import f1_over_thresholds, match_darknet
from yolofpn.evaluation.plots import plot_confusion, plot_f1, plot_precision_recall
from yolofpn.evaluation.table import EvaluationTable
from yolofpn.inference.coco_sink import rounded_results
from yolofpn.inference.output_files import write_atomically, write_errors
from yolofpn.inference.output_names import next_output_dir, safe_part
from yolofpn.structures import Detections, Image, Target

OUTPUT_BASE = Path("runs/evaluate")
WORST_IMAGES = 16
THRESHOLDS = np.linspace(0, 1, 201)
GAP = 8  # pixels between ground truth and detections
JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 90]


def prepare_output(output: Path | None, data: str) -> Path:
    """Make the output folder; without one named, the first free ``runs/evaluate/DATA-N``.

    Raises:
        UserError: it cannot be made.
    """
    if output is None:
        return next_output_dir(OUTPUT_BASE, Path(data).absolute().as_posix())
    with write_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    return output


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write plain numbers as indented JSON.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps(tree, indent=2, ensure_ascii=False, default=str) + "\n"
    # File names that are not UTF-8 become escapes that JSON readers turn back into what the system gave.
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def write_detections(path: Path, found: Mapping[int, Detections]) -> None:
    """Write all detections as a COCO results list, which pycocotools loads beside the data set's annotations.

    Args:
        path: the JSON file.
        found: by image id of the data set, with its category ids.

    Raises:
        UserError: the file cannot be written.
    """
    results = (result for image_id in sorted(found) for result in rounded_results(found[image_id], image_id))
    lines = ",\n".join(map(json.dumps, results))
    write_atomically(path, f"[\n{lines}\n]\n".encode())


def write_plots(folder: Path, metrics: Metrics, table: EvaluationTable) -> None:
    """Draw the curves of precision over recall and of F1 over the score threshold, and the confusion matrix.

    Raises:
        UserError: a file cannot be written.
    """
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
    """Write the pictures with the most mistakes, the worst first: ground truth at the left, detections at the right.

    Args:
        folder: gets ``01_STEM_MISSED_missed_FALSE_false.jpg`` and so on.
        dataset: whose pictures they are.
        found: by image id.
        table: all detections and objects.
        score_thresh: detections with a score above it count and are drawn.
        unreadable: numbers of the pictures that cannot be shown.

    Raises:
        UserError: a file cannot be written.
    """
    index_of = {image_id: index for index, image_id in enumerate(dataset.image_ids.tolist())}
    worst = worst_images(table, score_thresh, WORST_IMAGES + len(unreadable))
    worst = [mistakes for mistakes in worst if index_of[mistakes.image_id] not in unreadable][:WORST_IMAGES]
    for place, mistakes in enumerate(worst, start=1):
        index = index_of[mistakes.image_id]
        stem = safe_part(Path(dataset.paths[index]).stem)
        name = f"{place:02d}_{stem}_{mistakes.missed}_missed_{mistakes.false_positives}_false.jpg"
        with contextlib.suppress(InputError):  # it was readable a moment ago
            image = dataset.image(index)
            target = dataset.target(index, (image.shape[0], image.shape[1]))
            detections = found[mistakes.image_id]
            picture = side_by_side(image, target, detections[detections.scores > score_thresh], dataset.names)
            write_atomically(folder / name, cv2.imencode(".jpg", picture, JPEG_QUALITY)[1].tobytes())


def side_by_side(image: Image, target: Target, detections: Detections, names: tuple[str, ...]) -> Image:
    """``image`` twice in one picture: with what there is, and with what was found."""
    truth, result = draw_target(image, target, names), detections.draw(image)
    gap = np.full((image.shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([truth, gap, result], axis=1)
