"""CVAT's own XML ("CVAT for images 1.1")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from yolofpn.data.writers.labelled import WrittenImage, WrittenObject, WrittenSplit, attributes, text, xml_text

CVAT_TAIL = "</annotations>\n"
DIFFICULT = "difficult"  # the attribute that CVAT's own VOC import gives to objects


class CvatWriter:
    """Ignore regions have the attribute ``difficult``, which the labels of the task must have to keep it."""

    key: ClassVar[str] = "cvat"
    help: ClassVar[str] = "SPLIT.xml, CVAT for images 1.1"
    image_folder: ClassVar[str] = "images/{split}"
    root: ClassVar[str] = "images/{split}"
    annotations: ClassVar[str] = "{split}.xml"
    suffix: ClassVar[str | None] = None
    flat: ClassVar[bool] = False
    keeps: ClassVar[frozenset[str]] = frozenset({"background", "ignore"})

    @staticmethod
    def files(split: WrittenSplit) -> Iterable[tuple[str, str]]:
        """One file."""
        marked = any(entry.ignore for entry in split.objects)
        images = "".join(cvat_image(number, image, marked=marked) for number, image in enumerate(split.images))
        head = cvat_head(split.names, split.name, marked=marked)
        yield CvatWriter.annotations.format(split=split.name), head + images + CVAT_TAIL

    @staticmethod
    def shared_files(splits: Sequence[WrittenSplit]) -> Iterable[tuple[str, str]]:
        """None."""
        return ()


def cvat_head(names: Sequence[str], task: str, *, marked: bool = False) -> str:
    """What stands before the images: the labels in their order, with the attribute ``difficult`` if ``marked``."""
    attribute = (
        f"<attributes><attribute><name>{DIFFICULT}</name><mutable>False</mutable><input_type>checkbox</input_type>"
        "<default_value>false</default_value><values>false</values></attribute></attributes>"
        if marked
        else "<attributes></attributes>"
    )
    labels = "".join(f"<label><name>{xml_text(name)}</name>{attribute}</label>\n" for name in names)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta><task><name>{xml_text(task)}</name><labels>\n{labels}</labels></task></meta>\n"
    )


def cvat_image(number: int, image: WrittenImage, *, marked: bool = False) -> str:
    """The element of an image with its boxes."""
    height, width = image.size
    boxes = "".join(_box(entry, marked) for entry in image.objects)
    return f"<image{attributes(id=number, name=image.name, width=width, height=height)}>\n{boxes}</image>\n"


def _box(entry: WrittenObject, marked: bool) -> str:
    x1, y1, x2, y2 = map(text, entry.box)
    source = "manual" if entry.score is None else "auto"
    sides = attributes(label=entry.name, source=source, occluded=0, xtl=x1, ytl=y1, xbr=x2, ybr=y2, z_order=0)
    mark = f'<attribute name="{DIFFICULT}">{str(entry.ignore).lower()}</attribute>' if marked else ""
    return f"  <box{sides}>{mark}</box>\n"
