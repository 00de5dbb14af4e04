"""Data sets that are a folder, as labelling tools export them: what is in it tells which tool it was."""

from __future__ import annotations

import itertools
import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from yolofpn.config import read_yaml
from yolofpn.data.exports import layout_of_darknet_data, layout_of_yaml
from yolofpn.data.files import Layout, Part, composed, list_pictures, split_name
from yolofpn.data.names import read_names
from yolofpn.errors import UserError
from yolofpn.reading import MAX_YAML_BYTES, ParseError, check_class_names, parse_json, read_bounded

_SPLIT_FOLDERS = ("train", "valid", "val", "validation", "test")
_ROBOFLOW_COCO = "_annotations.coco.json"
_LABEL_KINDS = {"voc": ".xml", "yolo": ".txt", "labelme": ".json"}
_NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels")  # the last one is Roboflow's


def layout_of_folder(folder: Path) -> Layout:
    """What the data set in ``folder`` is.

    Raises:
        UserError: it is none of the known exports.
    """
    for recognise in (_described, _coco_per_split, _coco, _cvat, _voc_devkit, _split_folders, _flat, _any_coco):
        layout = recognise(folder)
        if layout is not None:
            return layout
    raise UserError(
        f"{folder}: no data set is recognised here\nexpected a data.yaml, a .data file, annotations/instances_*.json, "
        f"{_ROBOFLOW_COCO}, Annotations/ with JPEGImages/, images/ with labels/, or XML, txt or JSON beside images"
    )


def _described(folder: Path) -> Layout | None:
    """A folder with its own description: Roboflow's and CVAT's data.yaml, CVAT's and Darknet's obj.data."""
    for path in (folder / "data.yaml", folder / "data.yml"):
        if path.is_file() and {"train", "val", "valid", "format"} & read_yaml(path).keys():
            return layout_of_yaml(path)
    descriptions = sorted(folder.glob("*.data"))
    return layout_of_darknet_data(descriptions[0]) if len(descriptions) == 1 else None


def _coco_per_split(folder: Path) -> Layout | None:
    """Roboflow's COCO export: the JSON among the pictures of each split."""
    places = [place for place in (*_split_folders_in(folder), folder) if (place / _ROBOFLOW_COCO).is_file()]
    splits: dict[str, tuple[Part, ...]] = {}
    for place in places:
        split = "train" if place == folder else split_name(place.name)
        splits[split] = (Part(place, place / _ROBOFLOW_COCO),)
    return Layout("coco", folder, f"COCO annotations beside the pictures in {folder}", splits) if splits else None


def _coco(folder: Path) -> Layout | None:
    """COCO's own folders and CVAT's export (annotations/instances_SPLIT.json), or Label Studio's (result.json)."""
    splits: dict[str, tuple[Part, ...]] = {}
    for path in sorted(folder.glob("annotations/instances_*.json")):
        subset = path.stem.removeprefix("instances_")
        images = next((place for place in _picture_folders(folder, subset) if place.is_dir()), folder)
        splits[split_name(re.sub(r"20\d\d$", "", subset))] = (Part(images, path),)
    if not splits and (folder / "result.json").is_file():
        images = folder / "images" if (folder / "images").is_dir() else folder
        splits["train"] = (Part(images, folder / "result.json"),)
    return Layout("coco", folder, f"COCO data set in {folder}", splits) if splits else None


def _cvat(folder: Path) -> Layout | None:
    """CVAT's own XML ("CVAT for images"): annotations.xml, or one file for each split, and images/."""
    splits: dict[str, tuple[Part, ...]] = {}
    for stem in ("annotations", "default", *_SPLIT_FOLDERS):  # datumaro writes a file for each split
        path = folder / f"{stem}.xml"
        if _has_words(path, "<annotations", "<image"):
            splits["train" if stem == "annotations" else split_name(stem)] = (Part(folder, path),)
    return Layout("cvat", folder, f"CVAT for images in {folder}", splits) if splits else None


def _any_coco(folder: Path) -> Layout | None:
    """COCO's JSON by another name: labelme2coco's annotations.json, FiftyOne's labels.json, train.json and val.json."""
    splits: dict[str, tuple[Part, ...]] = {}
    for path in sorted((*folder.glob("*.json"), *folder.glob("annotations/*.json"))):
        if not _has_words(path, '"images"', '"annotations"', '"categories"'):
            continue
        words = re.findall("[a-z]+", path.stem.lower())
        split = next((split_name(word) for word in words if word in _SPLIT_FOLDERS), "train")
        if split in splits:
            return None  # which of them is meant only a data YAML can say
        images = next((place for place in _picture_folders(folder, split) if place.is_dir()), folder)
        splits[split] = (Part(images, path),)
    return Layout("coco", folder, f"COCO data set in {folder}", splits) if splits else None


def _has_words(path: Path, *words: str) -> bool:
    """Whether a file, however large, has all these words: enough to tell formats apart before one is parsed."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(word.encode()) >= 0 for word in words)
    except (OSError, ValueError):  # it is empty, or no file
        return False


def _picture_folders(folder: Path, subset: str) -> Iterator[Path]:
    yield folder / "images" / subset
    yield folder / subset
    yield folder / "images"


def _voc_devkit(folder: Path) -> Layout | None:
    """Annotations/, JPEGImages/ and ImageSets/Main/, of one year or, as in VOCdevkit, of several."""
    years = [path for path in sorted(folder.glob("VOC20*")) if _is_voc(path)]
    if not years and (folder / "VOCdevkit").is_dir():
        return _voc_devkit(folder / "VOCdevkit")
    if years:
        description = f"Pascal VOC data set in {folder} ({', '.join(path.name for path in years)})"
        return Layout("voc", folder, description, _splits_of_years(years))
    if _is_voc(folder):
        return Layout("voc", folder, f"Pascal VOC data set in {folder}", _voc_splits(folder))
    return None


def _splits_of_years(years: Iterable[Path]) -> dict[str, tuple[Part, ...]]:
    splits: dict[str, tuple[Part, ...]] = {}
    for year in years:
        for split, parts in _voc_splits(year).items():
            splits[split] = splits.get(split, ()) + parts
    return splits


def _is_voc(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() and any((folder / name).is_dir() for name in ("JPEGImages", "images"))


def _voc_splits(folder: Path) -> dict[str, tuple[Part, ...]]:
    images = folder / "JPEGImages" if (folder / "JPEGImages").is_dir() else folder / "images"
    # aeroplane_train.txt and the like list one class; train.txt lists the split.
    lists = [path for path in sorted((folder / "ImageSets" / "Main").glob("*.txt")) if "_" not in path.stem]
    if not lists:
        return {"train": (Part(images, folder / "Annotations"),)}
    return {split_name(path.stem): (Part(images, folder / "Annotations", path),) for path in lists}


def _split_folders(folder: Path) -> Layout | None:
    """train/, valid/, test/ with pictures and labels in each, or images/train/ with labels/train/."""
    places = {split_name(place.name): place for place in _split_folders_in(folder)}
    places = places or {split_name(place.name): place for place in _split_folders_in(folder / "images")}
    kinds = {kind for place in places.values() if (kind := _label_kind(place)) is not None}
    if not kinds:
        return None
    kind = next(kind for kind in _LABEL_KINDS if kind in kinds)
    return _labelled_layout(folder, places, kind, "split folders")


def _flat(folder: Path) -> Layout | None:
    """All pictures in one place: Label Studio (images/, labels/, classes.txt), LabelImg (beside each other)."""
    kind = _label_kind(folder)
    return None if kind is None else _labelled_layout(folder, {"train": folder}, kind, "one folder")


def _labelled_layout(folder: Path, places: dict[str, Path], kind: str, what: str) -> Layout:
    splits: dict[str, tuple[Part, ...]] = {split: (_part(place),) for split, place in places.items()}
    if kind == "voc":
        return Layout("voc", folder, f"VOC XML files in {folder} ({what})", splits)
    if kind == "labelme":
        return Layout("labelme", folder, f"labelme JSON files in {folder} ({what})", splits)
    return Layout("yolo", folder, f"YOLO text files in {folder} ({what})", splits, _find_names(folder, places.values()))


def _part(place: Path) -> Part:
    images, labels = place / "images", place / "labels"
    return Part(images, labels) if images.is_dir() and labels.is_dir() else Part(place)


def _split_folders_in(folder: Path) -> list[Path]:
    return [folder / name for name in _SPLIT_FOLDERS if (folder / name).is_dir()]


def _label_kind(place: Path) -> str | None:
    """Whether the images of ``place`` have XML, txt or labelme's JSON files, in whatever place they may be."""
    part = _part(place)
    folders = [part.annotations or place]
    if place.parent.name == "images":
        folders.append(place.parent.parent / "labels" / place.name)
    pictures = {composed(path.stem) for path in list_pictures(part.images)}
    for kind, suffix in _LABEL_KINDS.items():
        files = (path for parent in folders for path in parent.rglob(f"*{suffix}"))
        if kind == "labelme":
            found = any(_has_words(path, '"shapes"', '"imagePath"') for path in itertools.islice(files, 20))
        else:
            found = any(composed(path.stem) in pictures for path in files)
        if found:
            return kind
    return None


def _find_names(folder: Path, places: Iterable[Path]) -> tuple[str, ...] | None:
    """Class names from a file of names, wherever the tools put them, or Label Studio's notes.json."""
    folders = [folder, folder / "labels", *places, *(place / "labels" for place in places)]
    for parent in folders:
        for path in (*(parent / name for name in _NAMES_FILES), *sorted(parent.glob("*.names"))):
            if path.is_file():
                return read_names(path)
    notes = folder / "notes.json"
    if notes.is_file():
        return _names_of_notes(notes)
    return None


def _names_of_notes(path: Path) -> tuple[str, ...] | None:
    try:
        tree = parse_json(read_bounded(path, MAX_YAML_BYTES))
    except (ParseError, OSError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}): export the labels again, or remove it") from None
    categories = tree.get("categories") if isinstance(tree, dict) else None
    if not isinstance(categories, list) or not all(isinstance(c, dict) and "name" in c for c in categories):
        return None
    if not all(isinstance(category.get("id", 0), int) for category in categories):
        raise UserError(f"{path}: the ids of its categories must be whole numbers")
    names = tuple(str(category["name"]) for category in sorted(categories, key=lambda c: int(c.get("id", 0))))
    check_class_names(names, path)
    return names
