"""Images of squares that a tiny network finds to the pixel, and their labels as labelling tools write them.

AP is 1 only if every box is right: a square has 8 pixels a side, so one pixel costs every IoU threshold above .78.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.evaluation.squares import CHANNELS, SIDE

Box = tuple[int, int, int, int]
INSIDE: list[tuple[str, Box]] = [("red", (16, 8, 24, 16)), ("blue", (32, 24, 40, 32)), ("red", (48, 48, 56, 56))]
AT_EDGES: list[tuple[str, Box]] = [("red", (0, 0, 8, 8)), ("blue", (56, 24, 64, 32)), ("red", (32, 56, 40, 64))]
NAMES = ("red", "blue")


def paint(path: Path, squares: Sequence[tuple[str, Box]]) -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for colour, (x1, y1, x2, y2) in squares:
        image[y1:y2, x1:x2, CHANNELS[colour]] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# VOC's XML

HEADS = {
    "devkit": "<folder>VOC2012</folder><source><database>The VOC2012 Database</database>"
    "<annotation>PASCAL VOC2012</annotation><image>flickr</image></source>",
    "cvat": "<folder></folder><source><database>Unknown</database><annotation>Unknown</annotation>"
    "<image>Unknown</image></source>",
    "labelimg": "<folder>mine</folder><path>/home/me/mine/0.png</path><source><database>Unknown</database></source>",
    "labelstudio": "<folder>images</folder><source><database>MyDatabase</database><annotation>COCO2017</annotation>"
    "<image>flickr</image></source><owner><name>Label Studio</name></owner>",
    "roboflow": "<folder></folder><path>0.png</path><source><database>roboflow.com</database></source>",
    "makesense": "<folder>my-project-name</folder><source><database>Unspecified</database></source>",
    "supervision": "<folder>VOC</folder><source><database>roboflow.ai</database></source>",
    "nobody": "",
}
INCLUSIVE, ZERO, ONE = (1, 1, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1)


def voc(head: str, shift: Sequence[int], form: Callable[[int], str] = str, order: str = "xyXY", scale: int = 1) -> Any:
    """A writer of VOC's XML whose corners are those between the pixels plus ``shift``."""
    tags = {"x": "xmin", "y": "ymin", "X": "xmax", "Y": "ymax"}

    def write_label(folder: Path, stem: str, squares: Sequence[tuple[str, Box]]) -> None:
        objects = ""
        for name, box in squares:
            moved = (form(side * scale + more) for side, more in zip(box, shift, strict=True))
            numbers = dict(zip("xyXY", moved, strict=True))
            corners = "".join(f"<{tags[key]}>{numbers[key]}</{tags[key]}>" for key in order)
            objects += f"<object><name>{name}</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>"
        size = f"<size><width>{SIDE * scale}</width><height>{SIDE * scale}</height></size>"
        write(folder / f"{stem}.xml", f"<annotation>{HEADS[head]}{size}{objects}</annotation>")

    return write_label


def beside(folder: Path, scenes: Sequence[Sequence[tuple[str, Box]]], label: Any, stems: Sequence[str] = "ab") -> Path:
    """Images with their label files beside them."""
    for stem, squares in zip(stems, scenes, strict=False):
        paint(folder / f"{stem}.png", squares)
        label(folder, stem, squares)
    return folder


# COCO's JSON


def coco(folder: Path, scenes: Sequence[Sequence[tuple[str, Box]]], change: Callable[[dict[str, Any]], None]) -> Path:
    """A COCO data set as its own writer would leave it, then changed."""
    tree: dict[str, Any] = {"images": [], "annotations": []}
    tree["categories"] = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]
    for number, squares in enumerate(scenes):
        paint(folder / "images" / f"{number}.png", squares)
        tree["images"].append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        for name, (x1, y1, x2, y2) in squares:
            polygon = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            tree["annotations"].append(
                {
                    "id": len(tree["annotations"]) + 1,
                    "image_id": number,
                    "category_id": NAMES.index(name) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "segmentation": polygon,
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    change(tree)
    write(folder / "annotations" / "instances_default.json", json.dumps(tree))
    return folder


def corners_of(annotation: dict[str, Any]) -> list[int]:
    x, y, width, height = annotation["bbox"]
    return [x, y, x + width, y + height]


def run_lengths(box: Sequence[int]) -> list[int]:
    """COCO's runs of a filled box, down the columns."""
    x1, y1, x2, y2 = box
    columns = x2 - x1
    first, inside, gap = x1 * SIDE + y1, y2 - y1, SIDE - (y2 - y1)
    last = SIDE * SIDE - (first + columns * inside + (columns - 1) * gap)
    return [first, *([inside, gap] * columns)[:-1], last]


# YOLO's text


def yolo(line: Callable[[int, Sequence[float]], str]) -> Any:
    """A writer of YOLO's text files; ``line`` makes one of a class number and x, y, width, height in 0..1."""

    def write_label(folder: Path, stem: str, squares: Sequence[tuple[str, Box]]) -> None:
        lines = [
            line(NAMES.index(name), [(x1 + x2) / 2 / SIDE, (y1 + y2) / 2 / SIDE, (x2 - x1) / SIDE, (y2 - y1) / SIDE])
            for name, (x1, y1, x2, y2) in squares
        ]
        write(folder / f"{stem}.txt", "\n".join(lines))

    return write_label


def labelme(folder: Path, stem: str, squares: Sequence[tuple[str, Box]]) -> None:
    """labelme's JSON, rectangles by any two opposite corners."""
    shapes: list[dict[str, Any]] = [
        {"label": name, "points": [[x2, y2], [x1, y1]], "shape_type": "rectangle", "group_id": None, "flags": {}}
        for name, (x1, y1, x2, y2) in squares
    ]
    tree: dict[str, Any] = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{stem}.png",
        "imageData": None,
    }
    write(folder / f"{stem}.json", json.dumps({**tree, "imageHeight": SIDE, "imageWidth": SIDE}))


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)
