"""The parser of COCO's JSON: ids of any kind, numbers written as text, boxes that only a segmentation shows."""

from __future__ import annotations

import json
import math
import mmap
import re
import unicodedata
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from yolofpn.data.shapes import NO_BOX, segmentation_box
from yolofpn.errors import UserError
from yolofpn.reading import MAX_YAML_BYTES, ParseError, check_class_names, parse_json, short
from yolofpn.regular_files import open_regular_file, read_whole

Id: TypeAlias = int | str

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,99}")
_TRUE = frozenset({"1", "1.0", "true", "yes"})
_COCO_CROWD_ID = 900_100_000_000  # COCO's own crowds have such annotation ids, and nothing else has
_COLUMNS = 10  # image, category, x, y, width, height, area, iscrowd, is a mask, rotation


@dataclass(frozen=True)
class Category:
    """One of the file's ``categories``.

    Attributes:
        id: as compared: a number in quotes is that number.
        name: composed (Unicode NFC).
        written_id: as in the file.
        supercategory: the name of its parent, if it has one.
    """

    id: Id
    name: str
    written_id: Id
    supercategory: str | None = None


@dataclass
class CocoFile:
    """A parsed annotation file.

    Attributes:
        path: where it lies.
        categories: in the order of their ids; those that are text keep the file's order, behind.
        images: as in the file, each with an ``id`` that no other has.
        image_places: the row number of each image id that annotations name.
        category_places: likewise of each category id.
        annotation_ids: [T] as in the file.
        annotations: [T, 10] image place, category place, x, y, width, height, area, iscrowd, whether it is a run-length
            mask, rotation in degrees; NaN where the file has no number, place -1 where it has no id.
        cvat: [T] whether it has the attributes that only CVAT writes.
        description: of the data set, as its ``info`` says.
    """

    path: Path
    categories: list[Category]
    images: list[dict[str, Any]]
    image_places: dict[Id, int]
    category_places: dict[Id, int]
    annotation_ids: list[object]
    annotations: NDArray[np.float64]
    cvat: NDArray[np.bool_]
    description: str = ""

    @property
    def annotated_categories(self) -> set[Id]:
        """Ids of the categories that have an annotation."""
        used = set(np.unique(self.annotations[:, 1]).astype(np.int64).tolist())
        return {category for category, place in self.category_places.items() if place in used}

    def crowds(self) -> tuple[NDArray[np.bool_], str | None]:
        """Which annotations are crowds, [T], and a line that says how that was decided; None where none is marked.

        CVAT marks each mask ``iscrowd``, whatever it shows. Its files are known by their attributes; a file without
        them by its shape: nobody annotates crowds alone. COCO's own files are known by the ids of their crowds.
        """
        marked = self.annotations[:, 7] == 1
        masks = marked & (self.annotations[:, 8] == 1)
        if not marked.any():
            return marked, None
        is_coco = "coco" in self.description.lower() or any(
            isinstance(self.annotation_ids[row], int) and self.annotation_ids[row] >= _COCO_CROWD_ID  # type: ignore[operator]
            for row in np.flatnonzero(marked)
        )
        objects = masks & self.cvat
        why = "as CVAT writes its brush masks so"
        if not is_coco and not objects.any() and 2 * masks.sum() > len(marked):
            objects, why = masks, "as nobody annotates crowds alone"
        crowds = marked & ~objects
        told = f"{int(objects.sum())} masks marked iscrowd are taken as objects, {why}" if objects.any() else ""
        kept = f"{int(crowds.sum())} marked iscrowd are crowds: ignore regions" if crowds.any() else ""
        return crowds, f"data: {self.path.name}: {'; '.join(part for part in (told, kept) if part)}"


def canonical_id(value: object) -> Id | None:
    """An id as it is compared: ``"7"`` and 7.0 are 7, other text is itself, whatever else is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) else value
    return value if isinstance(value, int) else None


def parse_coco(path: Path) -> CocoFile:
    """Read a file; annotations go into an array while it is parsed, so COCO's 118,000 images stay in bounds.

    Raises:
        UserError: if the file is missing, or no COCO JSON, or two categories or two images have the same id.
    """
    collector = _Collector()
    try:
        tree = parse_json(read_whole(path), collector)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected COCO annotations (JSON)") from None
    except ParseError as error:
        where = f"line {error.line}: " if error.line else ""
        raise UserError(f"{path}: {where}not valid JSON ({error}): export the annotations again") from None
    parts = [tree.get(key) if isinstance(tree, dict) else None for key in ("categories", "images", "annotations")]
    if not all(isinstance(part, list) for part in parts):
        raise UserError(f"{path}: no COCO data set: it needs the lists 'images', 'annotations' and 'categories'")
    images = [image for image in parts[1] or () if isinstance(image, dict)]
    _refuse_shared_ids(path, "images", [(image.get("id"), image.get("file_name")) for image in images])
    info = tree.get("info")
    return CocoFile(
        path,
        _categories(path, parts[0] or []),
        images,
        collector.image_places,
        collector.category_places,
        collector.annotation_ids,
        np.frombuffer(collector.values, dtype=np.float64).reshape(-1, _COLUMNS),
        np.frombuffer(collector.cvat, dtype=np.bool_),
        str(info.get("description") or "") if isinstance(info, dict) else "",
    )


def listed_categories(path: Path) -> list[Category] | None:
    """The categories of a file without its annotations, of which there may be half a gigabyte; None if that fails.

    Raises:
        UserError: if two categories have the same id, or one has none.
    """
    key = b'"categories"'
    try:
        with open_regular_file(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.rfind(key)
            text = content[start + len(key) : start + MAX_YAML_BYTES].decode("utf-8", "replace") if start >= 0 else ""
        written, _ = json.JSONDecoder().raw_decode(text[text.index("[") :])
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(written, list) or not all(isinstance(c, dict) and {"id", "name"} <= c.keys() for c in written):
        return None
    return _categories(path, written)


def _categories(path: Path, written: list[Any]) -> list[Category]:
    categories = []
    for entry in written:
        number = canonical_id(entry.get("id")) if isinstance(entry, dict) else None
        if number is None or "name" not in entry:
            raise UserError(f"{path}: each of 'categories' needs an 'id' and a 'name'")
        name = unicodedata.normalize("NFC", str(entry["name"]))
        parent = entry.get("supercategory")
        supercategory = None if parent is None else unicodedata.normalize("NFC", str(parent))
        categories.append(Category(number, name, entry["id"], supercategory))
    check_class_names([category.name for category in categories], path)
    _refuse_shared_ids(path, "categories", [(category.written_id, category.name) for category in categories])
    return sorted(categories, key=lambda c: (0, c.id) if isinstance(c.id, int) else (1, 0))


def _refuse_shared_ids(path: Path, what: str, entries: list[tuple[object, object]]) -> None:
    """Two of one id: which of them an annotation means, nobody knows."""
    seen: dict[Id, object] = {}
    for written, name in entries:
        number = canonical_id(written)
        if number is not None and number in seen:
            raise UserError(
                f"{path}: two of its {what} have the id {short(number)}: {short(seen[number])} and {short(name)}\n"
                "give each an id of its own, or export the annotations again"
            )
        if number is not None:
            seen[number] = name


@dataclass
class _Collector:
    """Takes annotations out of the JSON while it is parsed; everything else passes."""

    image_places: dict[Id, int] = field(default_factory=dict)
    category_places: dict[Id, int] = field(default_factory=dict)
    annotation_ids: list[object] = field(default_factory=list)
    values: array[float] = field(default_factory=lambda: array("d"))
    cvat: bytearray = field(default_factory=bytearray)

    def __call__(self, node: dict[str, Any]) -> dict[str, Any] | None:
        if "category_id" not in node or "image_id" not in node:
            return node
        attributes, segmentation = node.get("attributes"), node.get("segmentation")
        if not isinstance(attributes, dict):
            attributes = {}
        image, category = canonical_id(node["image_id"]), canonical_id(node["category_id"])
        rotation = 0.0 if segmentation else _number(attributes.get("rotation", 0))
        self.values.extend(
            (
                -1 if image is None else self.image_places.setdefault(image, len(self.image_places)),
                -1 if category is None else self.category_places.setdefault(category, len(self.category_places)),
                *_box(node.get("bbox"), segmentation),
                _number(node.get("area")),
                str(node.get("iscrowd", 0)).lower() in _TRUE,
                isinstance(segmentation, dict),
                rotation if math.isfinite(rotation) else 0.0,
            )
        )
        self.annotation_ids.append(node.get("id"))
        self.cvat.append("occluded" in attributes)
        return None


def _box(box: object, segmentation: object) -> tuple[float, float, float, float]:
    """(x, y, width, height) as annotated; where that is missing or empty, those of the segmentation."""
    found = NO_BOX
    if isinstance(box, list) and len(box) == 4:
        x, y, width, height = (_number(value) for value in box)
        found = (x, y, width, height)
        if width > 0 and height > 0:
            return found
    x1, y1, x2, y2 = segmentation_box(segmentation)
    return found if math.isnan(x1) else (x1, y1, x2 - x1, y2 - y1)


def _number(value: object) -> float:
    """A number, also one in quotes; NaN for anything else."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
