"""Summarises a data set and reports its problems before training."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from yolofpn.bands import Bands
from yolofpn.config import Depth, VocCorners
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.layouts import open_data
from yolofpn.data.near_identical import HASH_BYTES, MAX_DISTANCE, difference_hash, nearest
from yolofpn.errors import InputError
from yolofpn.text import bar_stream, counted

SMALL_AREA, LARGE_AREA = 32**2, 96**2  # COCO's limits, in pixels of the image
_BAR = 30
_BATCH = 256


@dataclass(frozen=True)
class SplitReport:
    """Statistics and problems of one split.

    Attributes:
        split: its name.
        images: number of images.
        unlabelled: the images that have no label file or annotation: background.
        empty: images whose label file holds no box: background as well.
        boxes: number of objects, without ignore regions.
        ignored: number of ignore regions (COCO crowds, VOC difficult).
        names: class names by label.
        class_boxes: [C] objects of each class.
        class_images: [C] images that show it.
        sizes: objects that are small, medium and large by COCO's limits.
        problems: all problems.
    """

    split: str
    images: int
    unlabelled: tuple[str, ...]
    empty: int
    boxes: int
    ignored: int
    names: tuple[str, ...]
    class_boxes: NDArray[np.int64]
    class_images: NDArray[np.int64]
    sizes: tuple[int, int, int]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class DataReport:
    """The result of ``check_data``.

    Attributes:
        splits: one report each.
        shared: images of the validation split that are nearly in the training split.
        notes: messages of the reader.
    """

    splits: tuple[SplitReport, ...]
    shared: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def num_problems(self) -> int:
        """Number of problems; images without labels are not counted."""
        return len(self.shared) + sum(len(split.problems) for split in self.splits)

    def lines(self, limit: int | None = 10) -> list[str]:
        """Format the report, with at most ``limit`` names of each list (None: all)."""
        lines = list(self.notes)
        for split in self.splits:
            lines += _split_lines(split, limit)
        lines += _problem_lines(self.shared, limit)
        lines.append(f"problems: {self.num_problems}" if self.num_problems else "no problems found")
        return lines


def check_data(
    data: str | Path,
    *,
    root: Path | None = None,
    voc_corners: VocCorners | None = None,
    depth: Depth | Bands = "auto",
    splits: Sequence[str] = ("train", "val"),
    decode: bool = True,
    progress: bool = False,
) -> DataReport:
    """Check a data set.

    Args:
        data: as ``open_data`` takes it.
        voc_corners: how VOC's corners are read, instead of how they look.
        root: its folder, instead of the one that a file names.
        depth: which value is white in images of more than 8 bits, or how bands are read.
        splits: which splits; those that the data set lacks are skipped, unless it has none of them.
        decode: decode every image, to find damaged ones and near-duplicates in train and val.
        progress: show a progress bar.

    Raises:
        UserError: if the data set cannot be read at all.
    """
    source = open_data(data, root, voc_corners)
    present = [split for split in splits if split in source.layout.splits or (split == "val" and source.holds_out)]
    datasets = {split: replace(source.load(split), depth=depth) for split in present or splits}
    scans = {split: _scan(dataset, progress) for split, dataset in datasets.items()} if decode else {}
    reports = tuple(
        report_split(split, dataset, scans[split].problems if decode else ()) for split, dataset in datasets.items()
    )
    shared: tuple[Problem, ...] = ()
    if "train" in scans and "val" in scans:
        shared = _shared_images(datasets["train"], scans["train"], datasets["val"], scans["val"])
    return DataReport(reports, shared, tuple(source.notes))


def report_split(split: str, dataset: DetectionDataset, found: Sequence[Problem] = ()) -> SplitReport:
    """Compute the statistics of a split without opening images; ``found`` are problems of the images."""
    objects = ~dataset.ignore
    labels, areas, num_classes = dataset.labels[objects], dataset.areas[objects], len(dataset.names)
    seen = np.unique(np.column_stack([dataset.image_index[objects], labels]), axis=0)
    counts = np.diff(dataset.offsets)
    small, large = int((areas < SMALL_AREA).sum()), int((areas >= LARGE_AREA).sum())
    return SplitReport(
        split=split,
        images=len(dataset),
        unlabelled=tuple(dataset.paths[int(index)] for index in np.flatnonzero(~dataset.labelled)),
        empty=int(((counts == 0) & dataset.labelled).sum()),
        boxes=int(objects.sum()),
        ignored=int(dataset.ignore.sum()),
        names=dataset.names,
        class_boxes=np.bincount(labels, minlength=num_classes),
        class_images=np.bincount(seen[:, 1], minlength=num_classes),
        sizes=(small, len(areas) - small - large, large),
        problems=(*dataset.problems, *found),
    )


@dataclass(frozen=True)
class _Scan:
    """The result of decoding every image of a split."""

    indices: NDArray[np.int64]  # [K] the images that can be read
    hashes: NDArray[np.uint8]  # [K, 32]
    problems: tuple[Problem, ...]


def _scan(dataset: DetectionDataset, progress: bool) -> _Scan:
    problems: list[Problem] = []
    indices: list[int] = []
    hashes = np.zeros((len(dataset), HASH_BYTES), dtype=np.uint8)
    looked_at, count, file = _looked_at(dataset), len(dataset), bar_stream(sys.stderr)
    for index, result in tqdm(
        looked_at, total=count, desc="reading images", unit="img", disable=not progress, file=file
    ):
        if isinstance(result, Problem):
            problems.append(result)
            continue
        size, hashes[len(indices)] = result
        indices.append(index)
        annotated = tuple(dataset.sizes[index].tolist())
        if size != annotated:
            done = "clipped to the image" if size == annotated[::-1] else "scaled with the image"
            reason = f"{size[1]}x{size[0]}, annotated as {annotated[1]}x{annotated[0]}: boxes are {done}"
            problems.append(Problem(ProblemKind.SIZE_DIFFERS, dataset.paths[index], reason))
    return _Scan(np.array(indices, dtype=np.int64), hashes[: len(indices)], tuple(problems))


_Look = tuple[tuple[int, int], NDArray[np.uint8]]  # (height, width) and hash of an image


def _looked_at(dataset: DetectionDataset) -> Iterator[tuple[int, _Look | Problem]]:
    def look(index: int) -> _Look | Problem:
        try:
            image = dataset.shown_image(index)
        except InputError as error:
            path = dataset.paths[index]
            return Problem(ProblemKind.UNREADABLE_IMAGE, path, str(error).removeprefix(f"{path}: "))
        return (image.shape[0], image.shape[1]), difference_hash(image)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(dataset), _BATCH):
            batch = range(start, min(start + _BATCH, len(dataset)))
            yield from zip(batch, threads.map(look, batch), strict=True)


def _shared_images(
    train: DetectionDataset, train_scan: _Scan, val: DetectionDataset, val_scan: _Scan
) -> tuple[Problem, ...]:
    if not len(train_scan.hashes) or not len(val_scan.hashes):
        return ()
    index, distance = nearest(val_scan.hashes, train_scan.hashes)
    return tuple(
        Problem(
            ProblemKind.NEAR_IDENTICAL,
            val.paths[int(val_scan.indices[row])],
            f"like {train.paths[int(train_scan.indices[index[row]])]} of train ({distance[row]} of 256 bits differ)",
        )
        for row in np.flatnonzero(distance <= MAX_DISTANCE)
        if train.paths[int(train_scan.indices[index[row]])] != val.paths[int(val_scan.indices[row])]  # said already
    )


def _split_lines(report: SplitReport, limit: int | None) -> list[str]:
    small, medium, large = report.sizes
    background = len(report.unlabelled) + report.empty
    lines = [
        "",
        f"{report.split}: {counted(report.images, 'image')}, {counted(report.boxes, 'box')}, "
        f"{counted(report.ignored, 'ignore region')}; {counted(background, 'image')} without a box",
        f"  box sizes: {small} small (below 32x32 pixels), {medium} medium, {large} large (from 96x96)",
    ]
    lines += _class_lines(report, limit)
    if report.unlabelled:
        lines.append(f"  images without a label ({len(report.unlabelled)}), taken as background:")
        lines += _cut([f"    {path}" for path in report.unlabelled], limit)
    return lines + _problem_lines(report.problems, limit)


def _class_lines(report: SplitReport, limit: int | None) -> list[str]:
    """Format a row for each class with boxes, and the names of the others."""
    counts = list(zip(report.names, report.class_boxes.tolist(), report.class_images.tolist(), strict=True))
    width = max((len(name) for name, boxes, _ in counts if boxes), default=0)
    most = max((boxes for _, boxes, _ in counts), default=0)
    lines = []
    for name, boxes, images in counts:
        if boxes:
            bar = "#" * round(_BAR * boxes / most)
            lines.append(f"  {name:<{width}} {boxes:>8} boxes in {images:>7} images {bar}".rstrip())
    if absent := [name for name, boxes, _ in counts if not boxes]:
        more = f" and {len(absent) - limit} more" if limit is not None and len(absent) > limit else ""
        lines.append(f"  classes without a box ({len(absent)}): {', '.join(absent[:limit])}{more}")
    return lines


def _problem_lines(problems: Sequence[Problem], limit: int | None) -> list[str]:
    lines = []
    for kind, group in groupby(sorted(problems, key=lambda problem: problem.kind), key=lambda problem: problem.kind):
        entries = [f"    {problem.file}: {problem.reason}" for problem in group]
        lines.append(f"  {kind.value} ({len(entries)}):")
        lines += _cut(entries, limit)
    return lines


def _cut(entries: list[str], limit: int | None) -> list[str]:
    if limit is None or len(entries) <= limit:
        return entries
    return [*entries[:limit], f"    ... and {len(entries) - limit} more (all with --all)"]
