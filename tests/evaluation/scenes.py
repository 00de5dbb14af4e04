"""Made-up detections and ground truth for the tests of the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from yolofpn.evaluation.table import EvaluationTable, build_table
from yolofpn.structures import Detections, Target

Scene = list[tuple[Detections, Target]]
Box = Sequence[float]


def found(*rows: tuple[Box, float, int]) -> Detections:
    """Detections from (box, score, label) rows, best first."""
    rows = tuple(sorted(rows, key=lambda row: -row[1]))
    return Detections(
        torch.tensor([list(box) for box, _, _ in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([score for _, score, _ in rows], dtype=torch.float32),
        torch.tensor([label for _, _, label in rows], dtype=torch.int64),
    )


def truth(image_id: int, *rows: tuple[Box, int], ignore: Sequence[int] = ()) -> Target:
    """A target from (box, label) rows; ``ignore`` are the numbers of the rows to be ignored."""
    boxes = torch.tensor([list(box) for box, _ in rows], dtype=torch.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    return Target(
        boxes=boxes,
        labels=torch.tensor([label for _, label in rows], dtype=torch.int64),
        ignore=torch.tensor([row in ignore for row in range(len(rows))], dtype=torch.bool),
        areas=sides[:, 0] * sides[:, 1],
        image_id=image_id,
    )


def table_of(scene: Scene, num_classes: int) -> EvaluationTable:
    return build_table(((target.image_id, *image) for image in scene for target in image[1:]), num_classes)


@dataclass(frozen=True)
class Style:
    """What a random scene is like."""

    images: int = 12
    classes: int = 4
    objects: float = 5.0
    detections: float = 20.0
    crowd: float = 0.15
    whole_pixels: bool = True  # makes equal IoUs and IoUs of exactly 0.5 frequent
    score_steps: int = 20  # makes equal scores frequent
    largest: float = 160.0


def random_scene(seed: int, style: Style = Style()) -> Scene:
    """Images of random objects, with detections near them and elsewhere; ids are neither ascending nor contiguous."""
    rng = np.random.default_rng(seed)
    image_ids = rng.permutation(style.images * 3)[: style.images]
    return [_random_image(rng, int(image_id), style) for image_id in image_ids]


def _random_image(rng: np.random.Generator, image_id: int, style: Style) -> tuple[Detections, Target]:
    objects = _random_boxes(rng, int(rng.poisson(style.objects)), style)
    labels = rng.integers(max(style.classes - 1, 1), size=len(objects))  # the last class has detections, no objects
    sides = objects[:, 2:] - objects[:, :2]
    target = Target(
        boxes=torch.tensor(objects, dtype=torch.float32),
        labels=torch.tensor(labels),
        ignore=torch.tensor(rng.random(len(objects)) < style.crowd),
        areas=torch.tensor(sides.prod(axis=1) * rng.uniform(0.5, 1, len(objects)), dtype=torch.float32),
        image_id=image_id,
    )
    boxes = _random_boxes(rng, int(rng.poisson(style.detections)), style)
    detected = rng.integers(style.classes, size=len(boxes))
    if len(objects):
        near = rng.random(len(boxes)) < 0.7
        which = rng.integers(len(objects), size=len(boxes))
        shifted = objects[which] + np.tile(sides[which], 2) * rng.normal(0, 0.1, (len(boxes), 4))
        boxes[near] = np.round(shifted[near]) if style.whole_pixels else shifted[near]
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        detected[near & (rng.random(len(boxes)) < 0.9)] = -1
        detected = np.where(detected < 0, labels[which], detected)
    scores = np.sort(rng.integers(1, style.score_steps + 1, len(boxes)) / style.score_steps)[::-1].copy()
    detections = Detections(
        torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32), torch.tensor(detected)
    )
    return detections, target


def _random_boxes(rng: np.random.Generator, count: int, style: Style) -> NDArray[np.float64]:
    sides = np.exp(rng.uniform(np.log(6), np.log(style.largest), (count, 2)))
    corners = rng.uniform(0, 320 - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    return np.round(boxes) if style.whole_pixels else boxes
