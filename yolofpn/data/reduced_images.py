"""Reads JPEG images at a half, a quarter or an eighth of their size where that is all that the network sees of them.

libjpeg computes such an image from the low frequencies of each block, at a fraction of the time and memory. Images of
other formats are read whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from yolofpn.data.images import bands_named, open_image, to_bgr
from yolofpn.data.orientation import SIDEWAYS, exif_orientation
from yolofpn.fields import Depth
from yolofpn.structures import Image

Size: TypeAlias = tuple[int, int]  # (height, width) in pixels
NeededSize: TypeAlias = Callable[[Size], Size]
Admit: TypeAlias = Callable[[int], None]

FACTORS = (8, 4, 2)
COEFFICIENT_BYTES = 2  # of the coefficient of a pixel's channel, where a decoded one takes one


class ReducedImage(NamedTuple):
    """An image and that of which it shows less.

    Attributes:
        image: [h, w, 3] uint8, BGR, upright.
        size: (height, width) of the whole image.
        factor: pixels of the whole image, along each axis, to one of ``image``; the last ones of a row or column may
            lie beyond its edge.
    """

    image: Image
    size: Size
    factor: int


def read_reduced(
    source: str | Path | bytes,
    needed: NeededSize | None,
    *,
    name: str,
    depth: Depth = "auto",
    admit: Admit = lambda pixels: None,
) -> ReducedImage:
    """``read_image``, reduced as far as ``needed`` allows.

    Args:
        source: path of the file, or its content.
        needed: (height, width) of an upright image -> of the smallest one that will do in its place; None: all of it.
        name: name in error messages.
        depth: bit depth of images with more than 8 bits per channel.
        admit: is called with the number of pixels before they are decoded, and may wait; of progressive JPEG images it
            includes what the decoder holds besides.

    Raises:
        InputError: as ``read_image``.
    """
    with bands_named(source, name), open_image(source, name=name) as pil_image:
        width, height = pil_image.size
        factor = 1
        if needed is not None and pil_image.format in ("JPEG", "MPO"):
            orientation = exif_orientation(pil_image)
            upright = (width, height) if orientation in SIDEWAYS else (height, width)
            factor = reduction(upright, needed(upright), exact=orientation != 1)
            if factor > 1:
                pil_image.draft(None, (width // factor, height // factor))
                if pil_image.size == (width, height):
                    factor = 1
        pixels = pil_image.width * pil_image.height
        if pil_image.info.get("progressive"):  # libjpeg holds the coefficients of the whole image
            pixels += width * height * COEFFICIENT_BYTES
        admit(pixels)
        image = to_bgr(pil_image, name=name, depth=depth)
    return ReducedImage(image, upright if factor > 1 else (image.shape[0], image.shape[1]), factor)


def reduction(size: Size, needed: Size, *, exact: bool = False) -> int:
    """The largest of 8, 4, 2 and 1 by which ``size`` can be divided and is still at least ``needed``.

    Args:
        size: of the whole image.
        needed: of the reduced one.
        exact: only by what divides both sides: in an image that is turned or mirrored, the pixels beyond its edge would
            come first, and shift the others.
    """
    largest = min(side // least for side, least in zip(size, needed, strict=True))
    divides = [factor for factor in FACTORS if not (exact and (size[0] % factor or size[1] % factor))]
    return next((factor for factor in divides if factor <= largest), 1)
