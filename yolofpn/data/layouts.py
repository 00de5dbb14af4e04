"""Opens the data set of ``--data`` and its splits."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from yolofpn.config import VocCorners
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind, concatenate
from yolofpn.data.exports import layout_of_darknet_data, layout_of_yaml
from yolofpn.data.folders import layout_of_folder
from yolofpn.data.formats import format_named
from yolofpn.data.image_files import Layout, describe_unread_files, label_candidates
from yolofpn.data.images import image_size
from yolofpn.data.readers import Reader
from yolofpn.errors import InputError, UserError
from yolofpn.regular_files import special_kind
from yolofpn.shipped import find_config
from yolofpn.text import command

HELD_OUT_SHARE = 0.1
SIZES_LOOKED_AT = 1000  # images of a split whose size is compared with the annotated one when it is opened


def recognise(data: str | Path, root: Path | None = None) -> Layout:
    """Recognise the format of the data set ``data`` and its splits.

    Args:
        data: our YAML, a data.yaml of Ultralytics, Roboflow or CVAT, a Darknet ``.data`` file, or a folder.
        root: the data set's folder, instead of the one that a file names.

    Raises:
        UserError: it does not exist, or is in no known format.
    """
    path = find_config(data)
    if path.is_dir():
        return layout_of_folder(path)
    if kind := special_kind(path):
        raise UserError(f"{path}: is {kind}: give a file or folder")
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder: give a data YAML such as cfg/data/coco.yaml, or a folder")
    match path.suffix.lower():
        case ".yaml" | ".yml":
            return layout_of_yaml(path, root)
        case ".data":
            return layout_of_darknet_data(path, root)
        case _:
            raise UserError(f"{path}: no data set: expected a .yaml or .data file, or a folder")


@dataclass
class DataSource:
    """A data set whose splits are read lazily.

    Attributes:
        layout: the recognised layout.
        notes: lines to print: what it was taken for, what was held out, which images have no label, what was wrong.
    """

    layout: Layout
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        splits = ", ".join(self.layout.splits)
        self.notes.append(f"data: {self.layout.description}; splits: {splits}")
        self._format = format_named(self.layout.format)
        self._reader = Reader(self.layout, self.notes)

    @property
    def holds_out(self) -> bool:
        """Whether ``val`` is a held-out tenth of ``train``, because there is no such split."""
        return "val" not in self.layout.splits and "train" in self.layout.splits

    def load(self, split: str) -> DetectionDataset:
        """Load a split; ``all`` is train without held-out images.

        All splits that one source gives have the same classes in the same order, whichever is loaded first.

        Raises:
            UserError: if there is no such split, its files are missing, or none of its images has a label.
        """
        stored = "train" if split == "all" or (split == "val" and self.holds_out) else split
        if stored not in self.layout.splits:
            known = ", ".join(self.layout.splits) + (" and val, a held-out tenth of it" if self.holds_out else "")
            raise UserError(f"{self.layout.origin}: has no split {split!r}; it has {known}")
        dataset = concatenate([self._reader.read(part) for part in self.layout.splits[stored]])
        if not len(dataset):
            places = ", ".join(str(part.images) for part in self.layout.splits[stored])
            raise UserError(f"{self.layout.origin}: split {split!r} has no images: looked in {places}")
        if not dataset.labelled.any():
            raise UserError(self._explain_no_labels(dataset, stored))
        if not len(dataset.boxes):
            reason = f"none of the {int(dataset.labelled.sum())} labelled images of {stored!r} has a box"
            problem = Problem(ProblemKind.NO_BOXES, str(self.layout.origin), reason)
            dataset = replace(dataset, problems=(*dataset.problems, problem))
        self._add_notes(dataset.notes)
        if self.holds_out and split in ("train", "val"):
            dataset = self._hold_out(dataset, split)
        self._note(dataset, split, stored)
        return dataset

    def _add_notes(self, notes: Iterable[str]) -> None:
        self.notes.extend(note for note in notes if note not in self.notes)

    def _hold_out(self, dataset: DetectionDataset, split: str) -> DetectionDataset:
        if len(dataset) == 1:
            self._add_notes(["warning: one image only: it is also the validation split, so AP tells nothing of others"])
            return replace(dataset, problems=dataset.problems if split == "train" else ())
        held_out = held_out_mask(dataset)
        chosen = held_out if split == "val" else ~held_out
        if not any("held out" in note for note in self.notes):
            self.notes.append(
                f"data: no validation split: {int(held_out.sum())} of {len(dataset)} training images are held out "
                f"for it, chosen by a hash of their names"
            )
        subset = dataset.subset(np.flatnonzero(chosen))
        return replace(subset, problems=dataset.problems if split == "train" else ())

    def _note(self, dataset: DetectionDataset, split: str, stored: str) -> None:
        counted = f"{len(dataset)} images, {len(dataset.boxes)} boxes, {len(dataset.names)} classes"
        self.notes.append(f"{split}: {counted}")
        if unlabelled := int((~dataset.labelled).sum()):
            what = "annotation" if self._format.one_file else "label file"
            self.notes.append(f"{split}: {unlabelled} of {len(dataset)} images have no {what}: taken as background")
        if dataset.problems:
            counts = Counter(problem.kind.value for problem in dataset.problems).most_common()
            listed = ", ".join(f"{count} x {kind}" for kind, count in counts)
            self.notes.append(f"{split}: {listed} ({command('check')} names each)")
        unread = describe_unread_files(part.images for part in self.layout.splits[stored])
        unread = unread and f"data: {unread}"
        # Where labels tell no size, that of the images was read just now.
        resized = resized_note(dataset, split) if self._format.has_sizes else None
        self._add_notes(note for note in (resized, unread) if note is not None)

    def _explain_no_labels(self, dataset: DetectionDataset, stored: str) -> str:
        if self._format.one_file:
            files = ", ".join(str(part.annotations) for part in self.layout.splits[stored])
            return f"{files}: has no annotation for any of its {len(dataset)} images"
        if dataset.problems:
            first = dataset.problems[0]
            return (
                f"{self.layout.origin}: none of the labels of the {len(dataset)} images of {stored!r} can be read\n"
                f"the first: {first.file}: {first.reason}"
            )
        part = self.layout.splits[stored][0]
        images = [Path(path) for path in dataset.paths[:2]]
        looked = [place for image in images for place in label_candidates(image, part, self._format.suffixes[0])]
        return (
            f"{self.layout.origin}: none of the {len(dataset)} images of {stored!r} has a label file\n"
            f"looked for {' and '.join(str(place) for place in looked[:2])}"
        )


def open_data(data: str | Path, root: Path | None = None, voc_corners: VocCorners | None = None) -> DataSource:
    """Recognise a data set; its splits are read later, by ``load``.

    Args:
        data: as ``recognise``.
        root: the data set's folder, instead of the one that a file names.
        voc_corners: how the corners in VOC XML are read; default: as stated in the data set or detected.

    Raises:
        UserError: it does not exist, or is in no known format.
    """
    layout = recognise(data, root)
    return DataSource(layout if voc_corners is None else replace(layout, voc_corners=voc_corners))


def resized_note(dataset: DetectionDataset, split: str) -> str | None:
    """Return a message about images resized since labelling; None if there are none among the checked ones."""
    step = max(1, -(-len(dataset) // SIZES_LOOKED_AT))
    looked_at = range(0, len(dataset), step)
    found = [(index, size) for index in looked_at if (size := _other_size(dataset, index)) is not None]
    if not found:
        return None
    index, (height, width) = found[0]
    annotated_height, annotated_width = dataset.sizes[index].tolist()
    return (
        f"{split}: {len(found)} of {len(looked_at)} images looked at were resized after labelling, such as "
        f"{dataset.paths[index]} ({annotated_width}x{annotated_height} to {width}x{height}): their boxes are scaled"
    )


def _other_size(dataset: DetectionDataset, index: int) -> tuple[int, int] | None:
    """(height, width) of an image if its boxes are scaled to it."""
    try:
        size = image_size(Path(dataset.paths[index]), channels=dataset.form.channels)
    except InputError:
        return None
    annotated = tuple(dataset.sizes[index].tolist())
    return None if size in (annotated, annotated[::-1]) else size


def held_out_mask(dataset: DetectionDataset) -> NDArray[np.bool_]:
    """[N] True for the tenth of the images that serves as validation split, at least one if there are two.

    An image's hash decides, so adding others never moves it. Copies that Roboflow made of one image
    (``NAME.rf.HASH.jpg``) stay together.
    """
    shares = np.array([_hash_share(path) for path in dataset.paths])
    held_out = shares < HELD_OUT_SHARE
    if not held_out.any() and len(shares) > 1:
        held_out[shares.argmin()] = True
    return held_out


def _hash_share(path: str) -> float:
    name = re.sub(r"\.rf\.[0-9a-f]+(?=\.\w+$)", "", PurePosixPath(path).name)
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
