"""Detection for checking labels: in the whole image and its mirror image, in overlapping parts, and around each label.

What the network misses because it is small is often found when its surroundings fill the input.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from yolofpn.concurrency import Background
from yolofpn.data.class_names import ClassMatch
from yolofpn.data.dataset import DetectionDataset
from yolofpn.evaluation.evaluator import relabelled
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.evaluation.run_detector import (
    Found,
    RunSettings,
    print_failure,
    read_images,
    split_limits,
    with_progress,
)
from yolofpn.evaluation.table import DetectionTable
from yolofpn.inference.predictor import Predictor
from yolofpn.structures import Detections, Image, Limits, Target
from yolofpn.views.image_pyramid import merge_detections
from yolofpn.views.tiles import View, merge_views

OVERLAP = 0.2  # of neighbouring parts of the image
DIVISIONS = (2, 3)  # parts along each side of the image
ENLARGED = 4.0  # side of the surroundings of a label, in longer sides of its box
SMALLEST = 48  # pixels that surroundings have at least: there is nothing to see in fewer


def look_closer(
    predictor: Predictor, dataset: DetectionDataset, match: ClassMatch, settings: RunSettings
) -> tuple[Found, DetectionTable]:
    """Detect in all images, and once more in the enlarged surroundings of each label, in pixels of the image.

    Raises:
        UserError: if out of memory, or the network's output is NaN.
    """
    metrics, enlarged = DetectionMetrics(dataset.names), DetectionMetrics(dataset.names)
    failures: dict[int, str] = {}
    limits = split_limits(predictor, match, settings.score_thresh)
    images = Background(read_images(dataset), ahead=2)
    with closing(images):
        for index, image in with_progress(images, len(dataset)):
            if isinstance(image, str):
                failures[index] = image
                print_failure(image)
                target = dataset.target(index)
                found = around = Detections.empty()
            else:
                target = dataset.target(index, (image.shape[0], image.shape[1]))
                found, around = _detect(predictor, image, target, limits, settings.batch_size)
            metrics.add(relabelled(found, match.mapping), target)
            enlarged.add(relabelled(around, match.mapping), target)
    return Found(metrics, None, failures), enlarged.table().detections


def label_views(target: Target, image_size: tuple[int, int]) -> list[View]:
    """The surroundings of each label, as far as they are smaller than the image."""
    height, width = image_size
    boxes = target.boxes[~target.ignore].double().cpu().numpy()
    centres, longer = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    half = np.maximum(longer * ENLARGED, SMALLEST)[:, None] / 2
    low = np.maximum(np.floor(centres - half), 0).astype(np.int64)
    high = np.minimum(np.ceil(centres + half), [width, height]).astype(np.int64)
    windows = [(x1, y1, x2, y2) for (x1, y1), (x2, y2) in zip(low.tolist(), high.tolist(), strict=True)]
    return [
        View(window, image_size)
        for window in windows
        if window[0] < window[2] and window[1] < window[3] and window != (0, 0, width, height)
    ]


def part_views(image_size: tuple[int, int]) -> list[View]:
    """The whole image, and overlapping parts of it of each size."""
    parts = [View((0, 0, image_size[1], image_size[0]), image_size)]
    for number in DIVISIONS:
        height, width = (math.ceil(side / (number - (number - 1) * OVERLAP)) for side in image_size)
        rows, columns = (
            [round(index * (side - part) / (number - 1)) for index in range(number)]
            for side, part in zip(image_size, (height, width), strict=True)
        )
        parts += [View((x, y, x + width, y + height), image_size) for y in rows for x in columns]
    return parts


def _detect(
    predictor: Predictor, image: Image, target: Target, limits: Limits, batch_size: int
) -> tuple[Detections, Detections]:
    """What is found in the image and its parts, and around the labels."""
    size = (image.shape[0], image.shape[1])
    parts, labels = part_views(size), label_views(target, size)
    windows = [image[y1:y2, x1:x2] for x1, y1, x2, y2 in (view.window for view in [*parts, *labels])]
    windows.append(np.ascontiguousarray(image[:, ::-1]))
    batches = (windows[first : first + batch_size] for first in range(0, len(windows), batch_size))
    *found, mirrored = chain.from_iterable(predictor.predict(batch, limits) for batch in batches)
    placed = [view.to_image(each) for view, each in zip([*parts, *labels], found, strict=True)]
    whole = [*placed[: len(parts)], replace(mirrored, boxes=_mirror(mirrored.boxes, size[1]))]
    merged = merge_views(whole, [*parts, parts[0]], limits)
    if not labels:
        return merged, Detections.empty()
    all_of_them = replace(limits, detections_per_img=limits.detections_per_img * len(labels))
    uncut = [each[~view.cuts(each.boxes)] for view, each in zip(labels, placed[len(parts) :], strict=True)]
    return merged, merge_detections(uncut, all_of_them)


def _mirror(boxes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
