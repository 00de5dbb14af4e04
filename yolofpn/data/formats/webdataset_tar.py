"""WebDataset's tar files (shards): images with their labels beside them, for sets too large for single files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from yolofpn.addresses import is_url
from yolofpn.data.assemble import BoxRows, ImageList, assemble
from yolofpn.data.class_names import normalise_name
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.image_files import Layout, Part, read_lines, split_folders_in, split_name
from yolofpn.data.label_format import DataFiles
from yolofpn.data.shard_index import ShardIndex, read_index
from yolofpn.data.shards import Shards, has_password, image_name, shard_name, shards_in
from yolofpn.errors import InputError, UserError


class WebDatasetTar:
    """A part is a folder of tar files, one tar file, or a text file with a path or URL in each line."""

    key: ClassVar[str] = "webdataset"
    title: ClassVar[str] = "WebDataset shards"
    suffixes: ClassVar[tuple[str, ...]] = (".tar",)
    one_file: ClassVar[bool] = True
    has_sizes: ClassVar[bool] = False

    def __init__(self, files: DataFiles) -> None:
        self._files = files
        self._problems: dict[str, str] = {}

    @classmethod
    def recognise(cls, folder: Path) -> Layout | None:
        """Tar files in the folders of the splits, or all in one."""
        places = {split_name(place.name): place for place in split_folders_in(folder) if shards_in([place])}
        if not places and shards_in([folder]):
            places = {"train": folder}
        if not places:
            return None
        splits: dict[str, tuple[Part, ...]] = {split: (Part(place),) for split, place in places.items()}
        return Layout(cls.key, folder, f"{cls.title} in {folder}", splits)

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """Never: ``recognise`` knows them all."""
        return False

    def class_names(self) -> tuple[str, ...]:
        """The names in the labels of all splits, in alphabetical order.

        Raises:
            UserError: a shard is missing, or labels are numbers.
        """
        found: set[str | int] = set()
        for part in self._files.parts:
            for _, index in self._indices(part):
                found.update(label[0] for member in index.members for label in member.labels or ())
        if numbers := [name for name in found if isinstance(name, int)]:
            raise UserError(
                f"{self._files.layout.origin}: labels name classes by number, such as {min(numbers)}: "
                "a data YAML has to say their names"
            )
        return tuple(sorted(str(name) for name in found))

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """The images and boxes of the shards of a part, shard by shard.

        Raises:
            UserError: the part names no shards, or none can be read.
        """
        images, rows, problems, files = ImageList(), BoxRows(), [], list[str]()
        shard, offsets, sizes = list[int](), list[int](), list[int]()
        label_of = {normalise_name(name): label for label, name in enumerate(names)}
        places: list[str] = []
        for url, index in self._indices(part):
            places.append(url)
            problems += [Problem(ProblemKind.MALFORMED, name, reason) for name, reason in index.problems]
            for member in index.members:
                name = image_name(url, member.name)
                for count, (written, *box, ignore) in enumerate(member.labels or (), start=1):
                    label = written if isinstance(written, int) else label_of.get(normalise_name(written))
                    if label is None or not 0 <= label < len(names):
                        reason = f"object {count}: class {written!r} is not among the names: dropped"
                        problems.append(Problem(ProblemKind.UNKNOWN_CLASS, name, reason))
                    else:
                        rows.add(len(images.paths), count, label, box, ignore=bool(ignore))
                images.paths.append(Path(name))
                images.sizes.append((member.height, member.width))
                images.labelled.append(member.labels is not None)
                files.append(name)
                shard.append(len(places) - 1)
                offsets.append(member.offset)
                sizes.append(member.size)
        problems += [Problem(ProblemKind.MALFORMED, place, reason) for place, reason in self._problems.items()]
        dataset = assemble(names, images, rows, problems, file_of=lambda image: files[image], item="object")
        where = Shards(tuple(places), np.array(shard, np.int32), np.array(offsets, np.int64), np.array(sizes, np.int64))
        return replace(dataset, shards=where)

    def _indices(self, part: Part) -> Iterator[tuple[str, ShardIndex]]:
        """The shards of a part that can be read, one at a time: a million images take gigabytes in this form."""
        count, first = 0, ""
        for place in _places(part):
            try:
                index = read_index(place)
            except InputError as error:
                first = first or str(error)
                self._problems[shard_name(place)] = f"{error}: skipped"
                continue
            count += 1
            yield place, index
        if not count:
            raise UserError(f"{part.images}: none of its shards can be read: {first}")


def _places(part: Part) -> list[str]:
    """Paths and URLs of the shards of a part."""
    images = part.images
    if images.is_dir():
        found = [str(path) for path in shards_in([images])]
    elif images.suffix == ".tar" and images.is_file():
        found = [str(images)]
    elif images.is_file():
        found = [line if is_url(line) else str(images.parent / line) for line in read_lines(images)]
    else:
        raise UserError(f"{images}: no such folder of tar files, tar file, or list of them")
    if not found:
        raise UserError(f"{images}: has no tar file")
    if any(map(has_password, found)):
        raise UserError(f"{images}: a URL has a user or password: give them in the environment, not in files")
    return found
