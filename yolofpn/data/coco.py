"""COCO's JSON: instances_*.json, and what CVAT, Roboflow and Label Studio write in its name."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolofpn.data.assemble import BoxRows, Pictures, assemble
from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.files import list_pictures
from yolofpn.data.images import image_size
from yolofpn.data.names import normalise_name
from yolofpn.errors import InputError, UserError
from yolofpn.reading import ParseError, as_side, check_class_names, parse_json, short

_ANNOTATION_COLUMNS = 9  # image id, category id, annotation id, x, y, width, height, area, iscrowd


@dataclass
class CocoFile:
    """A parsed annotation file.

    Attributes:
        categories: as in the file, in the order of their ids.
        images: as in the file.
        annotations: [T, 9] image id, category id, annotation id, x, y, width, height, area, iscrowd; NaN where the
            file has no number.
    """

    categories: list[dict[str, Any]]
    images: list[dict[str, Any]]
    annotations: NDArray[np.float64]

    @property
    def annotated_categories(self) -> set[int]:
        """Ids of the categories that have an annotation."""
        return {int(category) for category in np.unique(self.annotations[:, 1]) if not math.isnan(category)}


def read_coco(
    annotations: Path,
    images: Path,
    *,
    names: Sequence[str] | None = None,
    siblings: Sequence[Path] = (),
) -> DetectionDataset:
    """The data set of one annotation file. Labels follow the order of the category ids.

    Crowds become ignore regions, areas are as annotated, segmentations are passed over. A category that is only
    another's supercategory and that nothing is annotated with, as in Roboflow's exports, is no class.

    Args:
        annotations: the JSON file.
        images: the folder that its file names are relative to.
        names: the classes wanted, in the order of their labels; by default all of the file. Annotations of others
            are reported and dropped.
        siblings: annotation files of the other splits; one of them may use a category that this one does not.

    Raises:
        UserError: the file is missing or no COCO JSON, it has no class that is wanted, or none of its pictures exists.
    """
    coco = parse_coco(annotations)
    problems: list[Problem] = []
    categories = _wanted(_classes(coco, siblings), names, annotations, problems)
    pictures = _find_pictures(coco, annotations, images, problems)
    rows = _box_rows(coco, pictures, [category["id"] for category in categories], annotations, problems)
    return assemble(
        [str(category["name"]) for category in categories],
        pictures,
        rows,
        problems,
        file_of=lambda image: str(pictures.paths[image]),
        item="annotation",
        category_ids=[category["id"] for category in categories],
    )


def parse_coco(path: Path) -> CocoFile:
    """Read a file; annotations go into an array while it is parsed, so COCO's 118,000 images stay in bounds.

    Raises:
        UserError: the file is missing, or no COCO JSON.
    """
    collector = _Collector()
    try:
        tree = parse_json(path.read_bytes(), collector)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected COCO annotations (JSON)") from None
    except ParseError as error:
        where = f"line {error.line}: " if error.line else ""
        raise UserError(f"{path}: {where}not valid JSON ({error}): export the annotations again") from None
    parts = [tree.get(key) if isinstance(tree, dict) else None for key in ("categories", "images", "annotations")]
    if not all(isinstance(part, list) for part in parts):
        raise UserError(f"{path}: no COCO data set: it needs the lists 'images', 'annotations' and 'categories'")
    categories, images, _ = parts
    if not all(isinstance(c, dict) and isinstance(c.get("id"), int) and "name" in c for c in categories or ()):
        raise UserError(f"{path}: each of 'categories' needs a number 'id' and a 'name'")
    check_class_names([str(category["name"]) for category in categories or ()], path)
    table = np.frombuffer(collector.values, dtype=np.float64).reshape(-1, _ANNOTATION_COLUMNS)
    images = [image for image in images or () if isinstance(image, dict)]
    return CocoFile(sorted(categories or (), key=lambda category: category["id"]), images, table)


@dataclass
class _Collector:
    """Takes annotations out of the JSON while it is parsed; everything else passes."""

    values: array[float] = field(default_factory=lambda: array("d"))

    def __call__(self, node: dict[str, Any]) -> dict[str, Any] | None:
        if "category_id" not in node or "image_id" not in node:
            return node
        box = node.get("bbox")
        box = tuple(box) if isinstance(box, list) and len(box) == 4 else (math.nan,) * 4
        row = (node["image_id"], node["category_id"], node.get("id"), *box, node.get("area"), node.get("iscrowd", 0))
        try:
            numbers = array("d", row)
        except (TypeError, OverflowError):
            numbers = array("d", map(_as_float, row))
        self.values.extend(numbers)
        return None


def _as_float(value: object) -> float:
    """A JSON number as a float; NaN where it is none, or has more digits than floats go to."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def _classes(coco: CocoFile, siblings: Iterable[Path]) -> list[dict[str, Any]]:
    annotated = coco.annotated_categories
    suspects = {category["id"] for category in coco.categories if _is_parent(category, coco.categories)} - annotated
    if suspects:
        for sibling in siblings:
            suspects -= parse_coco(sibling).annotated_categories
    return [category for category in coco.categories if category["id"] not in suspects]


def _is_parent(category: dict[str, Any], categories: Sequence[dict[str, Any]]) -> bool:
    return any(other is not category and other.get("supercategory") == category["name"] for other in categories)


def _wanted(
    categories: list[dict[str, Any]], names: Sequence[str] | None, path: Path, problems: list[Problem]
) -> list[dict[str, Any]]:
    if not categories:
        raise UserError(f"{path}: has no categories, so there is nothing to learn or to find")
    if names is None:
        return categories
    by_name = {normalise_name(str(category["name"])): category for category in categories}
    if not any(normalise_name(name) in by_name for name in names):
        known = ", ".join(str(category["name"]) for category in categories[:10])
        raise UserError(f"{path}: has none of the classes {', '.join(names[:10])}\nits categories are {known}")
    wanted = []
    for label, name in enumerate(names):
        category = by_name.get(normalise_name(name))
        if category is None:
            reason = f"class {name!r} is not among its categories: no boxes of it here"
            problems.append(Problem(ProblemKind.UNKNOWN_CLASS, str(path), reason))
        # A class that this file lacks gets an id that no file uses.
        wanted.append({"id": category["id"] if category else -1 - label, "name": name})
    return wanted


def _find_pictures(coco: CocoFile, annotations: Path, folder: Path, problems: list[Problem]) -> Pictures:
    pictures = Pictures(image_ids=[])
    prefix = len(str(folder / "x")) - 1
    present = {str(path)[prefix:].replace(os.sep, "/") for path in list_pictures(folder)}
    annotated = set(coco.annotations[:, 0].tolist())
    for image in coco.images:
        name, number = image.get("file_name"), image.get("id")
        if not isinstance(name, str) or not isinstance(number, int):
            reason = f"an image without a 'file_name' or a number 'id': {short(image)}"
            problems.append(Problem(ProblemKind.MALFORMED, str(annotations), reason))
            continue
        # Label Studio writes Windows paths and folders of its own server in front of the name.
        posix = name.replace("\\", "/")
        found = next((c for c in (name, posix, PurePosixPath(posix).name) if c in present), None)
        if found is None:
            reason = f"listed in {annotations.name} but not on disk: left out"
            problems.append(Problem(ProblemKind.MISSING_PICTURE, str(folder / name), reason))
            continue
        _add_picture(pictures, folder / found, image, number in annotated, problems)
    if coco.images and not pictures.paths:
        raise UserError(
            f"{folder}: has none of the {len(coco.images)} pictures that {annotations.name} lists, such as "
            f"{coco.images[0].get('file_name')}\nput the pictures there, or name their folder in the data YAML"
        )
    return pictures


def _add_picture(
    pictures: Pictures, path: Path, image: dict[str, Any], annotated: bool, problems: list[Problem]
) -> None:
    try:
        height, width = as_side(image.get("height")), as_side(image.get("width"))
        if not height or not width:
            height, width = image_size(path, name=path.name)
    except (ParseError, InputError) as error:
        problems.append(Problem(ProblemKind.UNREADABLE_PICTURE, str(path), f"{error}: left out"))
        return
    pictures.paths.append(path)
    pictures.sizes.append((height, width))
    pictures.labelled.append(annotated)
    if pictures.image_ids is not None:
        pictures.image_ids.append(image["id"])


def _box_rows(
    coco: CocoFile, pictures: Pictures, category_ids: Sequence[int], path: Path, problems: list[Problem]
) -> BoxRows:
    """The annotations of known pictures and classes, as xyxy; the others are reported."""
    table = coco.annotations
    listed = [image["id"] for image in coco.images if isinstance(image.get("id"), int)]
    strangers = ~np.isin(table[:, 0], listed)
    for image, _, number in table[strangers, :3].tolist():
        reason = f"annotation {_id(number)}: image_id {_id(image)} is not among 'images': dropped"
        problems.append(Problem(ProblemKind.UNKNOWN_PICTURE, str(path), reason))
    unknown = ~strangers & ~np.isin(table[:, 1], category_ids)
    for _, category, number in table[unknown, :3].tolist():
        reason = f"annotation {_id(number)}: category_id {_id(category)} is not among the classes: dropped"
        problems.append(Problem(ProblemKind.UNKNOWN_CLASS, str(path), reason))
    table = table[np.isin(table[:, 0], pictures.image_ids or []) & np.isin(table[:, 1], category_ids)]
    index, label = _places(table[:, 0], pictures.image_ids or []), _places(table[:, 1], category_ids)
    with np.errstate(over="ignore"):  # what becomes infinite is dropped as no finite number
        corners = np.column_stack([table[:, 3:5], table[:, 3:5] + table[:, 5:7]])
    rows = BoxRows()
    rows.add_table(np.column_stack([index, np.nan_to_num(table[:, 2]), label, corners, table[:, 7], table[:, 8] == 1]))
    return rows


def _id(number: float) -> str:
    return "(none)" if math.isnan(number) else f"{number:.0f}"


def _places(values: NDArray[np.float64], of: Sequence[int]) -> NDArray[np.int64]:
    """Where each of ``values`` stands in ``of``, which has all of them."""
    order = np.argsort(of, kind="stable")
    return order[np.searchsorted(np.asarray(of, dtype=np.float64)[order], values)]
