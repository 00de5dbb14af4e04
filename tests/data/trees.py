"""Small data sets on disk for tests: tiny images, and label files written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_image(path: Path, height: int = 40, width: int = 60, seed: int = 0) -> Path:
    """An image of a few large patches, different for each seed, so that no two look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST))
    return path


def voc_xml(objects: Sequence[tuple[str, Sequence[float]]], size: tuple[int, int] = (40, 60), extra: str = "") -> str:
    """XML for objects (name, [xmin, ymin, xmax, ymax]) in an image of size (height, width)."""
    entries = "".join(
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in objects
    )
    height, width = size
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{entries}</annotation>"


def coco_json(
    file_names: Sequence[str],
    boxes: Sequence[tuple[int, int, Sequence[float]]],
    categories: Sequence[tuple[int, str]] = ((1, "cat"), (2, "dog")),
) -> str:
    """COCO JSON for 40 x 60 images with ids 1, 2, ...; boxes are (image id, category id, [x, y, w, h])."""
    tree: dict[str, Any] = {
        "images": [{"id": i, "file_name": n, "height": 40, "width": 60} for i, n in enumerate(file_names, start=1)],
        "categories": [{"id": i, "name": name, "supercategory": "none"} for i, name in categories],
        "annotations": [
            {"id": i, "image_id": image, "category_id": label, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0}
            for i, (image, label, box) in enumerate(boxes, start=1)
        ],
    }
    return json.dumps(tree)
