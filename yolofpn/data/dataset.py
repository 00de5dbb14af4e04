"""The data set class: images with their boxes, in flat arrays that worker processes share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from yolofpn.bands import COLOUR, Bands, InputForm, in_tensor_order, viewable
from yolofpn.data.images import read_image
from yolofpn.data.problems import Problem as Problem
from yolofpn.data.problems import ProblemKind as ProblemKind
from yolofpn.data.shards import NO_SHARD, Shards, join_shards
from yolofpn.fields import Depth
from yolofpn.structures import Image, Target

ANY_OBJECT = ("object",)  # class name of class-agnostic data sets


class FlatStrings(Sequence[str]):
    """Many paths in two arrays: a list of strings would be copied into every worker as it counts references."""

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [os.fsencode(string) for string in strings]
        self._offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"string {index} of {len(self)}")
        index %= len(self)
        return os.fsdecode(self._bytes[self._offsets[index] : self._offsets[index + 1]].tobytes())

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        return self._offsets.nbytes + self._bytes.nbytes


@dataclass(frozen=True, eq=False)
class Proposals:
    """Proposals of another detector for the images of a data set.

    Attributes:
        offsets: [N + 1] int64; those of image i are rows ``offsets[i] : offsets[i + 1]``.
        boxes: [P, 4] float32 xyxy in pixels, with a positive area.
    """

    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]


@dataclass(frozen=True)
class SourceIds:
    """Ids as an annotation file writes them, where they are no 64-bit integers: ``"a9f0"``, ``"7"``, 2 ** 70.

    Attributes:
        images: [N] of each image.
        categories: of each label.
    """

    images: tuple[int | str, ...]
    categories: tuple[int | str, ...]


@dataclass(frozen=True, eq=False)
class DetectionDataset(Dataset[tuple[Tensor, Target]]):
    """Images and their ground truth: ``dataset[i]`` gives ([3, H, W] uint8 RGB or bands, Target in its pixels).

    All arrays are flat, so 118,000 images cost a few dozen megabytes and workers share them. The boxes of image i are
    rows ``offsets[i] : offsets[i + 1]``.

    Attributes:
        names: class names by label.
        category_ids: the data set's id of each label; the labels themselves where it has none.
        paths: the images.
        sizes: [N, 2] int32, (height, width) as annotated or read from the image's header.
        image_ids: [N] int64, each once.
        labelled: [N] bool; False where no label file or annotation exists: such an image is background.
        offsets: [N + 1] int64.
        boxes: [T, 4] float32 xyxy in pixels, clipped to the image, with a positive area.
        labels: [T] int32.
        ignore: [T] bool, COCO's crowds and VOC's difficult objects.
        areas: [T] float32, as annotated.
        problems: problems found while reading.
        proposals: proposals of another detector, for Fast R-CNN.
        notes: lines to print: what was decided when it was read.
        depth: which value is white in images of more than 8 bits, or how bands are read.
        source_ids: the ids of the annotation file, where ``image_ids`` and ``category_ids`` are not the same.
        shards: where the images lie in tar files, each shard's in a row; their ``paths`` are names only.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    paths: FlatStrings
    sizes: NDArray[np.int32]
    image_ids: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    ignore: NDArray[np.bool_]
    areas: NDArray[np.float32]
    problems: tuple[Problem, ...] = ()
    proposals: Proposals | None = None
    notes: tuple[str, ...] = ()
    source_ids: SourceIds | None = None
    depth: Depth | Bands = "auto"
    shards: Shards | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Return image and target ``index``.

        Raises:
            InputError: if the image cannot be read.
        """
        image = self.image(index)
        pixels = np.ascontiguousarray(in_tensor_order(image).transpose(2, 0, 1))
        return torch.from_numpy(pixels), self.target(index, (image.shape[0], image.shape[1]))

    def image(self, index: int) -> Image:
        """Image number ``index``, [H, W, 3] uint8 BGR, or bands.

        Raises:
            InputError: if it cannot be read.
        """
        path = self.paths[index]
        content = self.encoded(index)
        return read_image(Path(path) if content is None else content, name=path, depth=self.depth)

    def encoded(self, index: int) -> bytes | None:
        """The bytes of image ``index`` in a shard; None if it has a file of its own.

        Raises:
            InputError: if the shard cannot be read.
        """
        return None if self.shards is None else self.shards.read(index, self.paths[index])

    def first_file(self) -> str | None:
        """The path of the first image with a file of its own; None if all are in shards."""
        if self.shards is None:
            return self.paths[0]
        own = np.flatnonzero(self.shards.shard == NO_SHARD)
        return self.paths[int(own[0])] if len(own) else None

    def neighbours(self, index: int) -> range:
        """The images that are as quick to read as image ``index``: those of its shard, or all."""
        if self.shards is None or (own := self.shards.shard[index]) == NO_SHARD:
            return range(len(self))
        start, end = np.searchsorted(self.shards.shard, [own, own + 1])
        return range(int(start), int(end))

    def shown_image(self, index: int) -> NDArray[np.uint8]:
        """Image number ``index`` as people see it, [H, W, 3] uint8 BGR.

        Raises:
            InputError: if it cannot be read.
        """
        return viewable(self.image(index), self.depth.shown if isinstance(self.depth, Bands) else None)

    @property
    def form(self) -> InputForm:
        """Channels and type of its images."""
        return InputForm(self.depth.channels, is_float=True) if isinstance(self.depth, Bands) else COLOUR

    def target(self, index: int, image_size: tuple[int, int] | None = None) -> Target:
        """Return the ground truth of image ``index`` without opening the image.

        Args:
            index: which image.
            image_size: (height, width) of the decoded image. Where it is not what was annotated, the image was
                resized afterwards: the boxes are scaled with it. Where height and width have changed places it was
                turned, nobody says how: the boxes are clipped to it as they are.
        """
        rows = _rows_of(self.offsets, index)
        annotated: tuple[int, int] = tuple(self.sizes[index].tolist())
        other_size = None if image_size == annotated else image_size
        scale_x, scale_y = 1.0, 1.0
        if other_size is not None and other_size != annotated[::-1]:
            scale_y, scale_x = other_size[0] / annotated[0], other_size[1] / annotated[1]
        scale = np.array([scale_x, scale_y] * 2, dtype=np.float32)
        boxes, keep = _clipped(self.boxes[rows] * scale, other_size)
        proposals = None
        if self.proposals is not None:
            found, inside = _clipped(self.proposals.boxes[_rows_of(self.proposals.offsets, index)], other_size)
            proposals = torch.from_numpy(found[inside])
        return Target(
            boxes=torch.from_numpy(boxes[keep]),
            labels=torch.from_numpy(self.labels[rows][keep].astype(np.int64)),
            ignore=torch.from_numpy(self.ignore[rows][keep]),
            areas=torch.from_numpy(self.areas[rows][keep] * np.float32(scale_x * scale_y)),
            image_id=int(self.image_ids[index]),
            proposals=proposals,
        )

    def as_one_class(self) -> DetectionDataset:
        """Return the same objects with a single class."""
        ids = self.source_ids and SourceIds(self.source_ids.images, self.source_ids.categories[:1])
        return replace(
            self,
            names=ANY_OBJECT,
            category_ids=self.category_ids[:1],
            labels=np.zeros_like(self.labels),
            source_ids=ids,
        )

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> DetectionDataset:
        """Return the images ``indices``, in that order, with all classes and without problems."""
        chosen = np.asarray(indices, dtype=np.int64)
        offsets, rows = _chosen_rows(self.offsets, chosen)
        proposals = self.proposals
        if proposals is not None:
            own_offsets, own_rows = _chosen_rows(proposals.offsets, chosen)
            proposals = Proposals(own_offsets, proposals.boxes[own_rows])
        return replace(
            self,
            paths=FlatStrings(self.paths[int(i)] for i in chosen),
            sizes=self.sizes[chosen],
            image_ids=self.image_ids[chosen],
            labelled=self.labelled[chosen],
            offsets=offsets,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            ignore=self.ignore[rows],
            areas=self.areas[rows],
            problems=(),
            proposals=proposals,
            source_ids=self._source_ids_of(chosen),
            shards=self.shards and self.shards.subset(chosen),
        )

    def _source_ids_of(self, chosen: NDArray[np.int64]) -> SourceIds | None:
        known = self.source_ids
        return known and SourceIds(tuple(known.images[int(index)] for index in chosen), known.categories)

    @property
    def image_index(self) -> NDArray[np.int64]:
        """[T] image index of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def nbytes(self) -> int:
        """Memory of all arrays in bytes."""
        arrays = (self.sizes, self.image_ids, self.labelled, self.offsets, self.boxes, self.labels, self.ignore)
        proposals = 0 if self.proposals is None else self.proposals.offsets.nbytes + self.proposals.boxes.nbytes
        shards = 0 if self.shards is None else self.shards.nbytes
        return self.paths.nbytes + self.areas.nbytes + proposals + shards + sum(array.nbytes for array in arrays)


def _rows_of(offsets: NDArray[np.int64], index: int) -> slice:
    return slice(int(offsets[index]), int(offsets[index + 1]))


def _chosen_rows(offsets: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The offsets of the images ``chosen`` alone, and the rows that they had among all."""
    counts = np.diff(offsets)[chosen]
    own = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return own, np.repeat(offsets[chosen] - own[:-1], counts) + np.arange(own[-1])


def _clipped(
    boxes: NDArray[np.float32], image_size: tuple[int, int] | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes cut to an image of (height, width), if it is given, and which of them are in it."""
    if image_size is None:
        return boxes, np.ones(len(boxes), dtype=np.bool_)
    height, width = image_size
    boxes = np.minimum(boxes, np.array([width, height, width, height], dtype=np.float32))
    return boxes, (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def concatenate(datasets: Sequence[DetectionDataset]) -> DetectionDataset:
    """Concatenate ``datasets``, which must have the same classes.

    Image ids stay as they are if no two images share one and all are 64-bit integers, else they become 0, 1, 2, ...

    Raises:
        ValueError: if the class names differ, or there is no data set.
    """
    first = datasets[0]
    if len(datasets) == 1:
        return first
    if any(dataset.names != first.names for dataset in datasets):
        raise ValueError("data sets of different classes cannot be joined")
    ends = np.cumsum([0, *(len(dataset.boxes) for dataset in datasets)])
    image_ids = np.concatenate([dataset.image_ids for dataset in datasets])
    if len(np.unique(image_ids)) < len(image_ids) or any(dataset.source_ids for dataset in datasets):
        image_ids = np.arange(len(image_ids))
    offsets = [dataset.offsets[:-1] + start for dataset, start in zip(datasets, ends, strict=False)]
    return replace(
        first,
        paths=FlatStrings(path for dataset in datasets for path in dataset.paths),
        sizes=np.concatenate([dataset.sizes for dataset in datasets]),
        image_ids=image_ids,
        labelled=np.concatenate([dataset.labelled for dataset in datasets]),
        offsets=np.concatenate([*offsets, ends[-1:]]),
        boxes=np.concatenate([dataset.boxes for dataset in datasets]),
        labels=np.concatenate([dataset.labels for dataset in datasets]),
        ignore=np.concatenate([dataset.ignore for dataset in datasets]),
        areas=np.concatenate([dataset.areas for dataset in datasets]),
        problems=tuple(problem for dataset in datasets for problem in dataset.problems),
        notes=tuple(dict.fromkeys(note for dataset in datasets for note in dataset.notes)),
        source_ids=None,
        shards=join_shards([(dataset.shards, len(dataset)) for dataset in datasets]),
    )
