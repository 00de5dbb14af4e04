"""Reads the parts of a data set, whatever their format, with what only the whole set can tell: classes, conventions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from yolofpn.data.coco import coco_class_names, read_coco
from yolofpn.data.cvat_xml import parse_cvat, read_cvat
from yolofpn.data.dataset import DetectionDataset, Problem
from yolofpn.data.files import Layout, NameFinder, Part, label_candidates, pictures_of, read_lines
from yolofpn.data.labelme import labelme_class_names, labelme_image, read_labelme
from yolofpn.data.names import numbered_names
from yolofpn.data.voc import VocSurvey, read_voc, survey_voc
from yolofpn.data.yolo_txt import YoloColumns, class_range, read_yolo
from yolofpn.errors import UserError
from yolofpn.reading import check_class_names

SUFFIXES = {"voc": ".xml", "yolo": ".txt", "labelme": ".json"}
_SPLITS_THAT_NAME_CLASSES = ("train", "val")


@dataclass
class Reader:
    """Reads the parts of one data set; every part has the same classes, in whatever order they are read.

    Attributes:
        layout: where they lie.
        notes: lines to print on what the whole set decided.
    """

    layout: Layout
    notes: list[str] = field(default_factory=list)
    _pictures: dict[Part, tuple[list[Path], list[Problem]]] = field(default_factory=dict)
    _finder: NameFinder = field(default_factory=NameFinder)

    def read(self, part: Part) -> DetectionDataset:
        """The images and boxes of a part.

        Raises:
            UserError: its files are missing or of another format.
        """
        match self.layout.format:
            case "coco":
                return _listed_subset(self._read_coco(part), part.list)
            case "cvat":
                return _listed_subset(read_cvat(_annotations(part), part.images, self.names), part.list)
            case "voc":
                pictures, labels, missing = self._labelled(part)
                dataset = read_voc(pictures, labels, self.names, self._voc_survey.corners)
            case "labelme":
                pictures, labels, missing = self._labelled(part)
                dataset = read_labelme(pictures, labels, self.names)
            case "yolo":
                pictures, labels, missing = self._labelled(part)
                dataset = read_yolo(pictures, labels, self.names, self._yolo_columns)
        return replace(dataset, problems=(*missing, *dataset.problems))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The classes by label: those that the layout names, else those of the annotations.

        Raises:
            UserError: an annotation file that has to name them is not readable.
        """
        if self.layout.names is not None and self.layout.format != "coco":
            return self.layout.names
        match self.layout.format:
            case "coco":
                part = self._naming_part
                return self.layout.names or coco_class_names(_annotations(part), self._siblings(part))
            case "cvat":
                files = [_annotations(part) for part in self._parts()]
                return tuple(dict.fromkeys(name for file in files if file.is_file() for name in parse_cvat(file).names))
            case "voc":
                return self._checked(self._voc_survey.names)
            case "labelme":
                return self._checked(labelme_class_names(self._label_files()))
            case "yolo":
                found = class_range(self._label_files())
                names = numbered_names(found[1] + 1 if found else 0, self.layout.origin)
                self.notes.append(f"data: no class names found: they are called 0 to {len(names) - 1}")
                return names

    def _checked(self, names: tuple[str, ...]) -> tuple[str, ...]:
        check_class_names(names, self.layout.origin)
        return names

    @cached_property
    def _voc_survey(self) -> VocSurvey:
        survey = survey_voc(self._label_files(), self.layout.voc_corners)
        if (note := survey.corners.note()) is not None:
            self.notes.append(note)
        return survey

    @cached_property
    def _yolo_columns(self) -> YoloColumns:
        columns = YoloColumns(keypoints=self.layout.keypoints)
        count = len(self.names)
        found = class_range(self._label_files(), stop_at_zero=True) if self.layout.names else None
        if found is None or found[0] < 1 or found[1] != count:
            return columns
        self.notes.append(
            f"data: class numbers begin at 1: 1 to {count} are the {count} classes {', '.join(self.names[:3])} ..."
        )
        return replace(columns, first_class=1)

    def _read_coco(self, part: Part) -> DetectionDataset:
        # Reading the part that names the classes tells them by the way: its file may be half a gigabyte.
        names = self.layout.names
        if names is None and ("names" in self.__dict__ or part != self._naming_part):
            names = self.names
        dataset = read_coco(_annotations(part), part.images, names=names, siblings=self._siblings(part))
        self.__dict__.setdefault("names", dataset.names)
        return dataset

    @property
    def _naming_part(self) -> Part:
        """The part whose file names the classes: that of train, if its file is there."""
        splits = self.layout.splits
        order = [split for split in _SPLITS_THAT_NAME_CLASSES if split in splits]
        parts = [splits[split][0] for split in (*order, *splits)]
        return next((part for part in parts if part.annotations and part.annotations.is_file()), parts[0])

    def _siblings(self, part: Part) -> list[Path]:
        files = [other.annotations for other in self._parts() if other.annotations is not None]
        return [path for path in files if path != part.annotations]

    def _parts(self) -> list[Part]:
        return [part for parts in self.layout.splits.values() for part in parts]

    def _label_files(self) -> Iterator[Path]:
        """The label file of each image of every split that is there."""
        for part in self._parts():
            try:
                yield from self._labelled(part)[1]
            except UserError:  # it is missing: who asks for that split is told
                continue

    def _labelled(self, part: Part) -> tuple[list[Path], list[Path], list[Problem]]:
        """Images, the label file of each, and what is listed but missing."""
        if part not in self._pictures:
            missing: list[Problem] = []
            self._pictures[part] = pictures_of(part, missing), missing
        pictures, missing = self._pictures[part]
        suffix = SUFFIXES[self.layout.format]
        labels = [self._existing(label_candidates(picture, part, suffix)) for picture in pictures]
        if self.layout.format == "labelme":
            pictures, labels = self._with_image_paths(part, pictures, labels)
        return pictures, labels, missing

    def _with_image_paths(self, part: Part, pictures: list[Path], labels: list[Path]) -> tuple[list[Path], list[Path]]:
        """Where labelme's files name images that do not lie beside them or have other names, those too."""
        folder = part.annotations or part.images
        taken = set(labels)
        named = {
            path.resolve(): file
            for file in sorted(folder.rglob("*.json") if folder.is_dir() else ())
            if file not in taken and (path := labelme_image(file, self._finder)) is not None
        }
        labels = [
            named.pop(p.resolve(), file) if not file.is_file() else file
            for p, file in zip(pictures, labels, strict=True)
        ]
        known = {picture.resolve() for picture in pictures}
        others = {} if part.list else {path: file for path, file in named.items() if path not in known}
        return [*pictures, *others], [*labels, *others.values()]

    def _existing(self, candidates: list[Path]) -> Path:
        """The first that exists, else the likeliest: readers take a missing file for background."""
        if candidates[0].is_file():
            return candidates[0]
        found = (self._finder.find(path) for path in candidates)
        return next((path for path in found if path is not None and path.is_file()), candidates[0])


def _annotations(part: Part) -> Path:
    if part.annotations is None:
        raise UserError(f"{part.images}: a data set of this format needs 'annotations', its file")
    return part.annotations


def _listed_subset(dataset: DetectionDataset, names: Path | None) -> DetectionDataset:
    """The images that a list names."""
    if names is None:
        return dataset
    wanted = {PurePosixPath(line.replace("\\", "/")).name for line in read_lines(names)}
    paths = (PurePosixPath(path) for path in dataset.paths)
    chosen = [index for index, path in enumerate(paths) if path.name in wanted or path.stem in wanted]
    return replace(dataset.subset(chosen), problems=dataset.problems)
