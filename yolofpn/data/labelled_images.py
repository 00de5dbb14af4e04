"""Shared code of label formats: from parsed labels to a data set."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from yolofpn.data.assemble import BoxRows, ImageList, assemble, image_size_that_fits
from yolofpn.data.class_names import normalise_name
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.image_files import FileIndex, Layout, Part
from yolofpn.data.images import image_size
from yolofpn.data.label_format import DataFiles
from yolofpn.data.shapes import Box, turned_box
from yolofpn.errors import InputError, UserError
from yolofpn.reading import MAX_TEXT_BYTES, ParseError, as_side, parse_json, read_bounded

IGNORED_NAMES = frozenset({"__ignore__", "_background_"})  # labelme's place for what is no object


@dataclass(frozen=True)
class ObjectLabel:
    """A labelled object.

    Attributes:
        name: its class.
        box: xyxy in pixels between the pixels' outer corners, or as shares of width and height where the image's labels
            are normalised; NaN where it has none.
        rotation: rotation of the box about its centre in degrees; its axis-aligned bounding box is used.
        ignore: neither object nor background.
        dropped: reason for dropping it, for the report; None for objects.
        outline: whether the box is that around a polygon, mask or ellipse.
    """

    name: str
    box: Box
    rotation: float = 0.0
    ignore: bool = False
    dropped: str | None = None
    outline: bool = False


@dataclass(frozen=True)
class ImageLabels:
    """The labels of one image.

    Attributes:
        objects: in the order of the file; reports count them from 1.
        height: as annotated, in pixels; None where it is not.
        width: likewise.
        normalised: whether boxes are shares of width and height.
    """

    objects: Sequence[ObjectLabel] = ()
    height: object = None
    width: object = None
    normalised: bool = False


@dataclass
class _Assembly:
    """Collects images with their boxes."""

    names: Sequence[str]
    item: str
    problems: list[Problem] = field(default_factory=list)
    images: ImageList = field(default_factory=ImageList)
    files: list[str] = field(default_factory=list)
    _rows: BoxRows = field(default_factory=BoxRows)
    _outlines: int = 0
    _turned: int = 0

    def __post_init__(self) -> None:
        self._label_of = {normalise_name(name): label for label, name in enumerate(self.names)}

    def add(self, path: Path, labels: ImageLabels | None, file: Path, prefix: str = "") -> None:
        """Add an image with its labels (None: unlabelled); ``file`` and ``prefix`` name their origin in reports."""
        known = ImageLabels() if labels is None else labels
        objects = list(self._objects(known, str(file), prefix))
        size = self._size(known, [label.box for _, _, label in objects], path)
        if size is None:
            return
        height, width = size
        scale = (width, height, width, height) if known.normalised else (1, 1, 1, 1)
        for number, label, entry in objects:
            x1, y1, x2, y2 = (side * factor for side, factor in zip(entry.box, scale, strict=True))
            turned = bool(entry.rotation) and math.isfinite(x1 + y1 + x2 + y2 + entry.rotation)
            placed = turned_box((x1, y1, x2, y2), entry.rotation, size) if turned else None
            self._outlines += entry.outline
            self._turned += turned and not entry.outline
            row = (len(self.images.paths), number, label, (x1, y1, x2, y2))
            self._rows.add(*row, ignore=entry.ignore, placed=placed)
        self.images.paths.append(path)
        self.images.sizes.append(size)
        self.images.labelled.append(labels is not None)
        self.files.append(str(path if prefix else file))

    def dataset(self) -> DetectionDataset:
        """The data set of all images so far."""
        files = self.files
        dataset = assemble(
            self.names, self.images, self._rows, self.problems, file_of=lambda image: files[image], item=self.item
        )
        counts = [(self._outlines, "polygons, masks or ellipses"), (self._turned, "rotated boxes")]
        shapes = " and ".join(f"{count} {what}" for count, what in counts if count)
        return replace(dataset, notes=(f"data: {shapes} are read as the upright boxes around them",) if shapes else ())

    def _objects(self, labels: ImageLabels, file: str, prefix: str) -> Iterable[tuple[int, int, ObjectLabel]]:
        """(number, label, entry) of each object of a known class."""
        for number, entry in enumerate(labels.objects, start=1):
            where = f"{prefix}{self.item} {number}"
            label = self._label_of.get(normalise_name(entry.name))
            if entry.dropped is not None:
                self.problems.append(Problem(ProblemKind.MALFORMED, file, f"{where}: {entry.dropped}: dropped"))
            elif label is None and not entry.ignore:
                reason = f"{where}: class {entry.name!r} is not among the names: dropped"
                self.problems.append(Problem(ProblemKind.UNKNOWN_CLASS, file, reason))
            else:
                yield number, label or 0, entry

    def _size(self, labels: ImageLabels, boxes: Sequence[Box], path: Path) -> tuple[int, int] | None:
        """(height, width) as annotated, else of the image; None if that cannot be read."""
        try:
            height, width = as_side(labels.height), as_side(labels.width)
            if not height or not width:
                return image_size(path, name=path.name)
            if labels.normalised:
                return height, width
            return image_size_that_fits((height, width), np.array(boxes, dtype=np.float64).reshape(-1, 4), path)
        except (ParseError, InputError) as error:
            self.problems.append(Problem(ProblemKind.UNREADABLE_IMAGE, str(path), f"{error}: skipped"))
            return None


def read_listed(
    file: Path,
    folder: Path,
    names: Sequence[str],
    listed: Iterable[tuple[str, ImageLabels | None]],
    item: str = "object",
) -> DetectionDataset:
    """Build the data set of a file with the labels of all images.

    Args:
        file: for reports.
        folder: where the images are.
        names: class names by label; case, spaces and COCO's and VOC's spellings are equal.
        listed: the images as the file calls them, with their labels; None for one that nobody has labelled.
        item: what reports call an object.

    Raises:
        UserError: if none of the images exists.
    """
    assembly, index, count = _Assembly(names, item), FileIndex(folder), 0
    for name, labels in listed:
        count += 1
        path = index.find(name)
        if path is None:
            reason = f"listed in {file.name} but not on disk: skipped"
            assembly.problems.append(Problem(ProblemKind.MISSING_IMAGE, str(folder / name), reason))
        else:
            assembly.add(path, labels, file, f"{name}: ")
    if not assembly.images.paths:
        raise UserError(f"{folder}: has none of the {count} images that {file.name} lists")
    return assembly.dataset()


def read_beside(
    images: Sequence[Path],
    files: Sequence[Path],
    names: Sequence[str],
    parse: Callable[[Path, list[Problem]], ImageLabels | None],
    item: str = "object",
) -> DetectionDataset:
    """Build the data set of images with one label file each.

    Args:
        images: the image files.
        files: the label file of each, whether it exists or not.
        names: as ``read_listed``.
        parse: reads a label file; None where it does not exist or, which it adds to the problems, cannot be read.
        item: what reports call an object.
    """
    assembly = _Assembly(names, item)
    for image, file in zip(images, files, strict=True):
        assembly.add(image, parse(file, assembly.problems), file)
    return assembly.dataset()


def class_names_of(written: Iterable[str]) -> tuple[str, ...]:
    """Names in alphabetical order, each spelling once, without those that stand for no object."""
    names: dict[str, str] = {}
    for name in written:
        if name and name not in IGNORED_NAMES:
            names.setdefault(normalise_name(name), name)
    return tuple(sorted(names.values(), key=lambda name: (name.lower(), name)))


class ListedFormat(ABC):
    """A label format of which one file lists all images of a part; subclasses recognise and parse such a file."""

    key: ClassVar[str]
    title: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    one_file: ClassVar[bool] = True
    has_sizes: ClassVar[bool] = True
    item: ClassVar[str] = "object"

    def __init__(self, files: DataFiles) -> None:
        self._files = files
        self._parsed: dict[Path, Sequence[tuple[str, ImageLabels | None]]] = {}

    @classmethod
    def recognise(cls, folder: Path) -> Layout | None:
        """None: the file may have any name."""
        return None

    @classmethod
    @abstractmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """As in ``LabelFormat``."""

    @abstractmethod
    def parse(self, path: Path) -> Sequence[tuple[str, ImageLabels | None]]:
        """The images that a file lists, as it calls them, with their labels; None for one that nobody has labelled.

        Raises:
            UserError: if it cannot be read or is of another format.
        """

    def class_names(self) -> tuple[str, ...]:
        """The classes of all objects."""
        paths = dict.fromkeys(self._files.annotations(part) for part in self._files.parts)
        listed = [labels for path in paths if path.is_file() for _, labels in self._parse_once(path)]
        entries = (entry for labels in listed if labels is not None for entry in labels.objects)
        return class_names_of(entry.name for entry in entries if entry.dropped is None)

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """The images of one file."""
        path = self._files.annotations(part)
        return read_listed(path, part.images, names, self._parse_once(path), self.item)

    def _parse_once(self, path: Path) -> Sequence[tuple[str, ImageLabels | None]]:
        if path not in self._parsed:
            self._parsed[path] = self.parse(path)
        return self._parsed[path]


def read_json(path: Path, expected: str) -> Any:  # noqa: ANN401
    """The content of a JSON file.

    Args:
        path: the file.
        expected: what it should be, for messages.

    Raises:
        UserError: if it is missing, too large or no JSON.
    """
    try:
        return parse_json(read_bounded(path, MAX_TEXT_BYTES))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected {expected} (JSON)") from None
    except ParseError as error:
        where = f"line {error.line}: " if error.line else ""
        raise UserError(f"{path}: {where}not valid JSON ({error}): export the annotations again") from None


def number(value: object) -> float:
    """Convert a number or numeric string to float; NaN for anything else."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def number_or_zero(value: object) -> float:
    """Convert to a finite float; 0 for anything else."""
    found = number(value)
    return found if math.isfinite(found) else 0.0
