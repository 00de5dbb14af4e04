"""COCO's JSON: instances_*.json, and what CVAT, Roboflow, Label Studio and labelme2coco write in its name."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from yolofpn.data.assemble import BoxRows, ImageList, assemble, image_size_that_fits
from yolofpn.data.class_names import normalise_name
from yolofpn.data.coco_file import Category, CocoFile, Id, canonical_id, listed_categories, parse_coco
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind, SourceIds
from yolofpn.data.image_files import FileIndex, Layout, Part, image_folders, split_folders_in, split_name
from yolofpn.data.images import image_size
from yolofpn.data.label_format import DataFiles, has_words
from yolofpn.data.shapes import turned_box
from yolofpn.errors import InputError, UserError
from yolofpn.reading import ParseError, as_side, short

_INT64 = range(-(2**63), 2**63)
_ROBOFLOW = "_annotations.coco.json"
_SPLITS_THAT_NAME_CLASSES = ("train", "val")


class CocoJson:
    """COCO's JSON."""

    key: ClassVar[str] = "coco"
    title: ClassVar[str] = "COCO data set"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    one_file: ClassVar[bool] = True
    has_sizes: ClassVar[bool] = True

    def __init__(self, files: DataFiles) -> None:
        self._files = files

    @classmethod
    def recognise(cls, folder: Path) -> Layout | None:
        """Roboflow's export, COCO's own folders and CVAT's export, or Label Studio's."""
        return _beside_images(folder) or _instances(folder)

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """By another name: labelme2coco's annotations.json, FiftyOne's labels.json, train.json and val.json."""
        return any(has_words(path, '"images"', '"annotations"', '"categories"') for path in files)

    def class_names(self) -> tuple[str, ...]:
        """Those of the training split, if its file is there."""
        splits = self._files.layout.splits
        order = [split for split in _SPLITS_THAT_NAME_CLASSES if split in splits]
        parts = [splits[split][0] for split in (*order, *splits)]
        part = next((part for part in parts if part.annotations and part.annotations.is_file()), parts[0])
        return coco_class_names(self._files.annotations(part), self._siblings(part))

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """Image ids and category ids are the file's."""
        return read_coco(self._files.annotations(part), part.images, names=names, siblings=self._siblings(part))

    def _siblings(self, part: Part) -> list[Path]:
        files = [other.annotations for other in self._files.parts if other.annotations is not None]
        return [path for path in files if path != part.annotations]


def _beside_images(folder: Path) -> Layout | None:
    """Roboflow's COCO export: the JSON among the images of each split."""
    places = [place for place in (*split_folders_in(folder), folder) if (place / _ROBOFLOW).is_file()]
    splits: dict[str, tuple[Part, ...]] = {}
    for place in places:
        split = "train" if place == folder else split_name(place.name)
        splits[split] = (Part(place, place / _ROBOFLOW),)
    return Layout("coco", folder, f"COCO annotations beside the images in {folder}", splits) if splits else None


def _instances(folder: Path) -> Layout | None:
    """annotations/instances_SPLIT.json, or Label Studio's result.json."""
    splits: dict[str, tuple[Part, ...]] = {}
    for path in sorted(folder.glob("annotations/instances_*.json")):
        subset = path.stem.removeprefix("instances_")
        images = next((place for place in image_folders(folder, subset) if place.is_dir()), folder)
        splits[split_name(re.sub(r"20\d\d$", "", subset))] = (Part(images, path),)
    if not splits and (folder / "result.json").is_file():
        images = folder / "images" if (folder / "images").is_dir() else folder
        splits["train"] = (Part(images, folder / "result.json"),)
    return Layout("coco", folder, f"COCO data set in {folder}", splits) if splits else None


def read_coco(
    annotations: Path,
    images: Path,
    *,
    names: Sequence[str] | None = None,
    siblings: Sequence[Path] = (),
) -> DetectionDataset:
    """The data set of one annotation file. Labels follow the order of the category ids.

    Crowds become ignore regions, areas are as annotated, a box that is not given is that around the segmentation, a
    rectangle that CVAT turned the upright one around it. A category that is only another's supercategory and that
    nothing is annotated with, as in Roboflow's exports, is no class.

    Args:
        annotations: the JSON file.
        images: the folder that its file names are relative to.
        names: the classes wanted, in the order of their labels; by default all of the file. Annotations of others
            are reported and dropped.
        siblings: annotation files of the other splits; one of them may use a category that this one does not.

    Raises:
        UserError: if the file is missing or no COCO JSON, two images or categories have one id, it has no class that is
            wanted, or none of its images exists.
    """
    coco = parse_coco(annotations)
    problems: list[Problem] = []
    categories = _wanted(_classes(coco, siblings), names, annotations, problems)
    image_list, ids = _find_images(coco, images, problems)
    crowds, note = coco.crowds()
    rows = _box_rows(coco, image_list, ids, [category.id for category in categories], crowds, problems)
    category_ids, source_ids = _written_ids(image_list, ids, categories)
    dataset = assemble(
        [category.name for category in categories],
        image_list,
        rows,
        problems,
        file_of=lambda image: str(image_list.paths[image]),
        item="annotation",
        category_ids=category_ids,
        number_text=lambda row: _text(coco.annotation_ids[row]),
    )
    return replace(dataset, source_ids=source_ids, notes=() if note is None else (note,))


def coco_class_names(annotations: Path, siblings: Sequence[Path]) -> tuple[str, ...]:
    """The classes that ``read_coco`` would give, without looking for images.

    Raises:
        UserError: as ``parse_coco``.
    """
    listed = listed_categories(annotations) or []
    if not listed or any(_is_no_class(category, listed) for category in listed):
        listed = _classes(parse_coco(annotations), siblings)  # which of them are used only the annotations tell
    return tuple(category.name for category in listed)


def _classes(coco: CocoFile, siblings: Iterable[Path]) -> list[Category]:
    annotated = coco.annotated_categories
    suspects = {category.id for category in coco.categories if _is_no_class(category, coco.categories)} - annotated
    if suspects:
        for sibling in siblings:
            suspects -= parse_coco(sibling).annotated_categories
    return [category for category in coco.categories if category.id not in suspects]


def _is_no_class(category: Category, categories: Sequence[Category]) -> bool:
    """Whether it may only head others, or hold labelme's place for what is no object."""
    return category.name in ("__ignore__", "_background_") or any(
        other is not category and other.supercategory == category.name for other in categories
    )


def _wanted(
    categories: list[Category], names: Sequence[str] | None, path: Path, problems: list[Problem]
) -> list[Category]:
    if not categories:
        raise UserError(f"{path}: has no categories, so there is nothing to learn or to find")
    if names is None or tuple(names) == tuple(category.name for category in categories):
        return categories
    by_name = {normalise_name(category.name): category for category in categories}
    if not any(normalise_name(name) in by_name for name in names):
        known = ", ".join(category.name for category in categories[:10])
        raise UserError(f"{path}: has none of the classes {', '.join(names[:10])}\nits categories are {known}")
    wanted, used = [], {category.id for category in categories}
    for label, name in enumerate(names):
        category = by_name.get(normalise_name(name))
        if category is None:
            reason = f"class {name!r} is not among its categories: no boxes of it here"
            problems.append(Problem(ProblemKind.UNKNOWN_CLASS, str(path), reason))
            # A class that this file lacks gets an id that none of its categories has.
            free = -1 - label
            while free in used:
                free -= len(names)
            category = Category(free, name, free)
        wanted.append(replace(category, name=name))
    return wanted


def _find_images(coco: CocoFile, folder: Path, problems: list[Problem]) -> tuple[ImageList, list[Id]]:
    """The images on disk, and the id of each as the file writes it."""
    image_list, ids = ImageList(), list[Id]()
    index = FileIndex(folder)
    for image in coco.images:
        name, number = image.get("file_name"), canonical_id(image.get("id"))
        if not isinstance(name, str) or number is None:
            reason = f"an image without a 'file_name' or an 'id': {short(image)}"
            problems.append(Problem(ProblemKind.MALFORMED, str(coco.path), reason))
            continue
        found = index.find(name)
        if found is None:
            reason = f"listed in {coco.path.name} but not on disk: skipped"
            problems.append(Problem(ProblemKind.MISSING_IMAGE, str(folder / name), reason))
        elif _add_image(image_list, found, image, number in coco.image_places, problems):
            ids.append(image["id"])
    if coco.images and not image_list.paths:
        raise UserError(
            f"{folder}: has none of the {len(coco.images)} images that {coco.path.name} lists, such as "
            f"{coco.images[0].get('file_name')}\nput the images there, or name their folder in the data YAML"
        )
    return image_list, ids


def _add_image(
    image_list: ImageList, path: Path, image: dict[str, Any], annotated: bool, problems: list[Problem]
) -> bool:
    try:
        height, width = _side(image.get("height")), _side(image.get("width"))
        if not height or not width:
            height, width = image_size(path, name=path.name)
    except (ParseError, InputError) as error:
        problems.append(Problem(ProblemKind.UNREADABLE_IMAGE, str(path), f"{error}: skipped"))
        return False
    image_list.paths.append(path)
    image_list.sizes.append((height, width))
    image_list.labelled.append(annotated)
    return True


def _side(value: object) -> int:
    """A width or height in pixels, also one in quotes; 0 where there is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 0
    return as_side(value)


def _written_ids(
    image_list: ImageList, ids: Sequence[Id], categories: Sequence[Category]
) -> tuple[list[int], SourceIds | None]:
    """Sets the images' ids and gives those of the labels: the file's if they are integers, else running numbers."""
    written = [category.written_id for category in categories]
    plain = all(isinstance(number, int) for number in written) and all(
        isinstance(number, int) and number in _INT64 for number in ids
    )
    numbers = [canonical_id(number) for number in ids]
    fits = [number for number in numbers if isinstance(number, int) and number in _INT64]
    image_list.image_ids = fits if len(fits) == len(ids) else list(range(len(ids)))
    labels = [category.id for category in categories if isinstance(category.id, int)]
    category_ids = labels if len(labels) == len(categories) else list(range(1, len(categories) + 1))
    return category_ids, None if plain else SourceIds(tuple(ids), tuple(written))


def _box_rows(
    coco: CocoFile,
    image_list: ImageList,
    ids: Sequence[Id],
    category_ids: Sequence[Id],
    crowds: NDArray[np.bool_],
    problems: list[Problem],
) -> BoxRows:
    """The annotations of known images and classes, as xyxy; the others are reported."""
    table = coco.annotations
    listed = [canonical_id(image.get("id")) for image in coco.images]
    known = _places(listed, coco.image_places)[table[:, 0].astype(np.int64)] >= 0
    index = _places([canonical_id(number) for number in ids], coco.image_places)[table[:, 0].astype(np.int64)]
    label = _places(category_ids, coco.category_places)[table[:, 1].astype(np.int64)]
    _report(coco, ~known, coco.image_places, 0, (ProblemKind.UNKNOWN_IMAGE, "image_id", "'images'"), problems)
    unknown = known & (label < 0)
    _report(coco, unknown, coco.category_places, 1, (ProblemKind.UNKNOWN_CLASS, "category_id", "the classes"), problems)
    rows = np.flatnonzero((index >= 0) & (label >= 0))
    table, index, label = table[rows], index[rows], label[rows]
    with np.errstate(over="ignore"):  # what becomes infinite is dropped as no finite number
        corners = np.column_stack([table[:, 2:4], table[:, 2:4] + table[:, 4:6]])
    _correct_sizes(image_list, index, corners)
    placed = corners.copy()
    for row in np.flatnonzero((table[:, 9] != 0) & np.isfinite(corners).all(axis=1)):
        placed[row] = turned_box(corners[row].tolist(), float(table[row, 9]), image_list.sizes[int(index[row])])
    found = BoxRows()
    found.add_table(np.column_stack([index, rows, label, corners, table[:, 6], crowds[rows], placed]))
    return found


def _places(wanted: Sequence[Id | None], places: dict[Id, int]) -> NDArray[np.int64]:
    """[P + 1] for each place of an id where it stands in ``wanted``, -1 where it does not; the last is for no id."""
    table = np.full(len(places) + 1, -1, dtype=np.int64)
    for number, key in enumerate(wanted):
        if key is not None and (place := places.get(key)) is not None:
            table[place] = number
    return table


def _report(
    coco: CocoFile,
    rows: NDArray[np.bool_],
    places: dict[Id, int],
    column: int,
    words: tuple[ProblemKind, str, str],
    problems: list[Problem],
) -> None:
    """Report the annotations ``rows``, whose id in ``column`` is not among those that it should be among."""
    if not rows.any():
        return
    kind, key, among = words
    written = {place: number for number, place in places.items()}
    for row in np.flatnonzero(rows).tolist():
        number = written.get(int(coco.annotations[row, column]))
        reason = f"annotation {_text(coco.annotation_ids[row])}: {key} {_text(number)} is not among {among}: dropped"
        problems.append(Problem(kind, str(coco.path), reason))


def _correct_sizes(image_list: ImageList, index: NDArray[np.int64], corners: NDArray[np.float64]) -> None:
    """Sizes that the boxes belie are those of the images themselves."""
    limits = np.array(image_list.sizes, dtype=np.float64).reshape(-1, 2)[index][:, ::-1]
    for image in np.unique(index[(corners[:, 2:] > limits + 1.5).any(axis=1)]).tolist():
        own = corners[index == image]
        image_list.sizes[image] = image_size_that_fits(image_list.sizes[image], own, image_list.paths[image])


def _text(number: object) -> str:
    if number is None or (isinstance(number, float) and math.isnan(number)):
        return "(none)"
    return number if isinstance(number, str) and len(number) <= 60 else short(number)
