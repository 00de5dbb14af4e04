"""Label Studio's JSON ("JSON" and "JSON-MIN"): tasks with regions in percent of the image's sides."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from yolofpn.data.label_format import has_words
from yolofpn.data.labelled_images import ImageLabels, ListedFormat, ObjectLabel, number, number_or_zero, read_json
from yolofpn.data.shapes import NO_BOX, Box, points_box
from yolofpn.errors import UserError

_CLASSES = ("rectanglelabels", "ellipselabels", "polygonlabels", "labels")
_NO_OBJECTS = {"brushlabels": "a brush mask is not read", "keypointlabels": "a point has no box"}
_KEYS = {*_CLASSES, *_NO_OBJECTS}
_IGNORED = frozenset({"difficult", "crowd", "ignore"})


class LabelStudioJson(ListedFormat):
    """The box around each region. Of several annotations of a task the first counts that was not cancelled.

    Regions with the choice ``difficult``, ``crowd`` or ``ignore`` are ignore regions.
    """

    key: ClassVar[str] = "label-studio"
    title: ClassVar[str] = "Label Studio tasks"
    item: ClassVar[str] = "region"

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """By the keys of its regions."""
        return any(has_words(path, '"original_width"', '"original_height"', '"rotation"') for path in files)

    def parse(self, path: Path) -> list[tuple[str, ImageLabels | None]]:
        """The regions of each task."""
        tasks = read_json(path, "tasks of Label Studio")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise UserError(f"{path}: no tasks of Label Studio: expected a list of them")
        return [(name, _labels(task)) for task in tasks if (name := _image_name(task)) is not None]


def _image_name(task: dict[str, Any]) -> str | None:
    """What the image was called before Label Studio put it under a URL of its own."""
    data = task.get("data") if isinstance(task.get("data"), dict) else task
    known = [data.get(key) for key in ("image", "img", "ocr")] if isinstance(data, dict) else []
    written = next((value for value in (*known, task.get("file_upload")) if isinstance(value, str) and value), None)
    if written is None:
        return None
    parts = urlsplit(written)
    local = parse_qs(parts.query).get("d")  # /data/local-files/?d=folder/a.png
    return local[0] if local else unquote(parts.path) if parts.scheme or written.startswith("/data/") else written


def _labels(task: dict[str, Any]) -> ImageLabels | None:
    results = _results(task)
    if results is None:
        return None
    regions = [region for region in results if isinstance(region, dict) and _value(region).keys() & _KEYS]
    size = next(((r.get("original_height"), r.get("original_width")) for r in regions), (None, None))
    ignored = {r.get("id") for r in results if isinstance(r, dict) and _IGNORED & _choices(r)}
    return ImageLabels([_object(region, region.get("id") in ignored) for region in regions], *size)


def _results(task: dict[str, Any]) -> list[Any] | None:
    """The regions of a task, among other things; None where nobody has labelled it."""
    annotations = task.get("annotations", task.get("completions"))
    if isinstance(annotations, list):
        kept = [entry for entry in annotations if isinstance(entry, dict) and not entry.get("was_cancelled")]
        found = kept[0].get("result") if kept else None
        return found if isinstance(found, list) else None
    lists = [value for value in task.values() if isinstance(value, list)]  # JSON-MIN: under the name of a tag
    return next((value for value in lists if any(isinstance(r, dict) and "original_width" in r for r in value)), None)


def _value(region: dict[str, Any]) -> dict[str, Any]:
    value = region.get("value", region)
    return value if isinstance(value, dict) else {}


def _choices(region: dict[str, Any]) -> set[str]:
    """What was chosen for a region, by the choices that a labelling interface may have for each."""
    chosen = _value(region).get("choices")
    return {choice.lower() for choice in chosen if isinstance(choice, str)} if isinstance(chosen, list) else set()


def _object(region: dict[str, Any], ignore: bool) -> ObjectLabel:
    value = _value(region)
    key = next(key for key in (*_CLASSES, *_NO_OBJECTS) if key in value)
    classes = value[key] if isinstance(value[key], list) else [value[key]]
    name = str(classes[0]) if classes else ""
    width, height = number(region.get("original_width")), number(region.get("original_height"))
    box = _box(value, width / 100, height / 100)
    if key in _NO_OBJECTS or not name:
        return ObjectLabel(name, NO_BOX, dropped=_NO_OBJECTS.get(key, "has no label"))
    if "radiusX" in value:
        return ObjectLabel(name, box, number_or_zero(value.get("rotation")), ignore, outline=True)
    turned = _turned(name, box, number_or_zero(value.get("rotation")))
    return replace(turned, ignore=ignore, outline="points" in value)


def _box(value: dict[str, Any], x_unit: float, y_unit: float) -> Box:
    """The box before it is turned: xyxy in pixels."""
    points = value.get("points")
    if isinstance(points, list):
        pairs = [point for point in points if isinstance(point, list) and len(point) == 2]
        return points_box([number(x) * x_unit for x, _ in pairs], [number(y) * y_unit for _, y in pairs])
    x, y = number(value.get("x")) * x_unit, number(value.get("y")) * y_unit
    if "radiusX" in value:
        rx, ry = number(value.get("radiusX")) * x_unit, number(value.get("radiusY")) * y_unit
        return x - rx, y - ry, x + rx, y + ry
    return x, y, x + number(value.get("width")) * x_unit, y + number(value.get("height")) * y_unit


def _turned(name: str, box: Box, degrees: float) -> ObjectLabel:
    """A rectangle is turned clockwise about its top left corner: the same as about its centre, elsewhere."""
    if not degrees:
        return ObjectLabel(name, box)
    x1, y1, x2, y2 = box
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width, half_height = (x2 - x1) / 2, (y2 - y1) / 2
    x, y = x1 + half_width * cosine - half_height * sine, y1 + half_width * sine + half_height * cosine
    return ObjectLabel(name, (x - half_width, y - half_height, x + half_width, y + half_height), degrees)
