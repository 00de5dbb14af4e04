"""From what a user gives as ``--data`` to data sets: train, val, and any others that it has."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from yolofpn.data.coco import read_coco
from yolofpn.data.dataset import DetectionDataset, Problem, concatenate
from yolofpn.data.exports import layout_of_darknet_data, layout_of_yaml
from yolofpn.data.files import Layout, Part, label_candidates, pictures_of, read_lines
from yolofpn.data.folders import layout_of_folder
from yolofpn.data.names import numbered_names
from yolofpn.data.voc import read_voc, voc_class_names
from yolofpn.data.yolo_txt import count_classes, read_yolo
from yolofpn.errors import UserError
from yolofpn.reading import check_class_names

HELD_OUT_SHARE = 0.1


def recognise(data: str | Path, root: Path | None = None) -> Layout:
    """What kind of data set ``data`` is, and where its splits lie.

    Args:
        data: our YAML, a data.yaml of Ultralytics, Roboflow or CVAT, a Darknet ``.data`` file, or a folder.
        root: the data set's folder, instead of the one that a file names.

    Raises:
        UserError: it does not exist, or is nothing known.
    """
    path = Path(data)
    if path.is_dir():
        return layout_of_folder(path)
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
    """A data set with its splits, each of which is read when it is asked for.

    Attributes:
        layout: what it was taken for.
        notes: lines to print: what it was taken for, what was held out, which pictures have no label, what was wrong.
    """

    layout: Layout
    notes: list[str] = field(default_factory=list)
    _names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        splits = ", ".join(self.layout.splits)
        self.notes.append(f"data: {self.layout.description}; splits: {splits}")
        self._names = self.layout.names

    @property
    def holds_out(self) -> bool:
        """Whether ``val`` is the held-out tenth of ``train``, for want of a split of that name."""
        return "val" not in self.layout.splits and "train" in self.layout.splits

    def load(self, split: str) -> DetectionDataset:
        """The pictures and boxes of a split; ``all`` is train without holding anything out.

        All splits that one source gives have the same classes in the same order.

        Raises:
            UserError: there is no such split, its files are missing, or none of its pictures has a label.
        """
        stored = "train" if split == "all" or (split == "val" and self.holds_out) else split
        if stored not in self.layout.splits:
            known = ", ".join(self.layout.splits)
            raise UserError(f"{self.layout.origin}: has no split {split!r}; it has {known}")
        dataset = concatenate([self._read(part) for part in self.layout.splits[stored]])
        self._names = dataset.names
        if not len(dataset):
            places = ", ".join(str(part.images) for part in self.layout.splits[stored])
            raise UserError(f"{self.layout.origin}: split {split!r} has no pictures: looked in {places}")
        if not dataset.labelled.any():
            raise UserError(self._explain_no_labels(dataset, stored))
        if self.holds_out and split in ("train", "val"):
            dataset = self._hold_out(dataset, split)
        self._note(dataset, split)
        return dataset

    def _read(self, part: Part) -> DetectionDataset:
        if self.layout.format == "coco":
            return self._read_coco(part)
        missing: list[Problem] = []
        pictures = pictures_of(part, missing)
        if self.layout.format == "voc":
            annotations = [_first_existing(label_candidates(picture, part, ".xml")) for picture in pictures]
            dataset = read_voc(pictures, annotations, self._class_names())
        else:
            labels = [_first_existing(label_candidates(picture, part, ".txt")) for picture in pictures]
            dataset = read_yolo(pictures, labels, self._class_names())
        return replace(dataset, problems=(*missing, *dataset.problems))

    def _read_coco(self, part: Part) -> DetectionDataset:
        files = [other.annotations for parts in self.layout.splits.values() for other in parts if other.annotations]
        siblings = [path for path in files if path != part.annotations]
        if part.annotations is None:
            raise UserError(f"{self.layout.origin}: format coco needs 'annotations', the JSON file")
        dataset = read_coco(part.annotations, part.images, names=self._names, siblings=siblings)
        self._names = dataset.names
        return dataset if part.list is None else _listed_subset(dataset, part.list)

    def _class_names(self) -> tuple[str, ...]:
        """The classes; if nothing names them, those that the annotations of any split mention."""
        if self._names is None:
            suffix = ".xml" if self.layout.format == "voc" else ".txt"
            parts = [part for parts in self.layout.splits.values() for part in parts if part.images.exists()]
            files = [
                _first_existing(label_candidates(picture, part, suffix))
                for part in parts
                for picture in pictures_of(part, [])
            ]
            if self.layout.format == "voc":
                self._names = voc_class_names(files)
                check_class_names(self._names, self.layout.origin)
            else:
                self._names = numbered_names(count_classes(files), self.layout.origin)
                self.notes.append(f"data: no class names found: they are called 0 to {len(self._names) - 1}")
        return self._names

    def _hold_out(self, dataset: DetectionDataset, split: str) -> DetectionDataset:
        held_out = held_out_mask(dataset)
        chosen = held_out if split == "val" else ~held_out
        if not any("held out" in note for note in self.notes):
            self.notes.append(
                f"data: no validation split: {int(held_out.sum())} of {len(dataset)} training pictures are held out "
                f"for it, chosen by a hash of their names"
            )
        subset = dataset.subset(np.flatnonzero(chosen))
        return replace(subset, problems=dataset.problems if split == "train" else ())

    def _note(self, dataset: DetectionDataset, split: str) -> None:
        counted = f"{len(dataset)} pictures, {len(dataset.boxes)} boxes, {len(dataset.names)} classes"
        self.notes.append(f"{split}: {counted}")
        if unlabelled := int((~dataset.labelled).sum()):
            what = "annotation" if self.layout.format == "coco" else "label file"
            self.notes.append(f"{split}: {unlabelled} of {len(dataset)} pictures have no {what}: taken as background")
        if dataset.problems:
            counts = Counter(problem.kind.value for problem in dataset.problems).most_common()
            listed = ", ".join(f"{count} x {kind}" for kind, count in counts)
            self.notes.append(f"{split}: {listed} (python -m yolofpn check names each)")

    def _explain_no_labels(self, dataset: DetectionDataset, stored: str) -> str:
        if self.layout.format == "coco":
            files = ", ".join(str(part.annotations) for part in self.layout.splits[stored])
            return f"{files}: has no annotation for any of its {len(dataset)} pictures"
        suffix = ".xml" if self.layout.format == "voc" else ".txt"
        part = self.layout.splits[stored][0]
        pictures = [Path(path) for path in dataset.paths[:2]]
        looked = [place for picture in pictures for place in label_candidates(picture, part, suffix)]
        return (
            f"{self.layout.origin}: none of the {len(dataset)} pictures of {stored!r} has a label file\n"
            f"looked for {' and '.join(str(place) for place in looked[:2])}"
        )


def open_data(data: str | Path, root: Path | None = None) -> DataSource:
    """Recognise a data set; its splits are read later, by ``load``.

    Args:
        data: as ``recognise``.
        root: the data set's folder, instead of the one that a file names.

    Raises:
        UserError: it does not exist, or is nothing known.
    """
    return DataSource(recognise(data, root))


def held_out_mask(dataset: DetectionDataset) -> NDArray[np.bool_]:
    """[N] True for the tenth of the pictures that serves as validation split, at least one if there are two.

    A picture's hash decides, so adding others never moves it. Copies that Roboflow made of one picture
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


def _first_existing(candidates: list[Path]) -> Path:
    """The first that exists, else the likeliest: readers take a missing file for background."""
    return next((path for path in candidates if path.is_file()), candidates[0])


def _listed_subset(dataset: DetectionDataset, names: Path) -> DetectionDataset:
    wanted = {PurePosixPath(line.replace("\\", "/")).name for line in read_lines(names)}
    paths = (PurePosixPath(path) for path in dataset.paths)
    chosen = [index for index, path in enumerate(paths) if path.name in wanted or path.stem in wanted]
    return replace(dataset.subset(chosen), problems=dataset.problems)
