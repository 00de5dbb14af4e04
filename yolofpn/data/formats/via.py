"""VGG Image Annotator (VIA): its project or annotations as JSON, or as CSV with the same JSON in its cells."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, ClassVar

from yolofpn.data.csv_rows import read_csv
from yolofpn.data.label_format import has_words
from yolofpn.data.labelled_images import ImageLabels, ListedFormat, ObjectLabel, number, number_or_zero, read_json
from yolofpn.data.shapes import NO_BOX, Box, points_box
from yolofpn.errors import UserError
from yolofpn.reading import ParseError, parse_json

_CLASS_KEYS = ("class", "label", "label_id", "name", "type", "category", "object")


class Via(ListedFormat):
    """The box around each region; its class is the region's attribute of that name, else its only one."""

    key: ClassVar[str] = "via"
    title: ClassVar[str] = "VIA annotations"
    suffixes: ClassVar[tuple[str, ...]] = (".json", ".csv")
    has_sizes: ClassVar[bool] = False
    item: ClassVar[str] = "region"

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """By the keys of its regions."""
        return any(
            has_words(path, "region_shape_attributes", "region_attributes")
            or has_words(path, '"shape_attributes"', '"region_attributes"')
            for path in files
        )

    def parse(self, path: Path) -> list[tuple[str, ImageLabels]]:
        """The regions of each image."""
        images = _csv_images(path) if path.suffix.lower() == ".csv" else _json_images(path)
        return [(name, ImageLabels([_object(region) for region in regions])) for name, regions in images.items()]


def _json_images(path: Path) -> dict[str, list[Any]]:
    tree = read_json(path, "annotations of VIA")
    if isinstance(tree, dict) and isinstance(tree.get("_via_img_metadata"), dict):
        tree = tree["_via_img_metadata"]
    entries = list(tree.values()) if isinstance(tree, dict) else []
    if not entries or not all(isinstance(entry, dict) and "filename" in entry for entry in entries):
        raise UserError(f"{path}: no annotations of VIA: expected images with 'filename' and 'regions'")
    images: dict[str, list[Any]] = {}
    for entry in entries:
        regions = entry.get("regions")
        # VIA 1 numbers them: {"0": ..., "1": ...}
        listed = list(regions.values()) if isinstance(regions, dict) else regions if isinstance(regions, list) else []
        images.setdefault(str(entry["filename"]), []).extend(listed)
    return images


def _csv_images(path: Path) -> dict[str, list[Any]]:
    rows = read_csv(path, ("filename", "region_shape_attributes", "region_attributes"))
    images: dict[str, list[Any]] = {}
    for row in rows:
        regions = images.setdefault(row["filename"], [])
        shape, attributes = _cell(row["region_shape_attributes"]), _cell(row["region_attributes"])
        if shape != {}:  # the one row of an image without regions
            regions.append({"shape_attributes": shape, "region_attributes": attributes})
    return images


def _cell(text: str) -> Any:  # noqa: ANN401
    try:
        return parse_json(text)
    except ParseError:
        return None


def _object(region: object) -> ObjectLabel:
    shape, attributes = (
        region.get(key) if isinstance(region, dict) else None for key in ("shape_attributes", "region_attributes")
    )
    if not isinstance(shape, dict):
        return ObjectLabel("", NO_BOX, dropped="has no shape")
    kind = shape.get("name")
    if kind == "point":
        return ObjectLabel("", NO_BOX, dropped="a point has no box")
    name = _class_name(attributes if isinstance(attributes, dict) else {})
    if not name:
        return ObjectLabel("", NO_BOX, dropped="has no attribute that names its class")
    # VIA gives the rotation of ellipses in radians.
    degrees = math.degrees(number_or_zero(shape.get("theta"))) if kind == "ellipse" else 0.0
    return ObjectLabel(name, _box(shape), degrees, outline=kind != "rect")


def _class_name(attributes: dict[str, Any]) -> str:
    chosen = next((attributes[key] for key in _CLASS_KEYS if attributes.get(key)), None)
    if chosen is None and len(attributes) == 1:
        chosen = next(iter(attributes.values()))
    if isinstance(chosen, dict):  # check boxes: {"dog": true}
        chosen = next((key for key, ticked in chosen.items() if ticked), "")
    return chosen.strip() if isinstance(chosen, str) else ""


def _box(shape: dict[str, Any]) -> Box:
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if isinstance(xs, list) and isinstance(ys, list):
        return points_box([number(x) for x in xs], [number(y) for y in ys])
    if "cx" in shape:
        x, y = number(shape.get("cx")), number(shape.get("cy"))
        rx, ry = (number(shape.get(key, shape.get("r"))) for key in ("rx", "ry"))
        return x - rx, y - ry, x + rx, y + ry
    x, y = number(shape.get("x")), number(shape.get("y"))
    return x, y, x + number(shape.get("width")), y + number(shape.get("height"))
