"""CVAT's own XML ("CVAT for images"): one ``annotations.xml`` with the shapes of all images."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np

from yolofpn.data.assemble import BoxRows, Pictures, assemble, image_size_that_fits
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.files import SPLIT_FOLDERS, FileIndex, Layout, Part, split_name
from yolofpn.data.images import image_size
from yolofpn.data.label_format import DataFiles, has_words
from yolofpn.data.names import normalise_name
from yolofpn.data.shapes import NO_BOX, Box, points_box, runs_box, turned_box
from yolofpn.errors import InputError, UserError
from yolofpn.reading import ParseError, as_side, check_class_names, parse_xml

_OBJECTS = frozenset({"box", "polygon", "polyline", "ellipse", "mask", "cuboid"})


class CvatXml:
    """CVAT's own XML."""

    key: ClassVar[str] = "cvat"
    title: ClassVar[str] = "CVAT for images"
    suffix: ClassVar[str] = ".xml"
    one_file: ClassVar[bool] = True
    has_sizes: ClassVar[bool] = True

    def __init__(self, files: DataFiles) -> None:
        self._files = files

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
        return any(has_words(path, "<annotations", "<image") for path in files)

    def class_names(self) -> tuple[str, ...]:
        """The labels of all files that are there."""
        files = [self._files.annotations(part) for part in self._files.parts]
        return tuple(dict.fromkeys(name for file in files if file.is_file() for name in parse_cvat(file).names))

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """The box around each shape."""
        return read_cvat(self._files.annotations(part), part.images, names)


@dataclass(frozen=True)
class CvatFile:
    """A parsed file.

    Attributes:
        path: where it lies.
        names: its labels, in the order of the task; without that list, of those used.
        images: its ``image`` elements.
    """

    path: Path
    names: tuple[str, ...]
    images: list[ElementTree.Element]


def parse_cvat(path: Path) -> CvatFile:
    """Read a file.

    Raises:
        UserError: it is missing, no XML, or not of "CVAT for images".
    """
    try:
        root = parse_xml(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected annotations of CVAT (XML)") from None
    except ParseError as error:
        raise UserError(f"{path}: not readable as XML ({error}): export the annotations again") from None
    images = root.findall("image")
    if root.tag != "annotations" or not images:
        raise UserError(f'{path}: has no <image>: export from CVAT as "CVAT for images" (not video), or as COCO')
    listed = [(element.findtext("name") or "").strip() for element in root.iterfind("meta//labels/label")]
    used = sorted({element.get("label", "") for image in images for element in image if element.tag in _OBJECTS})
    names = tuple(dict.fromkeys(name for name in (*listed, *used) if name))
    check_class_names(names, path)
    return CvatFile(path, names, images)


def read_cvat(annotations: Path, images: Path, names: Sequence[str] | None = None) -> DetectionDataset:
    """The data set of one file: the box around each shape; points are no objects.

    Args:
        annotations: the XML file.
        images: the folder that its file names are relative to.
        names: the classes wanted, in the order of their labels; by default all of the file.

    Raises:
        UserError: as ``parse_cvat``, or none of its images exists.
    """
    cvat = parse_cvat(annotations)
    names = cvat.names if names is None else names
    label_of = {normalise_name(name): label for label, name in enumerate(names)}
    kept, rows, problems, index = Pictures(), BoxRows(), list[Problem](), FileIndex(images)
    for image in cvat.images:
        name = image.get("name", "")
        path = index.find(name)
        if path is None:
            reason = f"listed in {annotations.name} but not on disk: left out"
            problems.append(Problem(ProblemKind.MISSING_PICTURE, str(images / name), reason))
            continue
        shapes = list(_read_shapes(image, cvat.path, label_of, problems))
        size = _size(image, [box for _, _, box, _ in shapes], path, problems)
        if size is None:
            continue
        for number, label, box, rotation in shapes:
            rows.add(len(kept.paths), number, label, box, placed=turned_box(box, rotation, size) if rotation else None)
        kept.paths.append(path)
        kept.sizes.append(size)
        kept.labelled.append(True)
    if not kept.paths:
        raise UserError(f"{images}: has none of the {len(cvat.images)} images that {annotations.name} lists")
    return assemble(names, kept, rows, problems, file_of=lambda image: str(kept.paths[image]), item="shape")


def _read_shapes(
    image: ElementTree.Element, path: Path, label_of: dict[str, int], problems: list[Problem]
) -> Iterator[tuple[int, int, Box, float]]:
    """(number, label, box before it is turned, rotation in degrees) of each shape that is an object."""
    for number, shape in enumerate(image, start=1):
        if shape.tag not in _OBJECTS:
            if shape.tag in ("points", "skeleton"):
                reason = f"{image.get('name')}: shape {number}: {shape.tag} have no box: dropped"
                problems.append(Problem(ProblemKind.MALFORMED, str(path), reason))
            continue
        name = shape.get("label", "")
        label = label_of.get(normalise_name(name))
        if label is None:
            reason = f"{image.get('name')}: shape {number}: class {name!r} is not among the names: dropped"
            problems.append(Problem(ProblemKind.UNKNOWN_CLASS, str(path), reason))
            continue
        rotation = _number(shape, "rotation")
        yield number, label, _shape_box(shape), rotation if math.isfinite(rotation) else 0.0


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


def _size(
    image: ElementTree.Element, boxes: Sequence[Box], path: Path, problems: list[Problem]
) -> tuple[int, int] | None:
    """(height, width) as annotated, else of the image; None if that cannot be read."""
    try:
        height, width = (as_side(_number(image, side)) for side in ("height", "width"))
        if not height or not width:
            return image_size(path, name=path.name)
        return image_size_that_fits((height, width), np.array(boxes, dtype=np.float64).reshape(-1, 4), path)
    except (ParseError, InputError) as error:
        problems.append(Problem(ProblemKind.UNREADABLE_PICTURE, str(path), f"{error}: left out"))
        return None
