"""Pascal VOC's XML in the devkit's folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import ClassVar

from yolofpn.data.writers.labelled import WrittenImage, WrittenSplit, label_files, text, xml_text
from yolofpn.text import list_line

# What readers take for the writer decides how they read the corners.
_SOURCES = {
    "devkit": "<database>Unknown</database><annotation>PASCAL VOC</annotation><image>Unknown</image>",
    "cvat": "<database>Unknown</database><annotation>Unknown</annotation><image>Unknown</image>",
}


class VocWriter:
    """Ignore regions become difficult objects.

    With the devkit's corners the first pixel is 1 and the last belongs to the box.
    """

    key: ClassVar[str] = "voc"
    help: ClassVar[str] = "Annotations/STEM.xml and ImageSets/Main/SPLIT.txt"
    image_folder: ClassVar[str] = "JPEGImages"
    root: ClassVar[str] = "JPEGImages"
    annotations: ClassVar[str] = "Annotations"
    suffix: ClassVar[str | None] = ".xml"
    flat: ClassVar[bool] = True
    keeps: ClassVar[frozenset[str]] = frozenset({"background", "ignore", "unlabelled"})

    @staticmethod
    def files(split: WrittenSplit) -> Iterable[tuple[str, str]]:
        """One for each labelled image, and the list of the split."""
        yield from label_files(split, "Annotations", ".xml", lambda image: voc_xml(image, split.voc_corners))
        stems = "".join(f"{list_line(PurePosixPath(image.name).stem)}\n" for image in split.images)
        yield f"ImageSets/Main/{split.name}.txt", stems

    @staticmethod
    def shared_files(splits: Sequence[WrittenSplit]) -> Iterable[tuple[str, str]]:
        """The classes in their order, as CVAT and datumaro read them."""
        rows = "".join(f"{name}:::\n" for name in splits[0].names)
        yield "labelmap.txt", f"# label:color_rgb:parts:actions\n{rows}"


def voc_xml(image: WrittenImage, corners: str = "devkit") -> str:
    """The annotation file of an image."""
    height, width = image.size
    first = int(corners == "devkit")
    objects = []
    for entry in image.objects:
        x1, y1, x2, y2 = entry.box
        sides = {"xmin": x1 + first, "ymin": y1 + first, "xmax": x2, "ymax": y2}
        box = "".join(f"<{key}>{text(value)}</{key}>" for key, value in sides.items())
        objects.append(
            f"  <object>\n    <name>{xml_text(entry.name)}</name>\n    <pose>Unspecified</pose>\n"
            f"    <truncated>0</truncated>\n    <difficult>{int(entry.ignore)}</difficult>\n"
            f"    <bndbox>{box}</bndbox>\n  </object>\n"
        )
    return (
        f"<annotation>\n  <folder>JPEGImages</folder>\n  <filename>{xml_text(image.name)}</filename>\n"
        f"  <source>{_SOURCES[corners]}</source>\n"
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
        f"  <segmented>0</segmented>\n{''.join(objects)}</annotation>\n"
    )
