"""Assembles data sets from the boxes of a reader; bad boxes are dropped or clipped, and reported."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolofpn.data.dataset import DetectionDataset, FlatStrings, Problem, ProblemKind
from yolofpn.data.images import image_size
from yolofpn.errors import InputError
from yolofpn.reading import MAX_SIDE

ROUNDING = 0.5  # pixels; a box that exceeds the image by less is clipped without a report
_LARGEST_AREA = float(MAX_SIDE**2)
_COLUMNS = 13  # image, number, label, x1, y1, x2, y2 as stored, area, ignore, x1, y1, x2, y2 as placed


@dataclass
class BoxRows:
    """Unchecked boxes as read from label files, in one growing array."""

    values: array[float] = field(default_factory=lambda: array("d"))

    def add(
        self,
        image: int,
        number: int,
        label: int,
        box: Sequence[float],
        *,
        area: float = math.nan,
        ignore: bool = False,
        placed: Sequence[float] | None = None,
    ) -> None:
        """Add a box.

        Args:
            image: index of its image.
            number: its line, object or annotation number, for reports.
            label: its class.
            box: xyxy as stored, which decides whether it has an area.
            area: as annotated, in pixels; NaN if it is that of the box.
            ignore: neither object nor background.
            placed: xyxy between the pixels' outer corners, if that is not ``box``.
        """
        self.values.extend((image, number, label, *box, area, ignore, *(box if placed is None else placed)))

    def add_table(self, rows: NDArray[np.float64]) -> None:
        """Add boxes: [T, 13] image, number, label, xyxy as stored, area, ignore, xyxy as placed."""
        self.values.frombytes(np.ascontiguousarray(rows, dtype=np.float64).tobytes())

    def table(self) -> NDArray[np.float64]:
        """Return all boxes [T, 13], ordered by image."""
        rows = np.frombuffer(self.values, dtype=np.float64).reshape(-1, _COLUMNS)
        return rows[np.argsort(rows[:, 0], kind="stable")]


@dataclass
class ImageList:
    """The images that a reader found, in the order of the data set.

    Attributes:
        paths: the image files.
        sizes: (height, width) of each.
        labelled: whether it has a label file or an entry in one.
        image_ids: the data set's ids; None where the format has none.
    """

    paths: list[Path] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    labelled: list[bool] = field(default_factory=list)
    image_ids: list[int] | None = None


def assemble(
    names: Sequence[str],
    images: ImageList,
    rows: BoxRows,
    problems: Sequence[Problem],
    *,
    file_of: Callable[[int], str],
    item: str,
    category_ids: Sequence[int] | None = None,
    number_text: Callable[[int], str] = str,
) -> DetectionDataset:
    """Drop or clip bad boxes, report each, and pack the rest.

    Boxes with a corner that is no finite number, with xmax <= xmin or ymax <= ymin as stored, or entirely outside are
    dropped; those partly outside are clipped; an identical box of the same label in the same image is kept and
    reported.

    Args:
        names: class names by label.
        images: all images.
        rows: their boxes.
        problems: problems found by the reader.
        file_of: label file of an image index, for reports.
        item: what ``number`` of a row counts: "line", "object", "annotation".
        category_ids: the data set's id of each label; the labels by default.
        number_text: what reports call ``number`` of a row.
    """
    found = list(problems)
    table = rows.table()
    sizes = np.array(images.sizes, dtype=np.int32).reshape(-1, 2)
    sorter = _BoxSorter(table, found, file_of, lambda number: f"{item} {number_text(number)}", names)
    table = sorter.drop(np.isfinite(table[:, 3:7]).sum(axis=1) < 4, ProblemKind.MALFORMED, "is not four finite numbers")
    empty = (table[:, 5] <= table[:, 3]) | (table[:, 6] <= table[:, 4])
    table = sorter.drop(empty, ProblemKind.ZERO_AREA, "has no area")
    table[:, 3:7] = table[:, 9:13]
    clipped, overshoot = _clip(table[:, 3:7], sizes[table[:, 0].astype(np.int64)])
    gone = (clipped[:, 2] <= clipped[:, 0]) | (clipped[:, 3] <= clipped[:, 1])
    sorter.report((overshoot > ROUNDING) & ~gone, ProblemKind.OUTSIDE, "leaves the image: clipped")
    table[:, 3:7] = np.where(gone[:, None], table[:, 3:7], clipped)
    table = sorter.drop(gone, ProblemKind.OUTSIDE, "lies outside the image")
    sorter.report(_repeated(table), ProblemKind.DUPLICATE, "repeats an earlier one of the same class: kept")
    return _pack(names, category_ids, images, sizes, table, found)


@dataclass
class _BoxSorter:
    """Drops bad boxes and reports them as problems."""

    table: NDArray[np.float64]
    problems: list[Problem]
    file_of: Callable[[int], str]
    item: Callable[[int], str]
    names: Sequence[str]

    def drop(self, bad: NDArray[np.bool_], kind: ProblemKind, reason: str) -> NDArray[np.float64]:
        """Drop and report the ``bad`` rows; return the others."""
        self.report(bad, kind, f"{reason}: dropped")
        self.table = self.table[~bad]
        return self.table

    def report(self, bad: NDArray[np.bool_], kind: ProblemKind, reason: str) -> None:
        """Report the ``bad`` rows of the current table."""
        for image, number, label, *box in self.table[bad, :7].tolist():
            shown = ", ".join(f"{value:g}" for value in box)
            text = f"{self.item(int(number))}: {self.names[int(label)]} [{shown}] {reason}"
            self.problems.append(Problem(kind, self.file_of(int(image)), text))


def _clip(boxes: NDArray[np.float64], sizes: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clip boxes [T, 4] to images of ``sizes`` [T, 2]; also return by how many pixels each exceeded its image."""
    limits = sizes[:, [1, 0, 1, 0]]  # width, height, width, height
    clipped = np.clip(boxes, 0, limits)
    return clipped, np.abs(boxes - clipped).max(axis=1, initial=0)


def _repeated(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return [T]: whether an earlier row of the same image and label has the same box."""
    keys = table[:, [0, 2, 3, 4, 5, 6]]
    order = np.lexsort(keys.T[::-1])  # stable: among equal rows the first comes first
    repeated = np.zeros(len(table), dtype=np.bool_)
    repeated[order[1:]] = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
    return repeated


def _pack(
    names: Sequence[str],
    category_ids: Sequence[int] | None,
    images: ImageList,
    sizes: NDArray[np.int32],
    table: NDArray[np.float64],
    problems: Sequence[Problem],
) -> DetectionDataset:
    boxes = table[:, 3:7]
    own_area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    areas = np.where((table[:, 7] > 0) & (table[:, 7] <= _LARGEST_AREA), table[:, 7], own_area)
    counts = np.bincount(table[:, 0].astype(np.int64), minlength=len(images.paths))
    ids = images.image_ids if images.image_ids is not None else image_ids_of(images.paths)
    return DetectionDataset(
        names=tuple(names),
        category_ids=tuple(category_ids if category_ids is not None else range(len(names))),
        paths=FlatStrings(str(path) for path in images.paths),
        sizes=sizes,
        image_ids=np.array(ids, dtype=np.int64),
        labelled=np.array(images.labelled, dtype=np.bool_),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes.astype(np.float32),
        labels=table[:, 2].astype(np.int32),
        ignore=table[:, 8].astype(np.bool_),
        areas=areas.astype(np.float32),
        problems=tuple(problems),
    )


def image_size_that_fits(annotated: tuple[int, int], boxes: NDArray[np.float64], path: Path) -> tuple[int, int]:
    """Return the size that boxes refer to: the annotated one, unless the boxes exceed it and fit the image.

    Tools that resize images keep the old size and the old boxes. Others write a wrong size beside right boxes; those
    reach beyond it, and into the image.

    Args:
        annotated: (height, width).
        boxes: [T, 4] xyxy in pixels; NaN is skipped.
        path: of the image, which is opened only if a box reaches beyond the annotated size.
    """
    limits = np.array([annotated[1], annotated[0]], dtype=np.float64)
    # One pixel too far is a matter of counting from 0 or 1.
    if not (boxes[:, 2:] > limits + 1.5).any():
        return annotated
    try:
        height, width = image_size(path)
    except InputError:
        return annotated
    own = np.array([width, height], dtype=np.float64)
    return annotated if (boxes[:, 2:] > own + 1.5).any() else (height, width)


def image_ids_of(paths: Sequence[Path]) -> list[int]:
    """Return the file stems as ids if all are different numbers (as in COCO), else 0, 1, 2, ..."""
    stems = {path.stem for path in paths}
    if len(stems) == len(paths) and all(stem.isdecimal() and len(stem) <= 18 for stem in stems):
        ids = [int(path.stem) for path in paths]
        if len(set(ids)) == len(ids):
            return ids
    return list(range(len(paths)))


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the stripped non-blank lines of ``text`` with their numbers from 1."""
    for number, line in enumerate(text.splitlines(), start=1):
        if stripped := line.strip():
            yield number, stripped
