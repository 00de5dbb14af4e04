"""Supervisely's projects: ``meta.json``, and in each dataset ``img/a.jpg`` with ``ann/a.jpg.json``."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, ClassVar

from yolofpn.data.dataset import DetectionDataset, Problem, ProblemKind
from yolofpn.data.image_files import SPLIT_FOLDERS, Layout, Part, split_name
from yolofpn.data.label_format import DataFiles, has_words
from yolofpn.data.labelled_images import ImageLabels, ObjectLabel, class_names_of, number, read_beside, read_json
from yolofpn.data.shapes import NO_BOX, Box, points_box
from yolofpn.reading import ParseError, parse_json
from yolofpn.regular_files import read_whole

_SHAPES = ("rectangle", "polygon", "line", "bitmap")
_PNG = struct.Struct(">8s8xII")  # signature, IHDR, width and height


class SuperviselyJson:
    """The box around each object. Datasets called like a split are that split, all others are ``train``."""

    key: ClassVar[str] = "supervisely"
    title: ClassVar[str] = "Supervisely project"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    one_file: ClassVar[bool] = False
    has_sizes: ClassVar[bool] = True

    def __init__(self, files: DataFiles) -> None:
        self._files = files

    @classmethod
    def recognise(cls, folder: Path) -> Layout | None:
        """meta.json beside datasets with ``img`` and ``ann``."""
        datasets = [path.parent for path in sorted(folder.glob("*/ann")) if (path.parent / "img").is_dir()]
        if not datasets or not has_words(folder / "meta.json", '"classes"'):
            return None
        splits: dict[str, tuple[Part, ...]] = {}
        for place in datasets:
            split = split_name(place.name) if place.name.lower() in (*SPLIT_FOLDERS, "training") else "train"
            splits[split] = (*splits.get(split, ()), Part(place / "img", place / "ann"))
        return Layout(cls.key, folder, f"{cls.title} in {folder}", splits)

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """No: its files have folders of their own."""
        return False

    def class_names(self) -> tuple[str, ...]:
        """Those of meta.json in its order, else those of all objects."""
        origin = self._files.layout.origin
        meta = (origin if origin.is_dir() else origin.parent) / "meta.json"
        tree = read_json(meta, "classes of Supervisely") if meta.is_file() else None
        classes = tree.get("classes") if isinstance(tree, dict) else None
        if isinstance(classes, list):
            titles = [str(entry.get("title") or "") for entry in classes if isinstance(entry, dict)]
            return tuple(dict.fromkeys(title for title in titles if title))
        files = (file for part in self._files.present_parts() for file in self._labels(part))
        known = (labels for file in files if (labels := _parse_labels(file, [])) is not None)
        return class_names_of(entry.name for labels in known for entry in labels.objects if entry.dropped is None)

    def read(self, part: Part, names: tuple[str, ...]) -> DetectionDataset:
        """Images without a file are unlabelled."""
        return read_beside(self._files.images(part), self._labels(part), names, _parse_labels)

    def _labels(self, part: Part) -> list[Path]:
        folder = part.annotations or part.images.parent / "ann"
        return [folder / f"{image.name}.json" for image in self._files.images(part)]


def _parse_labels(path: Path, problems: list[Problem]) -> ImageLabels | None:
    try:
        tree = parse_json(read_whole(path))
    except FileNotFoundError:
        return None
    except (ParseError, OSError) as error:
        tree, reason = None, f"not readable as JSON ({error})"
    else:
        reason = "no annotation of Supervisely: it has no list of 'objects'"
    if not isinstance(tree, dict) or not isinstance(tree.get("objects"), list):
        problems.append(Problem(ProblemKind.MALFORMED, str(path), f"{reason}: its image counts as background"))
        return None
    size: Any = tree.get("size") if isinstance(tree.get("size"), dict) else {}
    objects = [_object(entry) for entry in tree["objects"] if isinstance(entry, dict)]
    return ImageLabels(objects, size.get("height"), size.get("width"))


def _object(entry: dict[str, Any]) -> ObjectLabel:
    name, kind = str(entry.get("classTitle") or "").strip(), entry.get("geometryType")
    if kind not in _SHAPES:
        return ObjectLabel(name, NO_BOX, dropped=f"a {str(kind)[:20]} has no box")
    box = _bitmap_box(entry.get("bitmap")) if kind == "bitmap" else _points_box(entry.get("points"))
    return ObjectLabel(name, box, outline=kind != "rectangle")


def _points_box(points: object) -> Box:
    """The box of corners, which are whole pixels inside the object: the last one belongs to it."""
    exterior = points.get("exterior") if isinstance(points, dict) else None
    pairs = [pair for pair in exterior if isinstance(pair, list) and len(pair) == 2] if exterior else []
    values = [(number(x), number(y)) for x, y in pairs]
    x1, y1, x2, y2 = points_box([x for x, _ in values], [y for _, y in values])
    whole = all(value.is_integer() for pair in values for value in pair)
    return x1, y1, x2 + whole, y2 + whole


def _bitmap_box(bitmap: object) -> Box:
    """The box of a mask: a compressed PNG, cut to what it shows, and its top left corner."""
    if not isinstance(bitmap, dict) or not isinstance(bitmap.get("origin"), list) or len(bitmap["origin"]) != 2:
        return NO_BOX
    try:
        packed = base64.b64decode(str(bitmap.get("data")), validate=True)
        signature, width, height = _PNG.unpack(zlib.decompressobj().decompress(packed, _PNG.size))
    except (binascii.Error, zlib.error, struct.error):
        return NO_BOX
    if signature != b"\x89PNG\r\n\x1a\n":
        return NO_BOX
    x, y = map(number, bitmap["origin"])
    return x, y, x + width, y + height
