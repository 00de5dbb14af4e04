"""Proposals that another detector made of a data set: read from a file."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolofpn.data.dataset import DetectionDataset, Proposals
from yolofpn.errors import InputError, UserError
from yolofpn.reading import ParseError, parse_json, short
from yolofpn.regular_files import read_whole
from yolofpn.text import command

_TOLERANCE = 1.0  # pixels that a box may reach out of its image, for those who count from another corner


def how_to_write(split: str) -> str:
    """The command that writes the proposals of any detector on a split."""
    return f"{command('evaluate')} --split {split} --save-proposals FILE writes them"


def with_proposals(dataset: DetectionDataset, path: Path, split: str) -> tuple[DetectionDataset, str]:
    """The same images with the proposals of a file; also a line to print.

    The file is a COCO results list: each item has ``bbox`` [x, y, width, height] and the image's ``image_id`` or
    ``file_name``. Scores and categories are skipped. Images that the data set lacks are no error, as it may be a
    part of what the proposals were made of.

    Args:
        dataset: gets the proposals.
        path: of the file; it is parsed in memory.
        split: what the data set is called, for people.

    Raises:
        UserError: if the file is missing or malformed, lacks an image, or is of other images.
    """
    rows, strangers = _read(path, dataset, split)
    index, boxes = rows[:, 0].astype(np.int64), rows[:, 1:]
    corners = np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    _check_extent(dataset, path, index, corners)
    _check_complete(dataset, path, split, np.bincount(index, minlength=len(dataset)), strangers)
    visible = (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    order = np.argsort(index[visible], kind="stable")
    counts = np.bincount(index[visible], minlength=len(dataset))
    found = Proposals(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), corners[visible][order])
    note = f"proposals: {path}: {len(found.boxes) / len(dataset):.0f} for each of the {len(dataset)} images of {split}"
    if strangers:
        note += f"; {len(strangers)} images that it has are not among them"
    return replace(dataset, proposals=found), note


@dataclass
class _Collector:
    """Takes proposals out of the JSON while it is parsed, as there may be millions; everything else passes."""

    index_of: dict[int | str, int]
    values: array[float] = field(default_factory=lambda: array("f"))
    strangers: set[int | str] = field(default_factory=set)

    def __call__(self, node: dict[str, Any]) -> dict[str, Any] | None:
        box, image = node.get("bbox"), node.get("image_id", node.get("file_name"))
        if not isinstance(box, list) or len(box) != 4 or not isinstance(image, int | str):
            return node
        index = self.index_of.get(image)
        if index is None:
            self.strangers.add(image)
            return None
        try:
            self.values.extend((index, *box))
        except (TypeError, OverflowError):
            return node
        return None


def _read(path: Path, dataset: DetectionDataset, split: str) -> tuple[NDArray[np.float32], set[int | str]]:
    """[P, 5] image's index, x, y, width, height; and what the file calls images that the data set lacks."""
    names = [PurePath(name).name for name in dataset.paths]
    shared = {name for name, count in Counter(names).items() if count > 1}  # by several folders: it names no image
    index_of: dict[int | str, int] = {name: index for index, name in enumerate(names) if name not in shared}
    source = dataset.source_ids
    ids = dataset.image_ids.tolist() if source is None else source.images
    index_of |= {number: index for index, number in enumerate(ids)}
    collector = _Collector(index_of)
    try:
        items = parse_json(read_whole(path), collector)
    except OSError as error:
        remedy = how_to_write(split)
        raise UserError(f"{path}: {error.strerror}: expected proposals (JSON): {remedy}") from None
    except ParseError as error:
        raise UserError(f"{path}: not valid JSON ({error}): write the proposals again") from None
    if not isinstance(items, list):
        raise UserError(f"{path}: holds no list of proposals, as COCO's results are one")
    for number, item in enumerate(items):
        if item is not None:
            raise _malformed(path, number, item)
    rows = np.frombuffer(collector.values, dtype=np.float32).reshape(-1, 5)
    wrong = ~np.isfinite(rows).all(axis=1) | (rows[:, 3:] < 0).any(axis=1)
    if wrong.any():
        row = rows[wrong.argmax()]
        raise UserError(f"{path}: {dataset.paths[int(row[0])]}: {row[1:].tolist()} is not a box [x, y, width, height]")
    return rows, collector.strangers


def _malformed(path: Path, number: int, item: object) -> UserError:
    return UserError(
        f"{path}: item {number}: {short(item)}\n"
        "each needs the image's image_id (or file_name) and its bbox [x, y, width, height]"
    )


def _check_extent(
    dataset: DetectionDataset, path: Path, index: NDArray[np.int64], corners: NDArray[np.float32]
) -> None:
    """Running numbers of images exist in every split: that the boxes lie in the images tells them apart."""
    limits = np.tile(dataset.sizes[:, ::-1], 2)[index]
    outside = (corners < -_TOLERANCE) | (corners > limits + _TOLERANCE)
    for row in _first_of_each(index, np.flatnonzero(outside.any(axis=1))):
        image = int(index[row])
        try:
            height, width, _ = dataset.image(image).shape  # what is annotated may be wrong
        except InputError:
            continue
        box = corners[row].tolist()
        if min(box) < -_TOLERANCE or max(box[0::2]) > width + _TOLERANCE or max(box[1::2]) > height + _TOLERANCE:
            raise UserError(
                f"{path}: the box {[round(side) for side in box]} reaches out of {dataset.paths[image]}, which has "
                f"{width}x{height} pixels: are these the proposals of other images?"
            )


def _first_of_each(index: NDArray[np.int64], rows: NDArray[np.int64]) -> Sequence[int]:
    """One of ``rows`` for each image that has any."""
    _, first = np.unique(index[rows], return_index=True)
    chosen: list[int] = rows[first].tolist()
    return chosen


def _check_complete(
    dataset: DetectionDataset, path: Path, split: str, counts: NDArray[np.int64], strangers: set[int | str]
) -> None:
    """Of an image that cannot be read there are no proposals, and none are missed."""
    missing = (counts == 0).nonzero()[0].tolist()
    for index in missing:
        try:
            dataset.image(index)
        except InputError:
            continue
        unknown = f"; {len(strangers)} others that it has are not in {split}" if strangers else ""
        raise UserError(
            f"{path}: has no proposals for {len(missing)} of the {len(dataset)} images of {split}, such as "
            f"{dataset.paths[index]} (image_id {int(dataset.image_ids[index])}){unknown}\n"
            f"the proposals of that split are needed: {how_to_write(split)}"
        )
