"""Reads the parts of a data set of any format."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.formats import format_named
from yolofpn.data.image_files import Layout, Part, read_lines
from yolofpn.data.label_format import DataFiles, LabelFormat
from yolofpn.reading import check_class_names


@dataclass
class Reader:
    """Reads the parts of one data set; every part has the same classes, in whatever order they are read.

    Attributes:
        layout: where they lie.
        notes: lines to print on what the whole set decided.
    """

    layout: Layout
    notes: list[str] = field(default_factory=list)
    _files: DataFiles = field(init=False)
    _format: LabelFormat = field(init=False)

    def __post_init__(self) -> None:
        label_format = format_named(self.layout.format)
        self._files = DataFiles(self.layout, label_format.suffixes[0], self.notes)
        self._format = label_format(self._files)

    def read(self, part: Part) -> DetectionDataset:
        """The images and boxes of a part.

        Raises:
            UserError: if its files are missing or of another format.
        """
        dataset = self._format.read(part, self.names)
        if self._format.one_file:
            return _listed_subset(dataset, part.list)
        return replace(dataset, problems=(*self._files.missing(part), *dataset.problems))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The classes by label: those that the layout names, else those of the annotations.

        Raises:
            UserError: if an annotation file that has to name them is not readable.
        """
        if self.layout.names is not None:
            return self.layout.names
        names = self._format.class_names()
        check_class_names(names, self.layout.origin)
        return names


def _listed_subset(dataset: DetectionDataset, names: Path | None) -> DetectionDataset:
    """Return the images that a list names."""
    if names is None:
        return dataset
    wanted = {PurePosixPath(line.replace("\\", "/")).name for line in read_lines(names)}
    paths = (PurePosixPath(path) for path in dataset.paths)
    chosen = [index for index, path in enumerate(paths) if path.name in wanted or path.stem in wanted]
    return replace(dataset.subset(chosen), problems=dataset.problems)
