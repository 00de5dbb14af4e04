"""Recognises data set folders as exported by labelling tools, by their content."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from yolofpn.config import read_yaml
from yolofpn.data import formats
from yolofpn.data.exports import layout_of_darknet_data, layout_of_yaml
from yolofpn.data.image_files import (
    SPLIT_FOLDERS,
    Layout,
    Part,
    composed,
    image_folders,
    list_files,
    list_images,
    split_folders_in,
    split_name,
)
from yolofpn.data.label_format import LabelFormat
from yolofpn.errors import UserError


def layout_of_folder(folder: Path) -> Layout:
    """Recognise the data set in ``folder``.

    Raises:
        UserError: if it is none of the known exports.
    """
    for layout in _readings(folder):
        if layout is not None:
            return layout
    raise UserError(
        f"{folder}: no data set is recognised here\nexpected a data.yaml, a .data file, annotations/instances_*.json, "
        f"_annotations.coco.json, Annotations/ with JPEGImages/, images/ with labels/, or XML, txt or JSON beside "
        f"images"
    )


def _readings(folder: Path) -> Iterator[Layout | None]:
    """Yield the possible layouts of a folder, the most certain one first."""
    yield _described(folder)
    for label_format in formats.FORMATS:
        yield label_format.recognise(folder)
    yield _split_folders(folder)
    yield _flat(folder)
    for label_format in formats.FORMATS:
        if label_format.one_file:
            yield _any_file(folder, label_format)
            yield _file_per_split(folder, label_format)


def _described(folder: Path) -> Layout | None:
    """Recognise a folder with a description: data.yaml of Roboflow and CVAT, obj.data of CVAT and Darknet."""
    for path in (folder / "data.yaml", folder / "data.yml"):
        if path.is_file() and {"train", "val", "valid", "format"} & read_yaml(path).keys():
            return layout_of_yaml(path)
    descriptions = sorted(folder.glob("*.data"))
    return layout_of_darknet_data(descriptions[0]) if len(descriptions) == 1 else None


def _split_folders(folder: Path) -> Layout | None:
    """train/, valid/, test/ with images and labels in each, or images/train/ with labels/train/."""
    places = {split_name(place.name): place for place in split_folders_in(folder)}
    places = places or {split_name(place.name): place for place in split_folders_in(folder / "images")}
    found = {label_format for place in places.values() if (label_format := _format_beside(place)) is not None}
    for label_format in formats.FORMATS:
        if label_format in found:
            return _labelled_layout(folder, places, label_format, "split folders")
    return None


def _flat(folder: Path) -> Layout | None:
    """All images in one place: Label Studio (images/, labels/, classes.txt), LabelImg (beside each other)."""
    label_format = _format_beside(folder)
    return None if label_format is None else _labelled_layout(folder, {"train": folder}, label_format, "one folder")


def _labelled_layout(folder: Path, places: dict[str, Path], label_format: type[LabelFormat], what: str) -> Layout:
    splits: dict[str, tuple[Part, ...]] = {split: (_part(place),) for split, place in places.items()}
    return Layout(label_format.key, folder, f"{label_format.title} in {folder} ({what})", splits)


def _part(place: Path) -> Part:
    images, labels = place / "images", place / "labels"
    return Part(images, labels) if images.is_dir() and labels.is_dir() else Part(place)


def _format_beside(place: Path) -> type[LabelFormat] | None:
    """Return the format of the label files of the images of ``place``."""
    part = _part(place)
    folders = [part.annotations or place]
    if place.parent.name == "images":
        folders.append(place.parent.parent / "labels" / place.name)
    stems = {composed(path.stem) for path in list_images(part.images)}
    beside = [path for parent in folders for path in list_files(parent)]
    for label_format in formats.FORMATS:
        files = (path for path in beside if path.suffix == label_format.suffixes[0])
        if not label_format.one_file and label_format.matches(files, stems):
            return label_format
    return None


def _any_file(folder: Path, label_format: type[LabelFormat]) -> Layout | None:
    """Recognise one label file per split: train.json, labels_val.json, annotations/voc_train.json."""
    splits: dict[str, tuple[Part, ...]] = {}
    for path in sorted(path for place in (folder, folder / "annotations") for path in place.glob("*")):
        if path.suffix.lower() not in label_format.suffixes or not label_format.matches([path], ()):
            continue
        words = re.findall("[a-z]+", path.stem.lower())
        split = next((split_name(word) for word in words if word in SPLIT_FOLDERS), "train")
        if split in splits:
            return None  # which of them is meant only a data YAML can say
        images = next((place for place in image_folders(folder, split) if place.is_dir()), folder)
        splits[split] = (Part(images, path),)
    return Layout(label_format.key, folder, f"{label_format.title} in {folder}", splits) if splits else None


def _file_per_split(folder: Path, label_format: type[LabelFormat]) -> Layout | None:
    """Recognise one label file in the image folder of each split, as written by Roboflow."""
    splits: dict[str, tuple[Part, ...]] = {}
    for place in split_folders_in(folder):
        files = [path for path in sorted(place.glob("*")) if path.suffix.lower() in label_format.suffixes]
        found = [path for path in files if label_format.matches([path], ())]
        if len(found) == 1:
            splits[split_name(place.name)] = (Part(place, found[0]),)
    return Layout(label_format.key, folder, f"{label_format.title} in {folder}", splits) if splits else None
