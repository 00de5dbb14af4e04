"""KITTI's text files: one per image in ``label_2/``, a line per object: class, truncation, occlusion, angle, box."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import ClassVar

from yolofpn.data.assemble import numbered_lines
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.image_files import SPLIT_FOLDERS, Layout, Part, composed, split_name
from yolofpn.data.label_format import DataFiles
from yolofpn.data.labelled_images import ImageLabels, ObjectLabel, class_names_of, number, read_beside
from yolofpn.data.shapes import NO_BOX
from yolofpn.reading import MAX_XML_BYTES, ParseError, read_bounded

_NUMBERS = (14, 15)  # without and with a score
_SPLITS = ("training", *SPLIT_FOLDERS, "default")


class KittiTxt:
    """KITTI's objects; DontCare regions are ignore regions."""

    key: ClassVar[str] = "kitti"
    title: ClassVar[str] = "KITTI text files"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    one_file: ClassVar[bool] = False
    has_sizes: ClassVar[bool] = False

    def __init__(self, files: DataFiles) -> None:
        self._files = files

    @classmethod
    def recognise(cls, folder: Path) -> Layout | None:
        """image_2/ beside label_2/, in the folder itself or in one for each split."""
        splits: dict[str, tuple[Part, ...]] = {}
        for split, place in (("train", folder), *((split_name(name), folder / name) for name in _SPLITS)):
            if (place / "image_2").is_dir() and (place / "label_2").is_dir():
                splits[split] = (*splits.get(split, ()), Part(place / "image_2", place / "label_2"))
        return Layout(cls.key, folder, f"KITTI data set in {folder}", splits) if splits else None

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """Text files that are called as images, the first of which with a line has KITTI's columns."""
        for path in files:
            if composed(path.stem) in stems and (lines := _lines(path, [])):
                return _is_object(lines[0][1].split())
        return False

    def class_names(self) -> tuple[str, ...]:
        """Those of all objects."""
        lines = (line for path in self._files.all_labels() for _, line in _lines(path, []) or ())
        names = (_split(words)[0] for line in lines if _is_object(words := line.split()))
        return class_names_of(name for name in names if name != "DontCare")

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """The two-dimensional boxes."""
        return read_beside(self._files.images(part), self._files.labels(part), names, _parse, "line")


def _parse(path: Path, problems: list[Problem]) -> ImageLabels | None:
    lines = _lines(path, problems)
    return None if lines is None else ImageLabels([_object(line.split()) for _, line in lines])


def _object(words: list[str]) -> ObjectLabel:
    name, numbers = _split(words)
    if not _is_object(words):
        return ObjectLabel(
            name, NO_BOX, dropped=f"{len(numbers)} numbers behind the class, of which KITTI has 14 or 15"
        )
    x1, y1, x2, y2 = numbers[3:7]
    return ObjectLabel(name, (x1, y1, x2, y2), ignore=name == "DontCare")


def _is_object(words: list[str]) -> bool:
    name, numbers = _split(words)
    return bool(name) and len(numbers) in _NUMBERS


def _split(words: list[str]) -> tuple[str, list[float]]:
    """The class, in which some programs write spaces, and the numbers behind it."""
    first = len(words)
    while first > 0 and not math.isnan(number(words[first - 1])):
        first -= 1
    return " ".join(words[:first]), [number(word) for word in words[first:]]


def _lines(path: Path, problems: list[Problem]) -> list[tuple[int, str]] | None:
    try:
        return list(numbered_lines(read_bounded(path, MAX_XML_BYTES).decode("utf-8-sig")))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ParseError) as error:
        problems.append(Problem(ProblemKind.MALFORMED, str(path), f"not readable as text ({error}): background"))
        return None
