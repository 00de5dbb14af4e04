"""Conventions of box corners in VOC XML: the devkit and the labelling tools differ by a pixel.

The devkit counts pixels from 1 and its last pixel belongs to the box. Labelling tools write where the edges are,
counted from 0, and Roboflow adds 1 to all four. Who wrote a file is read from its ``source`` and ``folder``, the order
of the corners and the form of the numbers; what all files of one writer hold may show that it is not so: no file that
counts from 1 has a 0, and only Roboflow's reach one pixel beyond the width. Where nothing else tells, the name of the
folder may.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from xml.etree import ElementTree

from yolofpn.config import VocCorners
from yolofpn.data.class_names import VOC_NAMES, normalise_name

SIDES = ("xmin", "ymin", "xmax", "ymax")

_STRAY = 0.001  # a smaller part of the boxes shows a mistake, not a rule
_DEVKIT_SOURCE = re.compile(r"pascal|\bvoc ?20\d\d", re.IGNORECASE)
_DEVKIT_STEM = re.compile(r"(20\d\d_)?\d{6}")
_VOC_NAMES = frozenset(map(normalise_name, VOC_NAMES))


class Convention(Enum):
    """Offsets of xmin, ymin, xmax, ymax that give the box between the pixels' outer corners."""

    INCLUSIVE = (-1.0, -1.0, 0.0, 0.0)
    ZERO = (0.0, 0.0, 0.0, 0.0)
    ONE = (-1.0, -1.0, -1.0, -1.0)

    def __str__(self) -> str:
        """Describe the convention."""
        words = {"INCLUSIVE": "1-based, last pixel included", "ZERO": "0-based edges", "ONE": "0-based edges plus 1"}
        return words[self.name]


class Writer(StrEnum):
    """The program that wrote a file."""

    DEVKIT = "the VOC devkit"
    CVAT = "CVAT"
    LABELIMG = "LabelImg"
    LABEL_STUDIO = "Label Studio"
    ROBOFLOW = "Roboflow"
    SUPERVISION = "supervision"
    TOOL = "a labelling tool"
    UNKNOWN = "a writer that left no name"


_SETTINGS = {
    "devkit": Convention.INCLUSIVE,
    "cvat": Convention.ZERO,
    "labelimg": Convention.ZERO,
    "labelstudio": Convention.ZERO,
    "roboflow": Convention.ONE,
}


@dataclass
class _Evidence:
    """Statistics of the files of one writer."""

    files: int = 0
    boxes: int = 0
    zeros: int = 0  # boxes with an xmin or ymin below 1
    beyond: int = 0  # boxes with an xmax of width + 1 or a ymax of height + 1
    touching: int = 0  # boxes that end at the width or height
    points: int = 0  # boxes whose numbers are written with a decimal point
    others: int = 0  # objects of a class that VOC lacks, and files that are not named as VOC's
    folders: Counter[Convention] = field(
        default_factory=Counter
    )  # what a folder of theirs is called: label-studio, ...

    def add(self, root: ElementTree.Element, path: Path) -> None:
        self.files += 1
        self.others += _DEVKIT_STEM.fullmatch(path.stem) is None
        folders = {re.sub("[ _-]", "", part.lower()) for part in path.parent.parts[-3:]}
        self.folders.update(convention for tool, convention in _SETTINGS.items() if tool in folders)
        size = [_number(root.findtext(f"size/{side}")) for side in ("width", "height")]
        for element in root.findall("object"):
            self.others += normalise_name(element.findtext("name") or "") not in _VOC_NAMES
            texts = [element.findtext(f"bndbox/{side}") or "" for side in SIDES]
            corners = [_number(text) for text in texts]
            if None not in corners:
                self._count([corner or 0.0 for corner in corners], size, any("." in text for text in texts))

    def _count(self, corners: list[float], size: list[float | None], point: bool) -> None:
        self.boxes += 1
        self.points += point
        self.zeros += min(corners[:2]) < 1
        reach = [high - limit for high, limit in zip(corners[2:], size, strict=True) if limit]
        self.beyond += any(0.99 < over < 1.01 for over in reach)
        self.touching += any(abs(over) < 0.01 for over in reach)

    def has(self, count: int) -> bool:
        """Return whether this many boxes show a convention rather than a mistake."""
        return count >= max(1, _STRAY * self.boxes)


@dataclass(frozen=True)
class Corners:
    """The convention of each writer's files in a data set.

    Attributes:
        conventions: by writer.
        files: how many each wrote.
        setting: ``data.voc_corners``.
    """

    conventions: dict[Writer, Convention]
    files: Counter[Writer] = field(default_factory=Counter)
    setting: VocCorners = "auto"

    def of(self, root: ElementTree.Element) -> Convention:
        """Return the convention of one file."""
        if self.setting != "auto":
            return _SETTINGS[self.setting]
        return self.conventions.get(writer_of(root), Convention.INCLUSIVE)

    def note(self) -> str | None:
        """A line to print: how the corners are read; None where there is no file."""
        if self.setting != "auto":
            return f"data: VOC corners are read as {_SETTINGS[self.setting]}, as data.voc_corners={self.setting} asks"
        read = "; ".join(
            f"{self.conventions[writer]} ({count} file{'s' * (count > 1)} of {writer})"
            for writer, count in self.files.most_common()
        )
        return f"data: VOC corners are read as {read}; data.voc_corners=devkit|cvat|... overrides" if read else None


@dataclass
class CornerSurvey:
    """Collects statistics of the corners of a data set's files."""

    evidence: dict[Writer, _Evidence] = field(default_factory=dict)

    def add(self, root: ElementTree.Element, path: Path) -> None:
        """Add one file."""
        self.evidence.setdefault(writer_of(root), _Evidence()).add(root, path)

    def corners(self, setting: VocCorners = "auto") -> Corners:
        """Return the resulting conventions."""
        conventions = {writer: _convention(writer, found) for writer, found in self.evidence.items()}
        return Corners(conventions, Counter({writer: e.files for writer, e in self.evidence.items()}), setting)


def survey_corners(files: Iterable[tuple[ElementTree.Element, Path]], setting: VocCorners = "auto") -> Corners:
    """The conventions of these files, each with its path."""
    survey = CornerSurvey()
    for root, path in files:
        survey.add(root, path)
    return survey.corners(setting)


def writer_of(root: ElementTree.Element) -> Writer:
    """Return the writer of a file, as far as it is recognisable."""
    database = (root.findtext("source/database") or "").strip().lower()
    origin = " ".join((root.findtext(f"source/{key}") or "").strip().lower() for key in ("annotation", "image"))
    tags = [element.tag for element in root.find("object/bndbox") or ()]
    if [tag for tag in tags if tag in SIDES] == ["xmin", "xmax", "ymin", "ymax"] or "roboflow.com" in database:
        return Writer.ROBOFLOW
    if "roboflow" in database:
        return Writer.SUPERVISION
    if database == "mydatabase" or (root.findtext("owner/name") or "").strip().lower() == "label studio":
        return Writer.LABEL_STUDIO
    if origin == "unknown unknown" or root.find("object/attributes") is not None:
        return Writer.CVAT
    if _DEVKIT_SOURCE.search(f"{database} {origin}"):
        return Writer.DEVKIT
    if root.find("source") is not None or root.find("path") is not None or root.find("database") is not None:
        return Writer.LABELIMG if root.find("path") is not None and database == "unknown" else Writer.TOOL
    return Writer.DEVKIT if _DEVKIT_SOURCE.match(root.findtext("folder") or "") else Writer.UNKNOWN


def _convention(writer: Writer, found: _Evidence) -> Convention:
    if found.has(found.zeros):
        return Convention.ZERO
    if found.has(found.beyond):
        return Convention.ONE
    match writer:
        case Writer.ROBOFLOW:
            return Convention.ONE
        case Writer.SUPERVISION:  # from 0.31 on as the devkit, before as Roboflow
            return Convention.INCLUSIVE if found.touching else Convention.ONE
        case Writer.CVAT:  # always with a point; datumaro, which it uses, can write the devkit's integers
            return Convention.ZERO if found.points or not found.boxes else Convention.INCLUSIVE
        case Writer.LABELIMG | Writer.LABEL_STUDIO | Writer.TOOL:
            return Convention.ZERO
        case Writer.DEVKIT:
            return Convention.INCLUSIVE
        case Writer.UNKNOWN:  # VOC's own images may have been shrunk, boxes and all
            if found.has(found.points) and found.others:
                return Convention.ZERO
            return found.folders.most_common(1)[0][0] if len(found.folders) == 1 else Convention.INCLUSIVE


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
