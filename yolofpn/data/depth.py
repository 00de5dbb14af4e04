"""Converts images with more than 8 bits per channel to 8 bits."""

from __future__ import annotations

import logging
from typing import IO, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from yolofpn.fields import Depth
from yolofpn.opencv import cv2

_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE = 258, 281  # TIFF tags
_OVERSHOOT = 2  # times the white of floats: resampling goes a little beyond it
_MOST = 0.9  # of an image that is black or white: the scale is probably another one
_MOST_LINES = 5

logger = logging.getLogger(__name__)
_warned: set[str] = set()


def is_deep_colour(pil_image: PIL.Image.Image) -> bool:
    """Return whether an unloaded image has 16 bits per colour channel, which Pillow reduces to the high byte."""
    return pil_image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in getattr(pil_image, "tile", ()))


def deep_colour(pil_image: PIL.Image.Image, depth: Depth) -> PIL.Image.Image | None:
    """Read a PNG or TIFF with 16-bit colours as RGB or RGBA; None if OpenCV cannot read it.

    Args:
        pil_image: not loaded yet.
        depth: of its values, ``auto`` means 16.
    """
    stream: IO[bytes] | None = getattr(pil_image, "fp", None)
    if stream is None:
        return None
    position = stream.tell()
    stream.seek(0)
    data = np.frombuffer(stream.read(), np.uint8)
    stream.seek(position)
    flags = cv2.IMREAD_UNCHANGED
    values: NDArray[Any] | None = cv2.imdecode(data, flags)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        return None
    colours = _scaled(values[:, :, :3], depth if depth != "auto" else "16")[:, :, ::-1]
    if values.shape[2] == 4:
        colours = np.dstack([colours, _scaled(values[:, :, 3:], "16")])
    return PIL.Image.fromarray(np.ascontiguousarray(colours))


def deep_grey(pil_image: PIL.Image.Image, depth: Depth) -> NDArray[np.uint8]:
    """Convert a loaded image of mode I;16 (and variants), I or F to [H, W] grey values.

    Args:
        pil_image: a loaded image; its format and tags may state the depth.
        depth: which value is white: 4095, 65535, or the largest one there is, where the smallest is black.
    """
    values = np.asarray(pil_image)
    if depth == "auto":
        depth = _stated_depth(pil_image)
    # Pillow stretches 16-bit PGM to all of 0..65535, whatever is white in the file.
    if pil_image.format == "PPM" and depth != "minmax":
        depth = "16"
    grey = _scaled(values, depth)
    if (transparent := pil_image.info.get("transparency")) is not None and pil_image.mode != "F":
        grey = np.where(values == transparent, np.uint8(255), grey)
    return grey


def warn_if_flat(grey: NDArray[np.uint8], largest: float | None, name: str, depth: Depth) -> None:
    """Log a warning, a few times at most, for an image that has become almost entirely black or white.

    Args:
        grey: uint8, of any shape.
        largest: of the values before, where known.
        name: of the image.
        depth: how it was read.
    """
    if depth == "minmax" or name in _warned or len(_warned) >= _MOST_LINES:
        return
    tone = "black" if (grey < 16).mean() >= _MOST else "white" if (grey > 250).mean() >= _MOST else None
    if tone is None:
        return
    _warned.add(name)
    values = "" if largest is None else f", its largest value is {largest:g}"
    better = "12" if tone == "black" and depth != "12" and largest is not None and 255 < largest <= 4095 else "minmax"
    logger.warning(
        "%s: most of it is %s when read with --depth %s%s: try --depth %s", name, tone, depth, values, better
    )


def _stated_depth(pil_image: PIL.Image.Image) -> Depth:
    tags = getattr(pil_image, "tag_v2", {})
    bits, white = (tags.get(tag) for tag in (_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE))
    return "12" if bits in (12, (12,)) or white in (4095, (4095,)) else "auto"


def _scaled(values: NDArray[Any], depth: Depth) -> NDArray[np.uint8]:
    if depth == "minmax":
        return _stretched(values)
    if values.dtype.kind == "f":
        return _from_floats(np.nan_to_num(values, posinf=np.inf, neginf=-np.inf), depth)
    sixteen_bits = values.dtype.itemsize == 2
    values = values.astype(np.int64).clip(0)
    if depth == "12":
        values = values >> 4
    elif depth == "16" or sixteen_bits or 255 < values.max() <= 65535:
        values = values >> 8
    elif values.max() > 65535:
        values = values >> 24
    return values.clip(max=255).astype(np.uint8)


def _from_floats(values: NDArray[Any], depth: Depth) -> NDArray[np.uint8]:
    largest = values.max()
    if depth == "auto":
        whites = (1, 255, 65535)
        white = next((white for white in whites if largest <= _OVERSHOOT * white), whites[-1])
    else:
        white = 4095 if depth == "12" else 65535
    return (values * (255 / white)).clip(0, 255).round().astype(np.uint8)


def _stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / (high - low))
    grey: NDArray[np.uint8] = scaled.round().astype(np.uint8)
    return grey
