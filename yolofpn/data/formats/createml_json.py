"""Apple CreateML's JSON: a list of images with boxes by their centres, in pixels."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, ClassVar

from yolofpn.data.label_format import has_words
from yolofpn.data.labelled_images import ImageLabels, ListedFormat, ObjectLabel, number, read_json
from yolofpn.data.shapes import NO_BOX
from yolofpn.errors import UserError


class CreateMLJson(ListedFormat):
    """Coordinates are those of the centre, width and height."""

    key: ClassVar[str] = "createml"
    title: ClassVar[str] = "CreateML annotations"
    has_sizes: ClassVar[bool] = False

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """By its keys."""
        return any(has_words(path, '"image', '"annotations"', '"coordinates"', '"label"') for path in files)

    def parse(self, path: Path) -> list[tuple[str, ImageLabels]]:
        """The objects of each image."""
        tree = read_json(path, "annotations of CreateML")
        if not isinstance(tree, list) or not all(isinstance(entry, dict) for entry in tree):
            raise UserError(f"{path}: no annotations of CreateML: expected a list of images")
        images = []
        for entry in tree:
            name, objects = entry.get("image", entry.get("imagefilename")), entry.get("annotations")
            if isinstance(name, str):
                found = objects if isinstance(objects, list) else []
                images.append((name, ImageLabels([_object(written) for written in found])))
        return images


def _object(written: Any) -> ObjectLabel:  # noqa: ANN401
    name = str(written.get("label") or "").strip() if isinstance(written, dict) else ""
    place = written.get("coordinates") if isinstance(written, dict) else None
    if not isinstance(place, dict) or not name:
        return ObjectLabel(name, NO_BOX, dropped="has no 'label' or no 'coordinates'")
    x, y, width, height = (number(place.get(key)) for key in ("x", "y", "width", "height"))
    return ObjectLabel(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
