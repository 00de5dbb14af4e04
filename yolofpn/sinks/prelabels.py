"""Detections as labels that somebody corrects in a labelling tool: shared by the sinks of such tools."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from yolofpn.data.writers.labelled import WrittenImage, WrittenObject
from yolofpn.errors import InputError
from yolofpn.files import unfinished, write_atomically, write_errors
from yolofpn.sinks.output_names import OutputNames, add_suffix
from yolofpn.sinks.records import rows

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame

_DIGITS = Decimal("0.01")  # pixels


def written_image(name: str, size: tuple[int, int], detections: Detections) -> WrittenImage:
    """The detections of an image for a label writer.

    Boxes are rounded to 0.01 pixels and clipped to the image; those without an area, which labelling tools refuse,
    are skipped.

    Args:
        name: what the tool calls the image.
        size: its (height, width).
        detections: in pixels of it.
    """
    height, width = size
    objects = []
    for (x1, y1, x2, y2), score, label, class_name in rows(detections):
        left, right = (Decimal(min(max(x, 0.0), width)).quantize(_DIGITS) for x in (x1, x2))
        top, bottom = (Decimal(min(max(y, 0.0), height)).quantize(_DIGITS) for y in (y1, y2))
        if right > left and bottom > top:
            objects.append(WrittenObject(class_name, label, (left, top, right, bottom), score=score))
    return WrittenImage(name, size, objects, reference=name)


class FlatImages:
    """Images under names without folders, which labelling tools find: ``a/b/dog.jpg`` is ``a__b__dog.jpg``.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = OutputNames()
        self._stems = OutputNames()

    def write(self, source: SourceInfo, frame: Frame) -> str:
        """Write an image or frame and return its name.

        It is the source's own file where every tool can read it, else encoded again, without loss if it is an image.

        Raises:
            UserError: it cannot be written.
        """
        from yolofpn.sinks.image_files import encode_image  # OpenCV: not for detect.py --help

        nested = self._names.frame_stem(source, frame)
        stem = self._stems.claim(PurePath("__".join(nested.parts)))
        if source.kind == "image" and source.path is not None and _is_plain(source.path):
            path = self._folder / add_suffix(stem, source.path.suffix.lower())
            with write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with unfinished(path) as part:
                    shutil.copyfile(source.path, part)
            return path.name
        data, suffix = encode_image(frame.whole_image(), ".png" if source.kind == "image" else ".jpg")
        path = self._folder / add_suffix(stem, suffix)
        write_atomically(path, data)
        return path.name


def _is_plain(path: Path) -> bool:
    """Return whether every tool reads this file like detection does: an 8-bit JPEG or PNG without EXIF rotation."""
    from yolofpn.data.images import open_image
    from yolofpn.data.orientation import exif_orientation

    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        return False
    try:
        with open_image(path) as image:
            return exif_orientation(image) == 1 and image.format in ("JPEG", "PNG") and image.mode in ("RGB", "L")
    except InputError:
        return False
