"""Datumaro's own JSON: ``annotations/SUBSET.json`` with the items of a subset, and ``images/SUBSET/``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, ClassVar

from yolofpn.data.label_format import has_words
from yolofpn.data.labelled_images import ImageLabels, ListedFormat, ObjectLabel, number, read_json
from yolofpn.data.shapes import NO_BOX, Box, points_box, segmentation_box
from yolofpn.errors import UserError
from yolofpn.reading import check_class_names

_NO_BOXES = {"points": "points have no box", "caption": "a caption has no box", "cuboid_3d": "is not in the image"}
_IGNORED = ("difficult", "is_crowd")


class DatumaroJson(ListedFormat):
    """The box around each annotation; labels of whole images are no objects."""

    key: ClassVar[str] = "datumaro"
    title: ClassVar[str] = "Datumaro annotations"
    item: ClassVar[str] = "annotation"

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """By its keys."""
        return any(has_words(path, '"items"', '"categories"', '"infos"', '"annotations"') for path in files)

    def parse(self, path: Path) -> list[tuple[str, ImageLabels]]:
        """The annotations of each item."""
        tree = _tree(path)
        names = _label_names(tree)
        images = []
        for entry in tree["items"]:
            image = entry.get("image") if isinstance(entry, dict) else None
            if not isinstance(image, dict):
                continue
            written, size = image.get("path") or entry.get("id"), image.get("size") or (None, None)
            if isinstance(written, str):
                found = entry.get("annotations")
                listed = [a for a in found if isinstance(a, dict)] if isinstance(found, list) else []
                objects = [_object(a, names) for a in listed if a.get("type") != "label"]
                images.append((written, ImageLabels(objects, *(size if len(size) == 2 else (None, None)))))
        return images

    def class_names(self) -> tuple[str, ...]:
        """Those that the files list, in their order."""
        paths = dict.fromkeys(self._files.annotations(part) for part in self._files.parts)
        names = tuple(dict.fromkeys(n for path in paths if path.is_file() for n in _label_names(_tree(path)) if n))
        check_class_names(names, self._files.layout.origin)
        return names


def _tree(path: Path) -> dict[str, Any]:
    tree = read_json(path, "annotations of Datumaro")
    if not isinstance(tree, dict) or not isinstance(tree.get("items"), list):
        raise UserError(f"{path}: no annotations of Datumaro: expected 'categories' and 'items'")
    return tree


def _label_names(tree: dict[str, Any]) -> list[str]:
    node: Any = tree
    for key in ("categories", "label", "labels"):
        node = node.get(key) if isinstance(node, dict) else None
    labels = node if isinstance(node, list) else []
    return [str(label.get("name") or "") if isinstance(label, dict) else "" for label in labels]


def _object(entry: dict[str, Any], names: list[str]) -> ObjectLabel:
    label, kind = entry.get("label_id"), str(entry.get("type"))
    name = names[label] if isinstance(label, int) and 0 <= label < len(names) else ""
    if not name or kind in _NO_BOXES:
        return ObjectLabel(name, NO_BOX, dropped=_NO_BOXES.get(kind, "has no label"))
    attributes = entry.get("attributes")
    marked = isinstance(attributes, dict) and any(attributes.get(key) is True for key in _IGNORED)
    return ObjectLabel(name, _box(entry), ignore=marked, outline=kind != "bbox")


def _box(entry: dict[str, Any]) -> Box:
    box, points = entry.get("bbox"), entry.get("points")
    if isinstance(box, list) and len(box) == 4:
        x, y, width, height = map(number, box)
        return x, y, x + width, y + height
    if isinstance(points, list) and len(points) % 2 == 0:  # of an ellipse, the corners of its box
        values = [number(value) for value in points]
        return points_box(values[::2], values[1::2])
    return segmentation_box(entry.get("rle"))
