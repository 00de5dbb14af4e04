"""CVAT's own XML: one ``annotations.xml`` with the shapes of all images, or with the tracks of a video."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np

from yolofpn.data.cvat_tracks import frames_of
from yolofpn.data.image_files import SPLIT_FOLDERS, Layout, Part, split_name
from yolofpn.data.label_format import has_words
from yolofpn.data.labelled_images import ImageLabels, ListedFormat, ObjectLabel, number_or_zero
from yolofpn.data.shapes import NO_BOX, Box, points_box, runs_box, turned_box
from yolofpn.errors import UserError
from yolofpn.reading import ParseError, check_class_names, parse_xml

_OBJECTS = frozenset({"box", "polygon", "polyline", "ellipse", "mask", "cuboid"})
_IGNORED = frozenset({"difficult", "is_crowd", "iscrowd"})  # attributes of CVAT's VOC and COCO imports


class CvatXml(ListedFormat):
    """CVAT's own XML: the box around each shape; points are no objects, ``difficult`` ones are ignore regions."""

    key: ClassVar[str] = "cvat"
    title: ClassVar[str] = "CVAT for images"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    item: ClassVar[str] = "shape"

    @classmethod
    def recognise(cls, folder: Path) -> Layout | None:
        """annotations.xml, or one file for each split, and images/."""
        splits: dict[str, tuple[Part, ...]] = {}
        for stem in ("annotations", "default", *SPLIT_FOLDERS):  # datumaro writes a file for each split
            path = folder / f"{stem}.xml"
            if cls.matches([path], ()):
                splits["train" if stem == "annotations" else split_name(stem)] = (Part(folder, path),)
        return Layout("cvat", folder, f"CVAT for images in {folder}", splits) if splits else None

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """By its elements."""
        return any(
            has_words(path, "<annotations", "<image") or has_words(path, "<annotations", "<track") for path in files
        )

    def class_names(self) -> tuple[str, ...]:
        """The labels of all tasks in their order, and those that are used without being listed."""
        paths = dict.fromkeys(self._files.annotations(part) for part in self._files.parts)
        return tuple(dict.fromkeys(name for path in paths if path.is_file() for name in _label_names(path)))

    def parse(self, path: Path) -> list[tuple[str, ImageLabels]]:
        """The shapes of all images."""
        root = _root(path)
        images = root.findall("image")
        return [(image.get("name", ""), _labels(image)) for image in images] if images else frames_of(root, _object)


def _root(path: Path) -> ElementTree.Element:
    try:
        root = parse_xml(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected annotations of CVAT (XML)") from None
    except ParseError as error:
        raise UserError(f"{path}: not readable as XML ({error}): export the annotations again") from None
    if root.tag != "annotations" or (root.find("image") is None and root.find("track") is None):
        raise UserError(f'{path}: has no <image> and no <track>: export from CVAT as "CVAT for images", or as COCO')
    return root


def _label_names(path: Path) -> tuple[str, ...]:
    root = _root(path)
    listed = [(element.findtext("name") or "").strip() for element in root.iterfind("meta//labels/label")]
    shapes = (shape for image in root.iterfind("image") for shape in image if shape.tag in _OBJECTS)
    used = sorted({element.get("label", "") for element in (*shapes, *root.iterfind("track"))})
    names = tuple(dict.fromkeys(name for name in (*listed, *used) if name))
    check_class_names(names, path)
    return names


def _labels(image: ElementTree.Element) -> ImageLabels:
    found = (_object(shape.get("label", ""), shape) for shape in image)
    objects = [entry for entry in found if entry is not None]
    return ImageLabels(objects, _number(image, "height"), _number(image, "width"))


def _object(name: str, shape: ElementTree.Element) -> ObjectLabel | None:
    if shape.tag in _OBJECTS:
        box, degrees = _shape_box(shape), number_or_zero(shape.get("rotation"))
        ignore = any(a.get("name") in _IGNORED and a.text == "true" for a in shape.iterfind("attribute"))
        if shape.tag == "ellipse" and degrees and math.isfinite(sum(box)):
            return ObjectLabel(name, turned_box(box, degrees, ellipse=True), ignore=ignore, outline=True)
        return ObjectLabel(name, box, degrees, ignore=ignore, outline=shape.tag != "box")
    if shape.tag in ("points", "skeleton"):
        return ObjectLabel(name, NO_BOX, dropped=f"{shape.tag} have no box")
    return None


def _shape_box(shape: ElementTree.Element) -> Box:
    match shape.tag:
        case "box":
            x1, y1, x2, y2 = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
            return x1, y1, x2, y2
        case "ellipse":
            x, y, rx, ry = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
            return x - rx, y - ry, x + rx, y + ry
        case "mask":
            return _mask_box(shape)
        case "cuboid":
            corners = [(key, shape.get(key)) for key in shape.keys() if key[:1] in "xy" and "-" not in key]  # noqa: SIM118
            points = [(key[0], _number(shape, key)) for key, _ in corners]
            return points_box(*([value for axis, value in points if axis == wanted] for wanted in "xy"))
    pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair.strip()]
    try:
        return points_box(*([float(pair[axis]) for pair in pairs] for axis in (0, 1)))
    except (ValueError, IndexError):
        return NO_BOX


def _mask_box(shape: ElementTree.Element) -> Box:
    """The box around a mask's pixels; its runs go along the rows of a window of the image."""
    left, top, width, height = (_number(shape, key) for key in ("left", "top", "width", "height"))
    try:
        runs = np.array([int(word) for word in shape.get("rle", "").split(",")], dtype=np.int64)
    except (ValueError, OverflowError):
        return NO_BOX
    if not all(map(math.isfinite, (left, top, width, height))) or (runs < 0).any() or runs.sum() > 2**40:
        return NO_BOX
    x1, y1, x2, y2 = runs_box(runs, int(height), int(width), by_columns=False)
    return left + x1, top + y1, left + x2, top + y2


def _number(element: ElementTree.Element, key: str) -> float:
    try:
        return float(element.get(key, ""))
    except ValueError:
        return math.nan
