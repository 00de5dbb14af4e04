"""Pascal VOC's XML: one file per picture, corners 1-based and inclusive."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from yolofpn.data.assemble import BoxRows, Pictures, assemble
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.images import image_size
from yolofpn.data.names import normalise_name
from yolofpn.errors import InputError
from yolofpn.reading import ParseError, as_side, parse_xml

# The first pixel is 1 and the last pixel belongs to the box: xmin - 1 .. xmax between the pixels' outer corners.
_TO_OUTER_CORNERS = (-1.0, -1.0, 0.0, 0.0)


def read_voc(pictures: Sequence[Path], annotations: Sequence[Path], names: Sequence[str]) -> DetectionDataset:
    """The data set of these pictures. Objects marked difficult become ignore regions.

    Args:
        pictures: the picture files.
        annotations: the XML file of each, whether it exists or not.
        names: class names by label; case, spaces and COCO's and VOC's spellings are equal.
    """
    label_of = {normalise_name(name): label for label, name in enumerate(names)}
    kept, files, rows, problems = Pictures(), [], BoxRows(), list[Problem]()
    for picture, annotation in zip(pictures, annotations, strict=True):
        root = _parse(annotation, problems)
        size = _size(root, annotation, picture, problems)
        if size is None:
            continue
        if root is not None:
            _add_objects(root, annotation, len(kept.paths), label_of, rows, problems)
        kept.paths.append(picture)
        kept.sizes.append(size)
        kept.labelled.append(root is not None)
        files.append(annotation)
    return assemble(
        names, kept, rows, problems, file_of=lambda image: str(files[image]), item="object", shift=_TO_OUTER_CORNERS
    )


def voc_class_names(annotations: Iterable[Path]) -> tuple[str, ...]:
    """The names of all objects in these files, in alphabetical order; unreadable files count nothing."""
    names: dict[str, str] = {}
    for path in annotations:
        root = _parse(path, [])
        for _, element in _objects(root) if root is not None else ():
            if name := _text(element, "name"):
                names.setdefault(normalise_name(name), name)
    return tuple(sorted(names.values(), key=lambda name: (name.lower(), name)))


def _parse(path: Path, problems: list[Problem]) -> ElementTree.Element | None:
    try:
        return parse_xml(path)
    except FileNotFoundError:
        return None
    except (ParseError, OSError) as error:
        reason = f"not readable as XML ({error}): its picture counts as background"
        problems.append(Problem(ProblemKind.MALFORMED, str(path), reason))
        return None


def _size(
    root: ElementTree.Element | None, annotation: Path, picture: Path, problems: list[Problem]
) -> tuple[int, int] | None:
    """(height, width) as annotated, else of the picture; None if that cannot be read."""
    if root is not None:
        try:
            height, width = (as_side(_number(root, f"size/{side}")) for side in ("height", "width"))
        except ParseError as error:
            problems.append(Problem(ProblemKind.MALFORMED, str(annotation), f"size: {error}: taken from the image"))
            height = width = 0
        if width and height:
            return height, width
    try:
        return image_size(picture, name=picture.name)
    except InputError as error:
        problems.append(Problem(ProblemKind.UNREADABLE_PICTURE, str(picture), f"{error}: left out"))
        return None


def _objects(root: ElementTree.Element) -> Iterator[tuple[int, ElementTree.Element]]:
    return enumerate(root.findall("object"), start=1)


def _add_objects(
    root: ElementTree.Element,
    path: Path,
    image: int,
    label_of: dict[str, int],
    rows: BoxRows,
    problems: list[Problem],
) -> None:
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
            corners = [_number(box, side) for side in ("xmin", "ymin", "xmax", "ymax")]
            rows.add(image, number, label, corners, ignore=_number(element, "difficult") == 1)


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: ElementTree.Element, path: str) -> float:
    try:
        return float(_text(element, path))
    except ValueError:
        return math.nan
