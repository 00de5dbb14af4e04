"""How an image lies: its EXIF orientation, also before its pixels are decoded."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ExifTags
from PIL.Image import Transpose
from PIL.PngImagePlugin import PngImageFile

SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations of images that lie on their side
TRANSPOSES = {  # what turns an image of this EXIF orientation upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_warnings_lock = threading.Lock()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore the warnings of Pillow about files that it reads all the same."""
    # Python's warning filters are global: without the lock two threads could restore each other's.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def exif_orientation(pil_image: PIL.Image.Image) -> int:
    """Return the EXIF orientation 1..8; 1 if the EXIF data are unreadable."""
    with without_warnings():
        try:
            return int(pil_image.getexif().get(ExifTags.Base.Orientation, 1))
        except Exception:  # as in images._explained
            return 1


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An image [H, W] or [H, W, N] of an EXIF orientation, turned to stand upright; a view."""
    if orientation in (5, 7):
        values = values.swapaxes(0, 1)
    if orientation in (2, 4):
        return values[:, ::-1] if orientation == 2 else values[::-1]
    return np.rot90(values, {3: 2, 6: -1, 7: 2, 8: 1}.get(orientation, 0))


def orientation_before_loading(pil_image: PIL.Image.Image) -> int:
    """Return the EXIF orientation 1..8 without decoding the pixels of a PNG."""
    # Where a PNG has none before its pixels, Pillow decodes them all to look behind them; the chunk headers tell too.
    early = pil_image.info.keys() & {"exif", "Raw profile type exif", "XML:com.adobe.xmp"}
    if (
        isinstance(pil_image, PngImageFile)
        and not early
        and not (pil_image.fp and _png_has_late_metadata(pil_image.fp))
    ):
        return 1
    return exif_orientation(pil_image)


def _png_has_late_metadata(stream: IO[bytes]) -> bool:
    """Return whether a PNG has text or EXIF chunks after its first pixels; keeps the stream position."""
    position = stream.tell()
    stream.seek(8)
    found, pixels_seen = False, False
    while len(header := stream.read(8)) == 8 and not found:
        kind = header[4:]
        pixels_seen = pixels_seen or kind == b"IDAT"
        found = pixels_seen and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        stream.seek(int.from_bytes(header[:4]) + 4, io.SEEK_CUR)
    stream.seek(position)
    return found
