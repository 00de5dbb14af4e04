"""labelme's JSON: one file per image, beside it, with shapes of points in pixels (X-AnyLabeling writes the same)."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.image_files import Layout, NameFinder, Part, composed, list_files
from yolofpn.data.label_format import DataFiles, has_words
from yolofpn.data.labelled_images import ImageLabels, ObjectLabel, class_names_of, read_beside
from yolofpn.data.shapes import NO_BOX, Box, points_box
from yolofpn.reading import ParseError, parse_json
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
        files = (file for part in self._files.present_parts() for file in self._with_image_paths(part)[1])
        labels = (labels for file in files if (labels := _parse_labels(file, [])) is not None)
        return class_names_of(entry.name for known in labels for entry in known.objects if entry.dropped is None)

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """The box around each shape; those called ``__ignore__`` or flagged ``difficult`` are ignore regions."""
        images, labels = self._with_image_paths(part)
        return read_beside(images, labels, names, _parse_labels, "shape")

    def _with_image_paths(self, part: Part) -> tuple[list[Path], list[Path]]:
        """Images and their files; where a file names an image that does not lie beside it or has another name, too."""
        images, labels = self._files.images(part), self._files.labels(part)
        folder = part.annotations or part.images
        taken = set(labels)
        counts = Counter(composed(image.name) for image in images)
        by_name = {name: image for image in images if counts[name := composed(image.name)] == 1}
        named = {
            path.resolve(): file
            for file in sorted(path for path in list_files(folder) if path.suffix == ".json")
            if file not in taken and (path := labelme_image(file, self._files.finder, by_name)) is not None
        }
        labels = [
            named.pop(image.resolve(), file) if not file.is_file() else file
            for image, file in zip(images, labels, strict=True)
        ]
        known = {image.resolve() for image in images}
        others = {} if part.list else {path: file for path, file in named.items() if path not in known}
        return [*images, *others], [*labels, *others.values()]


def labelme_image(annotation: Path, finder: NameFinder, images: Mapping[str, Path]) -> Path | None:
    """The image of an annotation file: what its ``imagePath`` says, wherever that was; None if it is no such file.

    Args:
        annotation: the JSON file.
        finder: finds files by their names.
        images: those of the data set by name, for files that do not lie beside their images.
    """
    tree = _parse(annotation, [])
    name = None if tree is None else tree.get("imagePath")
    if not isinstance(name, str) or not name:
        return None
    # labelme on Windows writes backslashes, and a path to wherever the image was when it was labelled.
    base = PureWindowsPath(name).name
    found = (finder.find(annotation.parent / part) for part in (name.replace("\\", "/"), base))
    return next((path for path in found if path), None) or images.get(composed(base))


def _parse_labels(path: Path, problems: list[Problem]) -> ImageLabels | None:
    tree = _parse(path, problems)
    if tree is None:
        return None
    return ImageLabels([_object(shape) for shape in _shapes(tree)], tree.get("imageHeight"), tree.get("imageWidth"))


def _object(shape: dict[str, Any]) -> ObjectLabel:
    name = str(shape.get("label") or "").strip()
    if shape.get("shape_type") == "point":
        return ObjectLabel(name, NO_BOX, dropped="a point has no box")
    if name == "_background_":
        return ObjectLabel(name, NO_BOX, dropped="background is no object")
    flags = shape.get("flags")
    marks = (shape.get("difficult"), flags.get("difficult") if isinstance(flags, dict) else None)
    ignore, outline = name == "__ignore__" or True in marks, shape.get("shape_type", "polygon") != "rectangle"
    return ObjectLabel(name, _shape_box(shape), ignore=ignore, outline=outline)


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
