"""labelme's JSON, one file beside each image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from yolofpn.data.writers.labelled import WrittenImage, WrittenObject, WrittenSplit, label_files, plain


class LabelmeWriter:
    """Ignore regions have the flag ``difficult``."""

    key: ClassVar[str] = "labelme"
    help: ClassVar[str] = "SPLIT/STEM.json beside the images"
    image_folder: ClassVar[str] = "{split}"
    root: ClassVar[str] = "{split}"
    annotations: ClassVar[str] = "{split}"
    suffix: ClassVar[str | None] = ".json"
    flat: ClassVar[bool] = True
    keeps: ClassVar[frozenset[str]] = frozenset({"background", "ignore", "unlabelled"})

    @staticmethod
    def files(split: WrittenSplit) -> Iterable[tuple[str, str]]:
        """One for each labelled image."""
        return label_files(split, split.name, ".json", labelme_json)

    @staticmethod
    def shared_files(splits: Sequence[WrittenSplit]) -> Iterable[tuple[str, str]]:
        """The class names, for ``labelme --labels labels.txt``."""
        yield "labels.txt", "".join(f"{name}\n" for name in splits[0].names)


def labelme_json(image: WrittenImage) -> str:
    """The annotation file of an image, which labelme 5 and 6 open."""
    height, width = image.size
    tree: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [_shape(entry) for entry in image.objects],
        "imagePath": image.reference,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def _shape(entry: WrittenObject) -> dict[str, Any]:
    x1, y1, x2, y2 = map(plain, entry.box)
    return {
        "label": entry.name,
        "points": [[x1, y1], [x2, y2]],
        "group_id": None,
        "description": "" if entry.score is None else f"score {entry.score:.4f}",
        "shape_type": "rectangle",
        "flags": {"difficult": True} if entry.ignore else {},
        "mask": None,
    }
