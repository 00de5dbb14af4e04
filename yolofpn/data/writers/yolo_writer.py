"""YOLO's text files, with ``images/SPLIT`` and ``labels/SPLIT`` as Ultralytics and Darknet look for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from yolofpn.data.writers.labelled import WrittenImage, WrittenSplit, label_files, text
from yolofpn.text import one_line_names

DIGITS = 9  # of a share of the image's side: less than 0.00001 pixels of the largest images


class YoloWriter:
    """Unlabelled images get no label file, background an empty one."""

    key: ClassVar[str] = "yolo"
    help: ClassVar[str] = "labels/SPLIT/STEM.txt"
    image_folder: ClassVar[str] = "images/{split}"
    root: ClassVar[str] = "images/{split}"
    annotations: ClassVar[str] = "labels/{split}"
    suffix: ClassVar[str | None] = ".txt"
    flat: ClassVar[bool] = True
    keeps: ClassVar[frozenset[str]] = frozenset({"background", "unlabelled"})

    @staticmethod
    def files(split: WrittenSplit) -> Iterable[tuple[str, str]]:
        """One for each labelled image."""
        return label_files(split, YoloWriter.annotations.format(split=split.name), ".txt", yolo_text)

    @staticmethod
    def shared_files(splits: Sequence[WrittenSplit]) -> Iterable[tuple[str, str]]:
        """The class names, for LabelImg and Label Studio's converter."""
        yield "classes.txt", "".join(f"{name}\n" for name in one_line_names(splits[0].names))


def yolo_text(image: WrittenImage) -> str:
    """A line for each object that is no ignore region."""
    height, width = image.size
    lines = []
    for entry in image.objects:
        if not entry.ignore:
            x1, y1, x2, y2 = entry.box
            shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(" ".join([str(entry.label), *(text(share, DIGITS) for share in shares)]) + "\n")
    return "".join(lines)
