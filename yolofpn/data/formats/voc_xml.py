"""Pascal VOC's XML, one file per image, as the devkit and the labelling tools write it (see ``voc_corners``)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np

from yolofpn.config import VocCorners
from yolofpn.data.assemble import BoxRows, ImageList, assemble, image_size_that_fits
from yolofpn.data.class_names import normalise_name
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.image_files import Layout, Part, composed, split_name
from yolofpn.data.images import image_size
from yolofpn.data.label_format import DataFiles
from yolofpn.data.shapes import Box, turned_box
from yolofpn.data.voc_corners import SIDES, Corners, CornerSurvey, survey_corners
from yolofpn.errors import InputError
from yolofpn.reading import ParseError, as_side, parse_xml


class VocXml:
    """Pascal VOC's XML."""

    key: ClassVar[str] = "voc"
    title: ClassVar[str] = "VOC XML files"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    one_file: ClassVar[bool] = False
    has_sizes: ClassVar[bool] = True

    def __init__(self, files: DataFiles) -> None:
        self._files = files

    @classmethod
    def recognise(cls, folder: Path) -> Layout | None:
        """Annotations/, JPEGImages/ and ImageSets/Main/, of one year or, as in VOCdevkit, of several."""
        years = [path for path in sorted(folder.glob("VOC20*")) if _is_voc(path)]
        if not years and (folder / "VOCdevkit").is_dir():
            return cls.recognise(folder / "VOCdevkit")
        if years:
            description = f"Pascal VOC data set in {folder} ({', '.join(path.name for path in years)})"
            return Layout("voc", folder, description, _splits_of_years(years))
        if _is_voc(folder):
            return Layout("voc", folder, f"Pascal VOC data set in {folder}", _voc_splits(folder))
        return None

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """XML files that are called as images."""
        return any(composed(path.stem) in stems for path in files)

    def class_names(self) -> tuple[str, ...]:
        """Those of all objects."""
        return self._survey.names

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """Corners are what all files of a writer show them to be."""
        return read_voc(self._files.images(part), self._files.labels(part), names, self._survey.corners)

    @cached_property
    def _survey(self) -> VocSurvey:
        survey = survey_voc(self._files.all_labels(), self._files.layout.voc_corners)
        if (note := survey.corners.note()) is not None:
            self._files.notes.append(note)
        return survey


def _splits_of_years(years: Iterable[Path]) -> dict[str, tuple[Part, ...]]:
    splits: dict[str, tuple[Part, ...]] = {}
    for year in years:
        for split, parts in _voc_splits(year).items():
            splits[split] = splits.get(split, ()) + parts
    return splits


def _is_voc(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() and any((folder / name).is_dir() for name in ("JPEGImages", "images"))


def _voc_splits(folder: Path) -> dict[str, tuple[Part, ...]]:
    images = folder / "JPEGImages" if (folder / "JPEGImages").is_dir() else folder / "images"
    # aeroplane_train.txt and the like list one class; train.txt lists the split.
    lists = [path for path in sorted((folder / "ImageSets" / "Main").glob("*.txt")) if "_" not in path.stem]
    if not lists:
        return {"train": (Part(images, folder / "Annotations"),)}
    return {split_name(path.stem): (Part(images, folder / "Annotations", path),) for path in lists}


@dataclass(frozen=True)
class VocSurvey:
    """What all XML files of a data set say together.

    Attributes:
        names: the names of all objects, in alphabetical order.
        corners: what the corners mean in the files of each writer.
    """

    names: tuple[str, ...]
    corners: Corners


def survey_voc(annotations: Iterable[Path], setting: VocCorners = "auto") -> VocSurvey:
    """Look through XML files; missing and unreadable ones count nothing.

    Args:
        annotations: the files of all splits.
        setting: how the corners are read, or 'auto'.
    """
    names: dict[str, str] = {}
    corners = CornerSurvey()
    for path in annotations:
        root = _parse(path, [])
        if root is None:
            continue
        corners.add(root, path)
        for _, element in _objects(root):
            if name := _text(element, "name"):
                names.setdefault(normalise_name(name), name)
    return VocSurvey(tuple(sorted(names.values(), key=lambda name: (name.lower(), name))), corners.corners(setting))


def read_voc(
    images: Sequence[Path], annotations: Sequence[Path], names: Sequence[str], corners: Corners | None = None
) -> DetectionDataset:
    """The data set of these images. Objects marked difficult become ignore regions.

    Args:
        images: the image files.
        annotations: the XML file of each, whether it exists or not.
        names: class names by label; case, spaces and COCO's and VOC's spellings are equal.
        corners: what the corners mean; by default what these files say.
    """
    label_of = {normalise_name(name): label for label, name in enumerate(names)}
    kept, files, rows, problems = ImageList(), [], BoxRows(), list[Problem]()
    roots = [_parse(annotation, problems) for annotation in annotations]
    if corners is None:
        known = zip(roots, annotations, strict=True)
        corners = survey_corners((root, path) for root, path in known if root is not None)
    for image_path, annotation, root in zip(images, annotations, roots, strict=True):
        objects = [] if root is None else list(_read_objects(root, annotation, label_of, corners, problems))
        size = _size(root, annotation, objects, image_path, problems)
        if size is None:
            continue
        for entry in objects:
            box = turned_box(entry.box, entry.rotation, size) if entry.rotation else entry.box
            rows.add(len(kept.paths), entry.number, entry.label, entry.stored, ignore=entry.difficult, placed=box)
        kept.paths.append(image_path)
        kept.sizes.append(size)
        kept.labelled.append(root is not None)
        files.append(annotation)
    return assemble(names, kept, rows, problems, file_of=lambda image: str(files[image]), item="object")


@dataclass(frozen=True)
class _Object:
    """An object of a known class: its corners as stored, and as they are before it is turned."""

    number: int
    label: int
    stored: Box
    box: Box
    rotation: float
    difficult: bool


def _parse(path: Path, problems: list[Problem]) -> ElementTree.Element | None:
    try:
        return parse_xml(path)
    except FileNotFoundError:
        return None
    except (ParseError, OSError) as error:
        reason = f"not readable as XML ({error}): its image counts as background"
        problems.append(Problem(ProblemKind.MALFORMED, str(path), reason))
        return None


def _size(
    root: ElementTree.Element | None,
    annotation: Path,
    objects: Sequence[_Object],
    image_path: Path,
    problems: list[Problem],
) -> tuple[int, int] | None:
    """(height, width) as annotated, else of the image; None if that cannot be read."""
    if root is not None:
        try:
            height, width = (as_side(_number(root, f"size/{side}")) for side in ("height", "width"))
        except ParseError as error:
            problems.append(Problem(ProblemKind.MALFORMED, str(annotation), f"size: {error}: taken from the image"))
            height = width = 0
        if width and height:
            boxes = np.array([entry.box for entry in objects], dtype=np.float64).reshape(-1, 4)
            return image_size_that_fits((height, width), boxes, image_path)
    try:
        return image_size(image_path, name=image_path.name)
    except InputError as error:
        problems.append(Problem(ProblemKind.UNREADABLE_IMAGE, str(image_path), f"{error}: skipped"))
        return None


def _objects(root: ElementTree.Element) -> Iterator[tuple[int, ElementTree.Element]]:
    return enumerate(root.findall("object"), start=1)


def _read_objects(
    root: ElementTree.Element, path: Path, label_of: dict[str, int], corners: Corners, problems: list[Problem]
) -> Iterator[_Object]:
    shift = corners.of(root).value
    for number, element in _objects(root):
        name = _text(element, "name")
        label = label_of.get(normalise_name(name))
        # Not any descendant: the parts of a person have boxes of their own.
        box = element.find("bndbox")
        if label is None:
            reason = f"object {number}: class {name!r} is not among the names: dropped"
            problems.append(Problem(ProblemKind.UNKNOWN_CLASS, str(path), reason))
        elif box is None:
            problems.append(Problem(ProblemKind.MALFORMED, str(path), f"object {number}: has no bndbox: dropped"))
        else:
            x1, y1, x2, y2 = (_number(box, side) for side in SIDES)
            outer = (x1 + shift[0], y1 + shift[1], x2 + shift[2], y2 + shift[3])
            difficult = _number(element, "difficult") == 1
            yield _Object(number, label, (x1, y1, x2, y2), outer, _rotation(element), difficult)


def _rotation(element: ElementTree.Element) -> float:
    """By how many degrees CVAT's rectangle is turned."""
    for attribute in element.findall("attributes/attribute"):
        if _text(attribute, "name") == "rotation":
            degrees = _number(attribute, "value")
            return degrees if math.isfinite(degrees) else 0.0
    return 0.0


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: ElementTree.Element, path: str) -> float:
    try:
        return float(_text(element, path))
    except ValueError:
        return math.nan
