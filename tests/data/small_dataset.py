"""A data set of images that say where they are shown: each has one bright box per object on a dark ground."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from yolofpn.data.dataset import DetectionDataset, FlatStrings
from yolofpn.data.mosaic import LabelledImage
from yolofpn.structures import Image, Target

GROUND, OBJECT = 40, 250  # their middle is not the gray of padding


def make_target(
    boxes: list[list[float]], *, labels: list[int] | None = None, ignore: list[bool] | None = None
) -> Target:
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    sides = tensor[:, 2:] - tensor[:, :2]
    return Target(
        boxes=tensor,
        labels=torch.tensor(labels or [0] * len(boxes), dtype=torch.int64),
        ignore=torch.tensor(ignore or [False] * len(boxes), dtype=torch.bool),
        areas=sides.prod(dim=1) / 2,
        image_id=7,
    )


def bright_boxes(size: tuple[int, int], target: Target) -> LabelledImage:
    image = np.full((*size, 3), GROUND, dtype=np.uint8)
    for x1, y1, x2, y2 in target.boxes.int().tolist():
        image[y1:y2, x1:x2] = OBJECT
    return LabelledImage(image, target)


def bright_extent(image: Image) -> NDArray[np.float32]:
    """xyxy of the bright pixels, to a pixel; they cover more than half of each pixel inside."""
    rows, columns = np.nonzero(image.max(axis=2) > (GROUND + OBJECT) // 2)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float32)


def write_dataset(folder: Path, count: int = 6, size: tuple[int, int] = (60, 80)) -> DetectionDataset:
    """Image i has the id 100 + i and i % 3 boxes of label 0, 1, ..."""
    folder.mkdir(exist_ok=True)
    all_boxes = [[[5.0, 5.0, 25.0, 35.0], [40.0, 20.0, 70.0, 50.0]][: i % 3] for i in range(count)]
    for i, boxes in enumerate(all_boxes):
        image = bright_boxes(size, make_target(boxes)).image
        image[:, :, i % 3] += i
        cv2.imwrite(str(folder / f"{i}.png"), image)
    flat = np.array([box for boxes in all_boxes for box in boxes], dtype=np.float32).reshape(-1, 4)
    counts = [len(boxes) for boxes in all_boxes]
    return DetectionDataset(
        names=("first", "second"),
        category_ids=(0, 1),
        paths=FlatStrings(str(folder / f"{i}.png") for i in range(count)),
        sizes=np.array([size] * count, dtype=np.int32),
        image_ids=np.arange(100, 100 + count, dtype=np.int64),
        labelled=np.ones(count, dtype=np.bool_),
        offsets=np.cumsum([0, *counts]).astype(np.int64),
        boxes=flat,
        labels=np.array([label for n in counts for label in range(n)], dtype=np.int32),
        ignore=np.zeros(len(flat), dtype=np.bool_),
        areas=((flat[:, 2] - flat[:, 0]) * (flat[:, 3] - flat[:, 1])).astype(np.float32),
    )
