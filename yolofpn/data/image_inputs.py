"""Images as the Python interface takes them, and those that go through the network together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from yolofpn.bands import Bands, in_tensor_order, viewable, with_channels
from yolofpn.data.band_files import pillow_values
from yolofpn.data.images import read_image, to_bgr
from yolofpn.fields import Depth
from yolofpn.opencv import cv2
from yolofpn.ops.resize import NetworkImage
from yolofpn.structures import Image


def to_batch(images: Sequence[NetworkImage]) -> NDArray[np.uint8] | NDArray[np.float32]:
    """[H, W, N], three BGR, all of one size -> [B, N, H, W], three RGB, of the same type."""
    height, width, channels = images[0].shape
    batch = np.empty((len(images), channels, height, width), images[0].dtype)
    for image, planes in zip(images, batch, strict=True):
        if channels != 3:
            planes[:] = image.transpose(2, 0, 1)
            continue
        cv2.mixChannels([image], list(planes), [2, 0, 1, 1, 0, 2])  # five times as fast as NumPy or torch
    return batch


def group_by_size(sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The indices of images of each (height, width), which can share a batch."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(size, []).append(index)
    return list(groups.values())


ImageInput: TypeAlias = "str | Path | Image | PillowImage.Image"


def as_bgr(image: ImageInput, *, rgb: bool = False, depth: Depth | Bands = "auto") -> Image:
    """A path, an array or a Pillow image -> [H, W, 3] uint8, BGR; transparency is laid over white.

    Args:
        image: arrays are uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].
        rgb: arrays are RGB or RGBA, not BGR or BGRA.
        depth: which value is white in files of more than 8 bits; or how bands are read: then arrays are [H, W, N] or
            [H, W] of integers or floats, and the result is float32 [H, W, N] (see ``yolofpn.bands``).

    Raises:
        InputError: a file is no image or is damaged, or it has another number of bands.
        ValueError: it is none of these, or an array is no image.
    """
    if isinstance(image, str | Path):
        return read_image(image, depth=depth)
    if isinstance(depth, Bands):
        return _as_bands(image, depth, rgb=rgb)
    if isinstance(image, PillowImage.Image):
        return to_bgr(image)
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        raise ValueError(f"an image is a path, a NumPy array or a Pillow image, got {kind}")
    array = image
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        raise ValueError(
            f"an image is a uint8 array [H, W], [H, W, 3] or [H, W, 4], got {array.dtype} {list(array.shape)}"
        )
    if channels == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    if channels == 3:
        return np.ascontiguousarray(array[:, :, ::-1] if rgb else array)
    rgba = array if rgb else array[:, :, [2, 1, 0, 3]]
    return to_bgr(PillowImage.fromarray(np.ascontiguousarray(rgba)))


def _as_bands(image: ImageInput, bands: Bands, *, rgb: bool) -> Image:
    if isinstance(image, PillowImage.Image):
        name = str(getattr(image, "filename", "")) or "image"
        return bands.read_values(pillow_values(image, bands.channels, name), name)
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or image.dtype.kind not in "uif" or not image.size:
        given = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"an image is an array [H, W, N] of numbers, a path or a Pillow image, got {given}")
    values = with_channels(image)
    return bands.read_values(values if rgb else in_tensor_order(values), "array")


def image_again(given: ImageInput, image: Image, depth: Depth | Bands) -> Callable[[], Image]:
    """Return a function that returns the image again, to be seen: files are read again, other images are kept."""
    if isinstance(depth, Bands):
        return partial(viewable, image, depth.shown)
    return partial(read_image, given, depth=depth) if isinstance(given, str | Path) else image.copy
