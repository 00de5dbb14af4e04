"""YOLO's text files: one per picture, one line per object: class and centre x, centre y, width, height in 0..1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from yolofpn.data.assemble import BoxRows, Pictures, assemble, numbered_lines
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.images import image_size
from yolofpn.errors import InputError
from yolofpn.reading import MAX_CLASSES, MAX_XML_BYTES, ParseError, read_bounded

_PLAUSIBLE = 2.0  # no share of a picture is larger, even for a sloppy box: such numbers are pixels


def read_yolo(pictures: Sequence[Path], labels: Sequence[Path], names: Sequence[str]) -> DetectionDataset:
    """The data set of these pictures. An empty label file, or none, says that the picture is background.

    Args:
        pictures: the picture files.
        labels: the text file of each, whether it exists or not.
        names: class names by label.
    """
    kept, files, rows, problems = Pictures(), [], BoxRows(), list[Problem]()
    for picture, label_file in zip(pictures, labels, strict=True):
        try:
            height, width = image_size(picture, name=picture.name)
        except InputError as error:
            problems.append(Problem(ProblemKind.UNREADABLE_PICTURE, str(picture), f"{error}: left out"))
            continue
        text = _read(label_file, problems)
        for number, line in numbered_lines(text or ""):
            try:
                label, (x1, y1, x2, y2) = parse_line(line, len(names))
            except _LineError as error:
                problems.append(Problem(error.kind, str(label_file), f"line {number}: {error}: dropped"))
                continue
            rows.add(len(kept.paths), number, label, (x1 * width, y1 * height, x2 * width, y2 * height))
        kept.paths.append(picture)
        kept.sizes.append((height, width))
        kept.labelled.append(text is not None)
        files.append(label_file)
    return assemble(names, kept, rows, problems, file_of=lambda image: str(files[image]), item="line")


def count_classes(labels: Iterable[Path]) -> int:
    """The highest class number of these files plus one; numbers beyond the limit of classes count nothing."""
    highest = -1
    for path in labels:
        for _, line in numbered_lines(_read(path, []) or ""):
            first = line.split()[0]
            label = int(first) if first.isdecimal() and len(first) <= 20 else -1
            highest = max(highest, label if label < MAX_CLASSES else -1)
    return highest + 1


def parse_line(line: str, num_classes: int) -> tuple[int, tuple[float, float, float, float]]:
    """A line's label and its box, xyxy as shares of the picture.

    Five numbers are a box, six a box with the score of a detector, which is not used; an odd count from seven on is
    a polygon, whose bounding box is taken.

    Raises:
        ValueError: the line is none of these, or the class is not 0 .. num_classes - 1.
    """
    try:
        label, *values = [float(word) for word in line.split()]
    except ValueError:
        raise _LineError(ProblemKind.MALFORMED, f"{line[:60]!r} is not numbers") from None
    if not label.is_integer() or not 0 <= label < num_classes:
        known = f"0 to {num_classes - 1}" if num_classes > 1 else "0"
        if label >= MAX_CLASSES:
            known += f" (at most {MAX_CLASSES:,} classes are possible)"
        raise _LineError(ProblemKind.UNKNOWN_CLASS, f"class {label:g} is not one of {known}")
    if not all(math.isfinite(value) for value in values):
        raise _LineError(ProblemKind.MALFORMED, f"{line[:60]!r} holds a value that is no finite number")
    if any(abs(value) > _PLAUSIBLE for value in values[:4]):
        raise _LineError(ProblemKind.OUTSIDE, f"{line[:60]!r} is not in 0..1; pixels must be divided by the size")
    if len(values) in (4, 5):
        x, y, width, height = values[:4]
        return int(label), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
        return int(label), (min(xs), min(ys), max(xs), max(ys))
    count = len(values) + 1
    raise _LineError(ProblemKind.MALFORMED, f"{count} numbers are neither a box (5) nor a polygon (7, 9, ...)")


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
        reason = f"not readable as text ({error}): its picture counts as background"
        problems.append(Problem(ProblemKind.MALFORMED, str(path), reason))
        return None
