"""Class names of COCO and VOC, files of class names, and matching of classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from yolofpn.config import read_yaml
from yolofpn.errors import UserError
from yolofpn.reading import (
    MAX_TEXT_BYTES,
    ParseError,
    check_class_count,
    check_class_names,
    exists,
    read_bounded,
    short,
)

COCO_NAMES: tuple[str, ...] = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
"""COCO's 80 names by label, spelt as in its JSON files (Darknet's coco.names spells six of them as VOC does)."""

_UNUSED_COCO_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_CATEGORY_IDS: tuple[int, ...] = tuple(i for i in range(1, 91) if i not in _UNUSED_COCO_IDS)
"""COCO's id of each of the 80 labels: 1 to 90, with gaps where planned categories were never annotated."""

VOC_NAMES: tuple[str, ...] = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""Pascal VOC's 20 names by label."""

_COCO_SPELLING = {"motorbike": "motorcycle", "aeroplane": "airplane", "sofa": "couch", "tvmonitor": "tv"}


@dataclass(frozen=True)
class ClassMatch:
    """Mapping of the classes of weights to those of a data set.

    Attributes:
        how: criterion of the match; None if nothing matched.
        mapping: by label of the weights, the data set's label, or None.
        unmatched_weights: names of the weights' classes that the data set does not have.
        unmatched_data: names of the data set's classes that the weights do not have.
    """

    how: Literal["category id", "name", "order"] | None
    mapping: tuple[int | None, ...]
    unmatched_weights: tuple[str, ...]
    unmatched_data: tuple[str, ...]

    def __str__(self) -> str:
        """Format how many classes matched, by which criterion, and which did not."""
        matched = len(self.mapping) - len(self.unmatched_weights)
        text = f"classes: {matched} of the weights' {len(self.mapping)} matched" + (
            f" by {self.how}" if self.how else ""
        )
        if self.unmatched_weights:
            text += f"; only in the weights: {', '.join(self.unmatched_weights)}"
        if self.unmatched_data:
            text += f"; only in the data: {', '.join(self.unmatched_data)}"
        return text


def normalise_name(name: str) -> str:
    """Return a key that ignores case, spaces, underscores, hyphens and the spelling variants of COCO and VOC."""
    folded = unicodedata.normalize("NFC", name).casefold()
    squeezed = re.sub(r"[\s_-]+", "", folded) or folded
    return _COCO_SPELLING.get(squeezed, squeezed)


def coco_category_ids(names: Sequence[str]) -> tuple[int, ...]:
    """Return COCO's 80 category ids if ``names`` are COCO's 80 classes in order, in any spelling; else ()."""
    same = [normalise_name(name) for name in names] == [normalise_name(name) for name in COCO_NAMES]
    return COCO_CATEGORY_IDS if same else ()


def match_classes(
    weights_names: Sequence[str],
    weights_ids: Sequence[int],
    data_names: Sequence[str],
    data_ids: Sequence[int],
) -> ClassMatch:
    """Match by category id, else by name, else by order if the counts agree.

    Ids are believed only if both sides have them, more than half of the ids that they share name the same class,
    and no class that both sides name stands under different ids. So COCO's own files are matched by id although a
    class was renamed, while a data set that numbers its own classes 1 .. N is not mistaken for COCO.

    Args:
        weights_names: by label.
        weights_ids: the category id of each label, or empty.
        data_names: by label.
        data_ids: the category id of each label, or empty.

    Raises:
        ValueError: if ids and names differ in number.
    """
    for names, ids in ((weights_names, weights_ids), (data_names, data_ids)):
        if ids and len(ids) != len(names):
            raise ValueError(f"{len(ids)} category ids for {len(names)} names")
    weights_keys = [normalise_name(name) for name in weights_names]
    data_keys = [normalise_name(name) for name in data_names]

    how: Literal["category id", "name", "order"] | None = None
    mapping: tuple[int | None, ...] = (None,) * len(weights_names)
    if _ids_agree(weights_keys, weights_ids, data_keys, data_ids):
        mapping = _pair(weights_ids, data_ids)
        how = "category id"
        if all(list(ids) == list(range(len(ids))) for ids in (weights_ids, data_ids)):  # no more than the labels
            pairs = enumerate(mapping)
            equal = all(place is None or weights_keys[label] == data_keys[place] for label, place in pairs)
            how = "name" if equal else "order"
    elif set(weights_keys) & set(data_keys):
        how, mapping = "name", _pair(weights_keys, data_keys)
    elif len(weights_names) == len(data_names) > 0:
        how, mapping = "order", tuple(range(len(data_names)))
    return ClassMatch(
        how,
        mapping,
        unmatched_weights=tuple(name for name, label in zip(weights_names, mapping, strict=True) if label is None),
        unmatched_data=tuple(name for label, name in enumerate(data_names) if label not in mapping),
    )


def _ids_agree(
    weights_keys: Sequence[str],
    weights_ids: Sequence[int],
    data_keys: Sequence[str],
    data_ids: Sequence[int],
) -> bool:
    if not weights_ids or not data_ids:
        return False
    weights, data = dict(zip(weights_ids, weights_keys, strict=True)), dict(zip(data_ids, data_keys, strict=True))
    shared = weights.keys() & data.keys()
    equal = sum(weights[i] == data[i] for i in shared)
    named_twice = set(weights_keys) & set(data_keys)
    return 2 * equal > len(shared) and equal == len(named_twice)


def _pair(weights_keys: Sequence[Any], data_keys: Sequence[Any]) -> tuple[int | None, ...]:
    """The place of each of ``weights_keys`` in ``data_keys``; of equal keys the first one counts, once."""
    places: dict[Any, int] = {}
    for label, key in enumerate(data_keys):
        places.setdefault(key, label)
    return tuple(places.pop(key, None) for key in weights_keys)


def read_names(path: str | Path) -> tuple[str, ...]:
    """Class names by label from a ``.names`` or ``classes.txt`` (one per line), a data.yaml or a Darknet ``.data``.

    Raises:
        UserError: if the file is missing, unreadable or holds no names.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".yaml" | ".yml":
            names = _names_of_yaml(path)
        case ".data":
            names = _names_of_lines(_names_file_of_darknet_data(path))
        case _:
            names = _names_of_lines(path)
    check_class_names(names, path)
    return names


def numbered_names(count: int, origin: object) -> tuple[str, ...]:
    """The names "0", "1", ... of classes of which only the number is known.

    Args:
        count: how many.
        origin: where that is written, to name in errors.

    Raises:
        UserError: if they are more than the limit.
    """
    check_class_count(count, origin)
    return tuple(map(str, range(count)))


def line_of(path: Path, key: str) -> str:
    """``path:line`` of the first line of a text file that begins with ``key``, for messages; else the path."""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[:=]", line):
            return f"{path}:{number}"
    return str(path)


def _read_lines(path: Path) -> list[str]:
    try:
        text = read_bounded(path, MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file (UTF-8), so not a list of class names") from None
    except ParseError as error:
        raise UserError(f"{path}: {error}: expected a file with one class name per line") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected a file with one class name per line") from None
    return [line.strip() for line in text.splitlines()]


def _names_of_lines(path: Path) -> tuple[str, ...]:
    lines = _read_lines(path)
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UserError(f"{path}: holds no class names: expected one per line")
    if "" in lines:
        raise UserError(f"{path}: line {lines.index('') + 1} is blank, but line N names class N - 1: fill or remove it")
    return tuple(lines)


def _names_of_yaml(path: Path) -> tuple[str, ...]:
    names = read_yaml(path).get("names")
    if isinstance(names, dict):
        by_label = {str(label): name for label, name in names.items()}
        expected = [str(label) for label in range(len(names))]
        if set(by_label) != set(expected):
            raise UserError(f"{path}: names: the {len(names)} classes must be numbered 0 to {len(names) - 1}")
        names = [by_label[label] for label in expected]
    if not isinstance(names, list) or not names:
        raise UserError(f"{path}: has no class names: expected 'names: [cat, dog]' or 'names: {{0: cat, 1: dog}}'")
    for label, name in enumerate(names):
        if not isinstance(name, str | int | float) or not str(name).strip():
            raise UserError(f"{path}: names: the name of class {label} is {short(name)}: write it in quotes")
    return tuple(str(name).strip() for name in names)


def _names_file_of_darknet_data(path: Path) -> Path:
    """The file that the ``names = ...`` line points to: as written, else relative to the ``.data`` file."""
    pairs = [line.partition("=") for line in _read_lines(path) if not line.startswith("#")]
    values = [value.strip() for key, _, value in pairs if key.strip() == "names" and value.strip()]
    if not values:
        raise UserError(f"{path}: has no line 'names = FILE' that says where the class names are")
    written = Path(values[-1])
    for candidate in (written, path.parent / written, path.parent / written.name):
        if exists(candidate) and candidate.is_file():
            return candidate
    raise UserError(f"{path}: names = {written}: no such file, neither from here nor beside the .data file")
