"""labelme's JSON: one file per image, beside it, with shapes of points in pixels (X-AnyLabeling writes the same)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

import numpy as np

from yolofpn.data.assemble import BoxRows, Pictures, assemble, image_size_that_fits
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.files import Layout, NameFinder, Part, list_files
from yolofpn.data.images import image_size
from yolofpn.data.label_format import DataFiles, has_words
from yolofpn.data.names import normalise_name
from yolofpn.data.shapes import NO_BOX, Box, points_box
from yolofpn.errors import InputError
from yolofpn.reading import ParseError, as_side, parse_json
from yolofpn.regular_files import read_whole

_LOOKED_AT = 20  # JSON files of a folder, to see whether they are labelme's


class LabelmeJson:
    """labelme's JSON."""

    key: ClassVar[str] = "labelme"
    title: ClassVar[str] = "labelme JSON files"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    one_file: ClassVar[bool] = False
    has_sizes: ClassVar[bool] = True

    def __init__(self, files: DataFiles) -> None:
        self._files = files

    @classmethod
    def recognise(cls, folder: Path) -> Layout | None:
        """None: its files have no folders of their own."""
        return None

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """By its keys: the image that a file belongs to may have any name."""
        return any(has_words(path, '"shapes"', '"imagePath"') for path in itertools.islice(files, _LOOKED_AT))

    def class_names(self) -> tuple[str, ...]:
        """The labels of all shapes."""
        parts = self._files.present_parts()
        return labelme_class_names(file for part in parts for file in self._with_image_paths(part)[1])

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """The box around each shape."""
        images, labels = self._with_image_paths(part)
        return read_labelme(images, labels, names)

    def _with_image_paths(self, part: Part) -> tuple[list[Path], list[Path]]:
        """Images and their files; where a file names an image that does not lie beside it or has another name, too."""
        images, labels = self._files.images(part), self._files.labels(part)
        folder = part.annotations or part.images
        taken = set(labels)
        named = {
            path.resolve(): file
            for file in sorted(path for path in list_files(folder) if path.suffix == ".json")
            if file not in taken and (path := labelme_image(file, self._files.finder)) is not None
        }
        labels = [
            named.pop(image.resolve(), file) if not file.is_file() else file
            for image, file in zip(images, labels, strict=True)
        ]
        known = {image.resolve() for image in images}
        others = {} if part.list else {path: file for path, file in named.items() if path not in known}
        return [*images, *others], [*labels, *others.values()]


def labelme_image(annotation: Path, finder: NameFinder | None = None) -> Path | None:
    """The image of an annotation file: what its ``imagePath`` says, wherever that was; None if it is no such file."""
    tree = _parse(annotation, [])
    name = None if tree is None else tree.get("imagePath")
    if not isinstance(name, str) or not name:
        return None
    finder = finder or NameFinder()
    # labelme on Windows writes backslashes, and a path to wherever the image was when it was labelled.
    return next(
        (
            found
            for part in (name.replace("\\", "/"), PureWindowsPath(name).name)
            if (found := finder.find(annotation.parent / part))
        ),
        None,
    )


def labelme_class_names(annotations: Iterable[Path]) -> tuple[str, ...]:
    """The labels of all shapes in these files, in alphabetical order."""
    names: dict[str, str] = {}
    for path in annotations:
        for shape in _shapes(_parse(path, []) or {}):
            if (name := str(shape.get("label") or "").strip()) and shape.get("shape_type") != "point":
                names.setdefault(normalise_name(name), name)
    return tuple(sorted(names.values(), key=lambda name: (name.lower(), name)))


def read_labelme(pictures: Sequence[Path], annotations: Sequence[Path], names: Sequence[str]) -> DetectionDataset:
    """The data set of these images: the box around each shape; points are no objects.

    Args:
        pictures: the image files.
        annotations: the JSON file of each, whether it exists or not.
        names: class names by label.
    """
    label_of = {normalise_name(name): label for label, name in enumerate(names)}
    kept, files, rows, problems = Pictures(), [], BoxRows(), list[Problem]()
    for picture, annotation in zip(pictures, annotations, strict=True):
        tree = _parse(annotation, problems)
        boxes = [] if tree is None else _boxes(tree, annotation, label_of, problems)
        size = _size(tree or {}, [box for _, _, box in boxes], picture, problems)
        if size is None:
            continue
        for number, label, box in boxes:
            rows.add(len(kept.paths), number, label, box)
        kept.paths.append(picture)
        kept.sizes.append(size)
        kept.labelled.append(tree is not None)
        files.append(annotation)
    return assemble(names, kept, rows, problems, file_of=lambda image: str(files[image]), item="shape")


def _boxes(
    tree: dict[str, Any], path: Path, label_of: dict[str, int], problems: list[Problem]
) -> list[tuple[int, int, Box]]:
    """(number, label, box) of each shape that is an object."""
    found = []
    for number, shape in enumerate(_shapes(tree), start=1):
        name = str(shape.get("label") or "").strip()
        label = label_of.get(normalise_name(name))
        if shape.get("shape_type") == "point":
            problems.append(Problem(ProblemKind.MALFORMED, str(path), f"shape {number}: a point has no box: dropped"))
        elif label is None:
            reason = f"shape {number}: class {name!r} is not among the names: dropped"
            problems.append(Problem(ProblemKind.UNKNOWN_CLASS, str(path), reason))
        else:
            found.append((number, label, _shape_box(shape)))
    return found


def _shape_box(shape: dict[str, Any]) -> Box:
    points = shape.get("points")
    try:
        xs, ys = ([float(point[axis]) for point in points or ()] for axis in (0, 1))
    except (TypeError, ValueError, LookupError, OverflowError):
        return NO_BOX
    box = points_box(xs, ys)
    match shape.get("shape_type"):
        case "circle" if len(xs) == 2:  # its centre and a point on it
            radius = math.dist((xs[0], ys[0]), (xs[1], ys[1]))
            return xs[0] - radius, ys[0] - radius, xs[0] + radius, ys[0] + radius
        case "mask":  # the first and the last pixel
            return box[0], box[1], box[2] + 1, box[3] + 1
    return box


def _shapes(tree: dict[str, Any]) -> list[dict[str, Any]]:
    shapes = tree.get("shapes")
    return [shape for shape in shapes if isinstance(shape, dict)] if isinstance(shapes, list) else []


def _parse(path: Path, problems: list[Problem]) -> dict[str, Any] | None:
    try:
        tree = parse_json(read_whole(path))
    except FileNotFoundError:
        return None
    except (ParseError, OSError) as error:
        tree, reason = None, f"not readable as JSON ({error})"
    else:
        reason = "no labelme file: it has no list of 'shapes'"
    if isinstance(tree, dict) and isinstance(tree.get("shapes"), list):
        return tree
    problems.append(Problem(ProblemKind.MALFORMED, str(path), f"{reason}: its image counts as background"))
    return None


def _size(tree: dict[str, Any], boxes: Sequence[Box], picture: Path, problems: list[Problem]) -> tuple[int, int] | None:
    """(height, width) as annotated, else of the image; None if that cannot be read."""
    try:
        height, width = as_side(tree.get("imageHeight")), as_side(tree.get("imageWidth"))
        if not height or not width:
            return image_size(picture, name=picture.name)
        return image_size_that_fits((height, width), np.array(boxes, dtype=np.float64).reshape(-1, 4), picture)
    except (ParseError, InputError) as error:
        problems.append(Problem(ProblemKind.UNREADABLE_PICTURE, str(picture), f"{error}: left out"))
        return None
