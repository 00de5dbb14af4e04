"""The interface of label formats, and the files of a data set passed to them."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from yolofpn.data.dataset import DetectionDataset, Problem
from yolofpn.data.image_files import Layout, NameFinder, Part, images_of, label_candidates
from yolofpn.errors import UserError
from yolofpn.regular_files import open_regular_file


@dataclass
class DataFiles:
    """The files of one data set.

    Attributes:
        layout: layout of the data set.
        suffix: suffix of the label files.
        notes: messages about decisions for the whole data set.
        finder: finds files whose names are in another Unicode form than written.
    """

    layout: Layout
    suffix: str
    notes: list[str] = field(default_factory=list)
    finder: NameFinder = field(default_factory=NameFinder)
    _images: dict[Part, tuple[list[Path], list[Problem]]] = field(default_factory=dict)

    @property
    def parts(self) -> list[Part]:
        """The parts of all splits."""
        return [part for parts in self.layout.splits.values() for part in parts]

    def annotations(self, part: Part) -> Path:
        """Return the label file of a part.

        Raises:
            UserError: if the layout names none.
        """
        if part.annotations is None:
            raise UserError(f"{part.images}: a data set of this format needs 'annotations', its file")
        return part.annotations

    def images(self, part: Part) -> list[Path]:
        """The images of a part.

        Raises:
            UserError: if their folder or list does not exist.
        """
        return self._listed(part)[0]

    def missing(self, part: Part) -> list[Problem]:
        """Return the problems of images that are listed but missing."""
        return self._listed(part)[1]

    def labels(self, part: Part) -> list[Path]:
        """Return the label file of each image of a part; it may not exist.

        Raises:
            UserError: as ``images``.
        """
        return [self._existing(label_candidates(image, part, self.suffix)) for image in self.images(part)]

    def all_labels(self) -> Iterator[Path]:
        """The label file of each image of every split that is there."""
        for part in self.present_parts():
            yield from self.labels(part)

    def present_parts(self) -> Iterator[Part]:
        """Yield the parts whose images exist."""
        for part in self.parts:
            try:
                self._listed(part)
            except UserError:
                continue
            yield part

    def _listed(self, part: Part) -> tuple[list[Path], list[Problem]]:
        if part not in self._images:
            missing: list[Problem] = []
            self._images[part] = images_of(part, missing), missing
        return self._images[part]

    def _existing(self, candidates: list[Path]) -> Path:
        """Return the first existing candidate, else the most likely one: a missing file means background."""
        if candidates[0].is_file():
            return candidates[0]
        found = (self.finder.find(path) for path in candidates)
        return next((path for path in found if path is not None and path.is_file()), candidates[0])


class LabelFormat(Protocol):
    """A label format; an instance reads the labels of one data set.

    Attributes:
        key: its name in a data YAML.
        title: name of such a data set, for messages.
        suffixes: of its label files, in lower case with the dot; where each image has its own file, one.
        one_file: whether a file holds the labels of all images of a part; else each image has a file of its own.
        has_sizes: whether labels tell the size of their image, so that one that was resized since is noticed.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    one_file: ClassVar[bool]
    has_sizes: ClassVar[bool]

    def __init__(self, files: DataFiles) -> None: ...

    @classmethod
    def recognise(cls, folder: Path) -> Layout | None:
        """A data set whose folders and file names only this format has; None if ``folder`` is none.

        What needs no rule of its own is found without this method, by ``matches``: label files beside the images or in
        the usual folders, and one file of any name at the top or in ``annotations/``.
        """
        ...

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """Whether some of these files, all with one of ``suffixes``, are labels of this format.

        Args:
            files: candidates, in no particular order.
            stems: composed (Unicode NFC) names of the images beside them without suffix; for formats with ``one_file``
                empty.
        """
        ...

    def class_names(self) -> tuple[str, ...]:
        """The classes of all parts by label, where the layout does not name them.

        Raises:
            UserError: if a file that has to name them cannot be read.
        """
        ...

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """The images and boxes of one part; whatever is wrong with single labels goes into its ``problems``.

        Args:
            part: which one.
            names: the classes by label: those that the layout names, else ``class_names()``.

        Raises:
            UserError: if its files are missing or of another format.
        """
        ...


def has_words(path: Path, *words: str) -> bool:
    """Return whether a file contains all these words, to recognise its format before parsing."""
    try:
        with open_regular_file(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(word.encode()) >= 0 for word in words)
    except (OSError, ValueError):  # it is empty, or no file
        return False
