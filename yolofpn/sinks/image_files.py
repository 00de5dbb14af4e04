"""Images as files of other formats, and the parts of images that boxes enclose."""

from __future__ import annotations

import contextlib

import numpy as np

from yolofpn.errors import InputError
from yolofpn.opencv import cv2
from yolofpn.structures import Image

QUALITY = 95  # of JPEG and WebP
WRITABLE = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".heic", ".heif", ".jp2", ""}


def encode_image(image: Image, suffix: str) -> tuple[bytes, str]:
    """An image file's content and suffix: ``suffix`` where it can be written, else ``.jpg`` or the lossless ``.png``.

    Args:
        image: [H, W, 3] uint8, BGR.
        suffix: of the file that the image comes from.

    Raises:
        InputError: no format takes an image of this size.
    """
    suffix = suffix.lower()
    if suffix not in WRITABLE:
        suffix = ".jpg" if suffix in LOSSY else ".png"
    for attempt in (suffix, ".png"):  # JPEG ends at 65535 pixels a side, WebP at 16383
        with contextlib.suppress(cv2.error):
            encoded, data = cv2.imencode(attempt, np.ascontiguousarray(image), _settings(attempt))
            if encoded:
                return data.tobytes(), attempt
    raise InputError(f"an image of {image.shape[1]}x{image.shape[0]} pixels cannot be written as {suffix} or .png")


def _settings(suffix: str) -> list[int]:
    keys = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".jpeg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}
    return [keys[suffix], QUALITY] if suffix in keys else []


def crop(image: Image, box: list[float]) -> Image:
    """The pixels that a box touches, at least one.

    Args:
        image: [H, W, 3] uint8, BGR.
        box: xyxy, pixels.
    """
    height, width = image.shape[:2]
    left = min(max(int(np.floor(box[0])), 0), width - 1)
    top = min(max(int(np.floor(box[1])), 0), height - 1)
    right = min(max(int(np.ceil(box[2])), left + 1), width)
    bottom = min(max(int(np.ceil(box[3])), top + 1), height)
    return image[top:bottom, left:right]
