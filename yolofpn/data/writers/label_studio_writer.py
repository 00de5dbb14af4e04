"""Label Studio's JSON: tasks with annotations, or with predictions to be corrected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from yolofpn.data.writers.labelled import WrittenImage, WrittenObject, WrittenSplit, attributes, plain

DIFFICULT = "difficult"
LABEL_NAME, IMAGE_NAME = "label", "image"
_DIGITS = 9  # of a percentage: less than a millionth of a pixel


class LabelStudioWriter:
    """Ignore regions have the choice ``difficult``. Images come from local storage with the output as document root."""

    key: ClassVar[str] = "label-studio"
    help: ClassVar[str] = "SPLIT.json (tasks) and label_config.xml"
    image_folder: ClassVar[str] = "images/{split}"
    root: ClassVar[str] = "."
    annotations: ClassVar[str] = "{split}.json"
    suffix: ClassVar[str | None] = None
    flat: ClassVar[bool] = False
    keeps: ClassVar[frozenset[str]] = frozenset({"background", "ignore", "unlabelled"})

    @staticmethod
    def files(split: WrittenSplit) -> Iterable[tuple[str, str]]:
        """One file."""
        tasks = [_annotated(number, image) for number, image in enumerate(split.images, start=1)]
        yield LabelStudioWriter.annotations.format(split=split.name), json.dumps(tasks, indent=1, ensure_ascii=False)

    @staticmethod
    def shared_files(splits: Sequence[WrittenSplit]) -> Iterable[tuple[str, str]]:
        """The labelling interface of the project."""
        marked = any(entry.ignore for split in splits for entry in split.objects)
        yield "label_config.xml", label_config(splits[0].names, marked=marked)


def label_config(names: Sequence[str], *, marked: bool = False) -> str:
    """The labelling interface: the classes in their order, and the choice ``difficult`` if ``marked``."""
    labels = "".join(f"    <Label{attributes(value=name)}/>\n" for name in names)
    choices = (
        f'  <Choices name="{DIFFICULT}" toName="{IMAGE_NAME}" perRegion="true">\n    <Choice value="{DIFFICULT}"/>\n'
    )
    return (
        f'<View>\n  <Image name="{IMAGE_NAME}" value="$image"/>\n'
        f'  <RectangleLabels name="{LABEL_NAME}" toName="{IMAGE_NAME}">\n{labels}  </RectangleLabels>\n'
        f"{choices + '  </Choices>' + chr(10) if marked else ''}</View>\n"
    )


def local_image(path: str) -> str:
    """The URL of a file in local storage; ``path`` is relative to the document root."""
    return f"/data/local-files/?d={quote(path)}"


def regions(image: WrittenImage) -> list[dict[str, Any]]:
    """The ``result`` of an annotation or prediction."""
    found = []
    for number, entry in enumerate(image.objects):
        found.append(_region(number, entry, image.size))
        if entry.ignore:
            region = _region(number, entry, image.size)
            value = {**region["value"], "choices": [DIFFICULT]}
            del value["rectanglelabels"]
            found.append({**region, "from_name": DIFFICULT, "type": "choices", "value": value})
    return found


def _annotated(number: int, image: WrittenImage) -> dict[str, Any]:
    task: dict[str, Any] = {"id": number, "data": {"image": local_image(image.reference)}}
    return {**task, "annotations": [{"id": number, "result": regions(image)}]} if image.labelled else task


def _region(number: int, entry: WrittenObject, size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    x1, y1, x2, y2 = entry.box
    shares = {"x": x1 / width, "y": y1 / height, "width": (x2 - x1) / width, "height": (y2 - y1) / height}
    value: dict[str, Any] = {key: plain(round(share * 100, _DIGITS)) for key, share in shares.items()}
    region = {
        "id": f"r{number}",
        "from_name": LABEL_NAME,
        "to_name": IMAGE_NAME,
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, "rotation": 0, "rectanglelabels": [entry.name]},
    }
    return region if entry.score is None else {**region, "score": round(entry.score, 4)}
