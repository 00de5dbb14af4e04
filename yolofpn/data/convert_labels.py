"""Writes a data set in another label format."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias, get_args

import numpy as np

from yolofpn.config import VocCorners
from yolofpn.data.dataset import DetectionDataset, ProblemKind
from yolofpn.data.layouts import DataSource, open_data
from yolofpn.data.writers import WRITERS
from yolofpn.data.writers.labelled import LabelWriter, WrittenImage, WrittenObject, WrittenSplit, exact
from yolofpn.data.writers.losses import described, losses
from yolofpn.data.writers.webdataset_writer import WebDatasetWriter, pack_shards
from yolofpn.errors import InputError, UserError
from yolofpn.files import write_errors
from yolofpn.reading import is_encodable
from yolofpn.text import as_yaml, counted, list_line, one_line_names, printable

ImageChoice: TypeAlias = Literal["copy", "link", "none"]
IMAGE_CHOICES: tuple[ImageChoice, ...] = get_args(ImageChoice)
_DATA_YAML = "data.yaml"
_SAME_AREA = 1e-3  # relative; what differs more from the box's area is that of a polygon or mask


@dataclass
class Conversion:
    """What was written, and what was not.

    Attributes:
        lines: to print: what was read, written and lost.
        failures: labels and images that are not in the output, one line each.
    """

    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def convert_labels(
    data: str | Path,
    output: Path,
    label_format: str,
    *,
    images: ImageChoice = "copy",
    splits: Sequence[str] | None = None,
    root: Path | None = None,
    voc_corners: VocCorners | None = None,
    write_corners: str = "devkit",
) -> Conversion:
    """Write a data set in another format; the output is complete or does not exist.

    Args:
        data: as ``open_data`` takes it.
        output: a folder that is new or empty.
        label_format: the key of one of ``WRITERS``.
        images: copy them, link to them, or leave them where they are.
        splits: which; all by default.
        root: the data set's folder, instead of the one that a file names.
        voc_corners: how the corners in VOC's XML are read, instead of how they look.
        write_corners: how they are written: ``devkit`` or ``cvat``.

    Raises:
        UserError: if the data set cannot be read, the output is not empty or cannot be written, or nothing is left.
    """
    writer = {known.key: known for known in WRITERS}[label_format]
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: exists and is not empty: choose a new folder")
    shards = writer is WebDatasetWriter
    if shards and images == "none":
        raise UserError("--images none: shards hold their images")
    source = open_data(data, root, voc_corners)
    result = Conversion()
    loaded = _load(source, splits, result)
    if not loaded:
        raise UserError(f"{data}: no split can be read\n{result.failures[0]}")
    result.lines += source.notes
    for dataset in loaded.values():
        for problem in dataset.problems:
            harmless = problem.kind in (ProblemKind.DUPLICATE, ProblemKind.NO_BOXES)
            (result.lines if harmless else result.failures).append(f"{problem.file}: {problem.reason}")
    keep_ids = source.layout.format == "coco"
    with _replacing(output) as folder:
        placed: ImageChoice = "link" if shards else images  # tar files get what links point to
        job = _Job(writer, folder, output.absolute(), placed, result, write_corners, keep_ids)
        job.write(loaded)
        if shards:
            for place in sorted(path for path in folder.iterdir() if path.is_dir()):
                count, unreadable = pack_shards(place, place.name)
                result.lines.append(f"{place.name}: {counted(count, 'shard')}")
                result.failures += unreadable
    if keep_ids and "ids" not in writer.keeps:
        count = sum(map(len, loaded.values()))
        result.lines.append(f"lost: the ids of {count} images and of the categories: {writer.key} has none")
    result.lines.append(f"written: {output} ({writer.help}), which --data {output} reads")
    return result


def _load(source: DataSource, splits: Sequence[str] | None, result: Conversion) -> dict[str, DetectionDataset]:
    """The splits, or, unless some are asked for, those of them that can be read."""
    loaded: dict[str, DetectionDataset] = {}
    for split in splits or tuple(source.layout.splits):
        try:
            loaded[split] = source.load("all" if split == "train" else split)
        except UserError as error:
            if splits or len(source.layout.splits) == 1:
                raise
            result.failures.append(f"{split}: skipped: {' '.join(str(error).splitlines())}")
    return loaded


@contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """A folder beside ``output`` that gets its name once everything is written, and is removed if that fails."""
    part = output.absolute().parent / f".{output.absolute().name}.{os.getpid()}.part"
    with write_errors(output):
        part.mkdir(parents=True)
        try:
            yield part
            if output.exists():
                output.rmdir()
            part.rename(output)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


@dataclass
class _Job:
    writer: type[LabelWriter]
    folder: Path
    final: Path
    images: ImageChoice
    result: Conversion
    corners: str
    keep_ids: bool
    _taken: set[str] = field(default_factory=set)
    _count: int = 0

    @property
    def _by_split(self) -> bool:
        """Whether images of different splits never meet."""
        return "{split}" in self.writer.image_folder

    def write(self, loaded: dict[str, DetectionDataset]) -> None:
        """Write images and labels of all splits, and the files that they share."""
        written, roots = [], {}
        shared_root = _common_root(loaded.values())
        for name, dataset in loaded.items():
            safe = re.sub(r"[^\w.-]", "_", name)
            shares = self.images == "none" and not self._by_split  # one folder of label files for all splits
            roots[safe] = shared_root if shares else _common_root([dataset])
            split = self._split(safe, dataset, roots[safe])
            written.append(split)
            for path, content in self.writer.files(split):
                self._write_text(path, content)
            self.result.lines.append(described(split))
        self.result.lines += losses(self.writer, written)
        shared = dict(self.writer.shared_files(written))
        for path, content in shared.items():
            self._write_text(path, content)
        self._write_text(_DATA_YAML, self._data_yaml(written, roots))

    def _split(self, name: str, dataset: DetectionDataset, common: Path) -> WrittenSplit:
        """A split with its images in place; ``common`` is the folder that these come from."""
        paths = _absolute(dataset)
        if self._by_split:
            self._taken = set()
        boxes, areas = exact(dataset.boxes), _other_areas(dataset)
        ids = self._image_ids(dataset)
        images = []
        for index, path in enumerate(paths):
            try:
                placed = self._place(path, common, name, dataset.encoded(index) if self.images != "none" else None)
            except InputError as error:
                self.result.failures.append(f"{error}: skipped")
                continue
            if placed is None:
                continue
            entries = [
                WrittenObject(
                    dataset.names[dataset.labels[row]],
                    int(dataset.labels[row]),
                    boxes[row],
                    bool(dataset.ignore[row]),
                    areas[row],
                )
                for row in range(int(dataset.offsets[index]), int(dataset.offsets[index + 1]))
            ]
            height, width = dataset.sizes[index].tolist()
            images.append(
                WrittenImage(
                    placed,
                    (height, width),
                    entries,
                    bool(dataset.labelled[index]),
                    ids[index],
                    self._reference(path, placed, name),
                )
            )
        return WrittenSplit(name, images, dataset.names, self._category_ids(dataset), self.corners)

    def _place(self, path: Path, common: Path, split: str, encoded: bytes | None) -> str | None:
        """Copy or link an image, or write it (``encoded``); its name in the image folder, None where that fails."""
        if self.images == "none":
            name = path.relative_to(common).as_posix()
            if not self._claim(name):
                self.result.failures.append(f"{path}: another image would have the same label file: skipped")
                return None
            return name
        name = self._free_name(path, common)
        target = self.folder / self.writer.image_folder.format(split=split) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if encoded is not None:
                target.write_bytes(encoded)
            elif self.images == "link":
                if self.writer is WebDatasetWriter:
                    path.open("rb").close()  # what cannot be packed gets no labels
                target.symlink_to(path)
            else:
                shutil.copyfile(path, target)
        except OSError as error:
            if error.filename2 is None and error.filename != str(path):
                raise
            if self.images == "link" and error.filename2 is not None:
                raise UserError(f"{target.name}: cannot be linked: {error.strerror}: use --images copy") from None
            self.result.failures.append(f"{path}: cannot be read: {error.strerror}: skipped")
            return None
        return name

    def _free_name(self, path: Path, common: Path) -> str:
        """A name that no other image has, and that UTF-8 files can hold."""
        parts = path.relative_to(common).parts
        plain = ("__" if self.writer.flat else "/").join(parts)
        name = "".join(c if is_encodable(c) and printable(c) == c else "_" for c in plain)
        wanted, number = PurePosixPath(name), 1
        while not self._claim(name):
            number += 1
            name = (wanted.parent / f"{wanted.stem}-{number}{wanted.suffix}").as_posix()
        return name

    def _claim(self, name: str) -> bool:
        # Where labels have files of their own, a.jpg and a.png would share one.
        key = name if self.writer.suffix is None else PurePosixPath(name).with_suffix("").as_posix()
        key = unicodedata.normalize("NFC", key).casefold()
        if key in self._taken:
            return False
        self._taken.add(key)
        return True

    def _reference(self, path: Path, name: str, split: str) -> str:
        """What label files call the image, in the formats that say more than its name."""
        if self.writer.root == ".":
            return name if self.images == "none" else f"{self.writer.image_folder.format(split=split)}/{name}"
        if self.images == "none":
            beside = (self.final / self.writer.annotations.format(split=split) / name).parent
            return Path(os.path.relpath(path, beside)).as_posix()
        return PurePosixPath(name).name

    def _image_ids(self, dataset: DetectionDataset) -> Sequence[int | str]:
        if self.keep_ids:
            ids: list[int] = dataset.image_ids.tolist()
            return ids if dataset.source_ids is None else dataset.source_ids.images
        start = self._count + 1
        self._count += len(dataset)
        return range(start, start + len(dataset))

    def _category_ids(self, dataset: DetectionDataset) -> tuple[int | str, ...]:
        if self.keep_ids:
            return dataset.category_ids if dataset.source_ids is None else dataset.source_ids.categories
        return tuple(range(1, len(dataset.names) + 1))

    def _data_yaml(self, splits: Sequence[WrittenSplit], roots: dict[str, Path]) -> str:
        """What ``--data`` reads: the class names in their order and where everything is."""
        names = splits[0].names
        if self.writer.key == "yolo" and self.images != "none":  # as Ultralytics reads it, too
            places = "".join(f"{s.name}: {self.writer.image_folder.format(split=s.name)}\n" for s in splits)
            listed = "".join(f"  {label}: {as_yaml(name)}\n" for label, name in enumerate(one_line_names(names)))
            return f"{places}nc: {len(names)}\nnames:\n{listed}"
        lines = [f"format: {self.writer.key}", f"names: {as_yaml(list(names))}"]
        if self.writer.key == "voc":
            lines.append(f"voc_corners: {self.corners}")
        lines.append("splits:")
        for split in splits:
            part = {
                "images": self.writer.root.format(split=split.name),
                "annotations": self.writer.annotations.format(split=split.name),
            }
            if self.images == "none":
                part["images"] = str(roots[split.name])
            if self.writer.suffix is not None and (self.images == "none" or not self._by_split):
                part["list"] = f"{split.name}.txt" if self.images == "none" else f"ImageSets/Main/{split.name}.txt"
            if self.images == "none" and "list" in part:
                paths = (str(roots[split.name] / image.name) for image in split.images)
                self._write_text(part["list"], "".join(f"{list_line(path)}\n" for path in paths))
            lines.append(f"  {as_yaml(split.name)}: {as_yaml(part)}")
        return "\n".join(lines) + "\n"

    def _write_text(self, path: str, content: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # Names that are not UTF-8: as escapes in JSON, as they are in lists.
        target.write_bytes(content.encode("utf-8", "surrogateescape" if path.endswith(".txt") else "backslashreplace"))


def _absolute(dataset: DetectionDataset) -> list[Path]:
    return [Path(os.path.abspath(path)) for path in dataset.paths]  # noqa: PTH100 links keep their names


def _common_root(datasets: Iterable[DetectionDataset]) -> Path:
    """The innermost folder that holds all images."""
    return Path(os.path.commonpath([path.parent for dataset in datasets for path in _absolute(dataset)]))


def _other_areas(dataset: DetectionDataset) -> list[float | None]:
    """[T] areas as annotated; None for that of the box."""
    boxes = dataset.boxes.astype(np.float64)
    own = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    same = np.abs(dataset.areas - own) <= _SAME_AREA * own
    return [None if equal else float(str(area)) for equal, area in zip(same, dataset.areas, strict=True)]
