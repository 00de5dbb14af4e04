"""YOLO's text files: one per image, one line per object: class and centre x, centre y, width, height in 0..1."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from yolofpn.data.assemble import BoxRows, ImageList, assemble, numbered_lines
from yolofpn.data.class_names import numbered_names, read_names
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.image_files import Layout, Part, composed
from yolofpn.data.images import image_size
from yolofpn.data.label_format import DataFiles
from yolofpn.data.shapes import points_box
from yolofpn.errors import InputError, UserError
from yolofpn.reading import (
    MAX_CLASSES,
    MAX_XML_BYTES,
    MAX_YAML_BYTES,
    ParseError,
    check_class_names,
    parse_json,
    read_bounded,
)

_PLAUSIBLE = 2.0  # no share of an image is larger, even for a sloppy box: such numbers are pixels
_TRACKS = "data: labels of seven columns are boxes with score and track number, as trackers write them"
_NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels")  # the last one is Roboflow's


class YoloTxt:
    """YOLO's text files, which Darknet defined and most labelling tools write."""

    key: ClassVar[str] = "yolo"
    title: ClassVar[str] = "YOLO text files"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    one_file: ClassVar[bool] = False
    has_sizes: ClassVar[bool] = False

    def __init__(self, files: DataFiles) -> None:
        self._files = files
        self._are_named = bool(files.layout.names)
        self._columns: YoloColumns | None = None

    @classmethod
    def recognise(cls, folder: Path) -> Layout | None:
        """None: what describes such data sets (data.yaml, obj.data) is looked for before any format."""
        return None

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """Text files that are called as images."""
        return any(composed(path.stem) in stems for path in files)

    def class_names(self) -> tuple[str, ...]:
        """Those of a file of names in the folder, else numbers."""
        origin = self._files.layout.origin
        names = _find_names(origin, self._files.parts) if origin.is_dir() else None
        if names is not None:
            self._are_named = True
            return names
        found = class_range(self._files.all_labels())
        names = numbered_names(found[1] + 1 if found else 0, origin)
        self._files.notes.append(f"data: no class names found: they are called 0 to {len(names) - 1}")
        return names

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """Columns are what the whole data set shows them to be."""
        if self._columns is None:
            self._columns = YoloColumns(self._files.layout.keypoints, first_class=self._first_class(names))
        return read_yolo(self._files.images(part), self._files.labels(part), names, self._columns)

    def _first_class(self, names: tuple[str, ...]) -> int:
        """1 where all numbers lie between 1 and that of the named classes, else 0."""
        count = len(names)
        found = class_range(self._files.all_labels(), stop_at_zero=True) if self._are_named else None
        if found is None or found[0] < 1 or found[1] != count:
            return 0
        self._files.notes.append(
            f"data: class numbers begin at 1: 1 to {count} are the {count} classes {', '.join(names[:3])} ..."
        )
        return 1


def _find_names(folder: Path, parts: Iterable[Part]) -> tuple[str, ...] | None:
    """Class names from a file of names, wherever the tools put them, or Label Studio's notes.json."""
    places = [part.images if part.annotations is None else part.images.parent for part in parts]
    folders = [folder, folder / "labels", *places, *(place / "labels" for place in places)]
    for parent in folders:
        for path in (*(parent / name for name in _NAMES_FILES), *sorted(parent.glob("*.names"))):
            if path.is_file():
                return read_names(path)
    notes = folder / "notes.json"
    if notes.is_file():
        return _names_of_notes(notes)
    return None


def _names_of_notes(path: Path) -> tuple[str, ...] | None:
    try:
        tree = parse_json(read_bounded(path, MAX_YAML_BYTES))
    except (ParseError, OSError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}): export the labels again, or remove it") from None
    categories = tree.get("categories") if isinstance(tree, dict) else None
    if not isinstance(categories, list) or not all(isinstance(c, dict) and "name" in c for c in categories):
        return None
    if not all(isinstance(category.get("id", 0), int) for category in categories):
        raise UserError(f"{path}: the ids of its categories must be whole numbers")
    names = tuple(str(category["name"]) for category in sorted(categories, key=lambda c: int(c.get("id", 0))))
    check_class_names(names, path)
    return names


@dataclass(frozen=True)
class YoloColumns:
    """What stands in a line after the class.

    Attributes:
        keypoints: numbers of all keypoints, which stand behind the box; 0 where labels have none.
        tracks: seven columns are a box with its score and the number of its track, not a triangle.
        first_class: the number of the first class: 0, or 1 where somebody counted from 1.
    """

    keypoints: int = 0
    tracks: bool = False
    first_class: int = 0


def read_yolo(
    images: Sequence[Path], labels: Sequence[Path], names: Sequence[str], columns: YoloColumns | None = None
) -> DetectionDataset:
    """The data set of these images. An empty label file, or none, says that the image is background.

    Args:
        images: the image files.
        labels: the text file of each, whether it exists or not.
        names: class names by label.
        columns: what the columns are, where more is known than the lines tell.
    """
    kept, files, rows, problems = ImageList(), [], BoxRows(), list[Problem]()
    texts = [_read(label_file, problems) for label_file in labels]
    columns = replace(columns or YoloColumns(), tracks=are_tracks(texts))
    for image_path, label_file, text in zip(images, labels, texts, strict=True):
        try:
            height, width = image_size(image_path, name=image_path.name)
        except InputError as error:
            problems.append(Problem(ProblemKind.UNREADABLE_IMAGE, str(image_path), f"{error}: skipped"))
            continue
        for number, line in numbered_lines(text or ""):
            try:
                label, (x1, y1, x2, y2) = parse_line(line, len(names), columns)
            except _LineError as error:
                problems.append(Problem(error.kind, str(label_file), f"line {number}: {error}: dropped"))
                continue
            rows.add(len(kept.paths), number, label, (x1 * width, y1 * height, x2 * width, y2 * height))
        kept.paths.append(image_path)
        kept.sizes.append((height, width))
        kept.labelled.append(text is not None)
        files.append(label_file)
    dataset = assemble(names, kept, rows, problems, file_of=lambda image: str(files[image]), item="line")
    return replace(dataset, notes=(_TRACKS,)) if columns.tracks else dataset


def are_tracks(texts: Iterable[str | None]) -> bool:
    """Whether lines of seven columns are a tracker's boxes (class x y w h score id), not triangles.

    They are if each of them ends with a whole number from 1 on. Of a triangle that would be a corner on the lower edge
    of the image, in every line of every file.
    """
    found = False
    for text in texts:
        for _, line in numbered_lines(text or ""):
            words = line.split()
            if len(words) == 7:
                track = _float(words[6])
                if track < 1 or not track.is_integer():
                    return False
                found = True
    return found


def class_range(labels: Iterable[Path], stop_at_zero: bool = False) -> tuple[int, int] | None:
    """The lowest and highest class number of these files below the limit of classes; None where they have none.

    Args:
        labels: the files; those that cannot be read count nothing.
        stop_at_zero: whether to look no further once the lowest is known to be 0.
    """
    lowest, highest = sys.maxsize, -1
    for path in labels:
        for _, line in numbered_lines(_read(path, []) or ""):
            number = _float(line.split()[0])
            if 0 <= number < MAX_CLASSES and number.is_integer():
                lowest, highest = min(lowest, int(number)), max(highest, int(number))
        if stop_at_zero and lowest == 0:
            break
    return None if highest < 0 else (lowest, highest)


def parse_line(
    line: str, num_classes: int, columns: YoloColumns | None = None
) -> tuple[int, tuple[float, float, float, float]]:
    """A line's label and its box, xyxy as shares of the image.

    Five numbers are a box, six a box with the score of a detector or the number of a track, neither of which is used;
    an odd count from seven on is a polygon, whose bounding box is taken, unless ``columns`` says otherwise.

    Raises:
        ValueError: if the line is none of these, or the class is not 0 .. num_classes - 1.
    """
    columns = columns or YoloColumns()
    try:
        written, *values = [float(word) for word in line.split()]
    except ValueError:
        raise _LineError(ProblemKind.MALFORMED, f"{line[:60]!r} is not numbers") from None
    label = written - columns.first_class
    if not label.is_integer() or not 0 <= label < num_classes:
        known = f"0 to {num_classes - 1}" if num_classes > 1 else "0"
        if label >= MAX_CLASSES:
            known += f" (at most {MAX_CLASSES:,} classes are possible)"
        raise _LineError(ProblemKind.UNKNOWN_CLASS, f"class {written:g} is not one of {known}")
    if not all(math.isfinite(value) for value in values):
        raise _LineError(ProblemKind.MALFORMED, f"{line[:60]!r} holds a value that is not a finite number")
    if any(abs(value) > _PLAUSIBLE for value in values[:4]):
        raise _LineError(ProblemKind.OUTSIDE, f"{line[:60]!r} is not in 0..1; pixels must be divided by the size")
    return int(label), _values_box(values, columns)


def _values_box(values: list[float], columns: YoloColumns) -> tuple[float, float, float, float]:
    """The box of a line without its class."""
    count = len(values) + 1
    is_track = columns.tracks and count == 7
    if count in (5, 6) or is_track or (columns.keypoints and count == 5 + columns.keypoints):
        x, y, width, height = values[:4]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if columns.keypoints:
        expected = 5 + columns.keypoints
        raise _LineError(
            ProblemKind.MALFORMED, f"{count} numbers are neither a box (5) nor one with keypoints ({expected})"
        )
    if count >= 7 and count % 2:
        return points_box(values[::2], values[1::2])
    raise _LineError(ProblemKind.MALFORMED, f"{count} numbers are neither a box (5) nor a polygon (7, 9, ...)")


def _float(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


class _LineError(ValueError):
    """Why a line is no box."""

    def __init__(self, kind: ProblemKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _read(path: Path, problems: list[Problem]) -> str | None:
    """The text of a label file; None if it cannot be read, which is reported unless it just does not exist."""
    try:
        return read_bounded(path, MAX_XML_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ParseError) as error:
        reason = f"not readable as text ({error}): its image counts as background"
        problems.append(Problem(ProblemKind.MALFORMED, str(path), reason))
        return None
