"""Open Images' CSV: a row per box, with sides as shares of the image; IsGroupOf marks crowds."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import ClassVar

from yolofpn.data.csv_rows import read_cells, read_csv
from yolofpn.data.label_format import has_words
from yolofpn.data.labelled_images import ImageLabels, ListedFormat, ObjectLabel, number

_SIDES = ("XMin", "YMin", "XMax", "YMax")


class OpenImagesCsv(ListedFormat):
    """Boxes of groups become ignore regions. Classes are called as class-descriptions*.csv says, else by their ids."""

    key: ClassVar[str] = "open-images"
    title: ClassVar[str] = "Open Images boxes"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    has_sizes: ClassVar[bool] = False
    item: ClassVar[str] = "box"

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        """By its columns."""
        return any(has_words(path, "ImageID", "LabelName", *_SIDES) for path in files)

    def parse(self, path: Path) -> list[tuple[str, ImageLabels]]:
        """The boxes of each image."""
        names = _class_names(path)
        images: dict[str, list[ObjectLabel]] = {}
        for row in read_csv(path, ("ImageID", "LabelName", *_SIDES)):
            x1, y1, x2, y2 = (number(row[side]) for side in _SIDES)
            name = names.get(row["LabelName"], row["LabelName"])
            entry = ObjectLabel(name, (x1, y1, x2, y2), ignore=row.get("IsGroupOf") == "1")
            images.setdefault(row["ImageID"], []).append(entry)
        return [(image, ImageLabels(objects, normalised=True)) for image, objects in images.items()]


def _class_names(path: Path) -> dict[str, str]:
    """What each id ("/m/0bt9lr") stands for."""
    files = sorted(
        file for folder in (path.parent, path.parent.parent) for file in folder.glob("*class-descriptions*.csv")
    )
    return {cells[0]: cells[1].strip() for file in files[:1] for cells in read_cells(file) if len(cells) == 2}
