"""COCO's JSON: ``annotations/instances_SPLIT.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from yolofpn.data.writers.labelled import WrittenImage, WrittenObject, WrittenSplit, plain


class CocoWriter:
    """Ignore regions become crowds."""

    key: ClassVar[str] = "coco"
    help: ClassVar[str] = "annotations/instances_SPLIT.json"
    image_folder: ClassVar[str] = "images/{split}"
    root: ClassVar[str] = "images/{split}"
    annotations: ClassVar[str] = "annotations/instances_{split}.json"
    suffix: ClassVar[str | None] = None
    flat: ClassVar[bool] = False
    keeps: ClassVar[frozenset[str]] = frozenset({"ignore", "area", "ids", "unlabelled"})

    @staticmethod
    def files(split: WrittenSplit) -> Iterable[tuple[str, str]]:
        """One file."""
        annotations = (_annotation(split, image, entry) for image in split.images for entry in image.objects)
        categories = zip(split.category_ids, split.names, strict=True)
        tree = {
            "info": {},
            "licenses": [],
            "images": [_image(image) for image in split.images],
            "categories": [{"id": number, "name": name, "supercategory": ""} for number, name in categories],
            "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
        }
        yield CocoWriter.annotations.format(split=split.name), json.dumps(tree, ensure_ascii=False)

    @staticmethod
    def shared_files(splits: Sequence[WrittenSplit]) -> Iterable[tuple[str, str]]:
        """None."""
        return ()


def _image(image: WrittenImage) -> dict[str, Any]:
    height, width = image.size
    return {"id": image.image_id, "file_name": image.name, "height": height, "width": width}


def _annotation(split: WrittenSplit, image: WrittenImage, entry: WrittenObject) -> dict[str, Any]:
    x1, y1, x2, y2 = entry.box
    area = (x2 - x1) * (y2 - y1) if entry.area is None else entry.area
    return {
        "image_id": image.image_id,
        "category_id": split.category_ids[entry.label],
        "bbox": [plain(x1), plain(y1), plain(x2 - x1), plain(y2 - y1)],
        "area": plain(area),
        "segmentation": [],
        "iscrowd": int(entry.ignore),
    }
