"""Images of other values than 8-bit colours: any number of channels (bands), 16 bits, floats.

Such an image is float32 [H, W, N] in which the range of values that the network was trained for is 0..255, so that it
goes the same way as an 8-bit image: resizing, padding with 128, augmentation, normalisation. Nothing is rounded.
Bands are in the order of the file, but three bands are reversed like BGR; in tensors they are in the file's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolofpn.errors import InputError
from yolofpn.types import Image

MAX_CHANNELS = 512  # as many as OpenCV resizes
BEYOND = 1.0  # widths of the range by which a value may lie outside of it: dead pixels of 65535 would drown the rest
_SHOWN_PERCENTILES = (1.0, 99.0)  # become black and white, as in viewers of satellite images

Range = tuple[float, float]  # the values that become 0 and 255


@dataclass(frozen=True)
class InputForm:
    """What a network takes: uint8, or float32 of the same range 0..255.

    Attributes:
        channels: N of [B, N, H, W].
        is_float: its images are float32.
    """

    channels: int = 3
    is_float: bool = False


COLOUR = InputForm()


@dataclass(frozen=True)
class Bands:
    """How images become float32 [H, W, N] of the range 0..255.

    Attributes:
        channels: N.
        ranges: the values that become 0 and 255, one pair for all bands or one for each; None: 0 and the largest value
            of an image's integer type, 0 and 1 for floats.
        shown: the numbers, from 1, of the bands that are drawn as red, green and blue; None: the first three, or the
            only one as gray.
    """

    channels: int
    ranges: tuple[Range, ...] | None = None
    shown: tuple[int, int, int] | None = None

    def read_values(self, values: NDArray[Any], name: str) -> Image:
        """Scale the values of an image.

        Args:
            values: [H, W, N] or, for one band, [H, W], of integers or floats; bands in the order of the file.
            name: of the image, for messages.

        Returns:
            Float32 [H, W, N]; three bands are reversed. NaN becomes 0, what lies outside of the range by more than
            ``BEYOND`` times its width is clipped there.

        Raises:
            InputError: it has another number of bands, or its type of numbers has no range of its own and none is set.
        """
        values = with_channels(values).astype(values.dtype.newbyteorder("="), copy=False)
        if values.shape[2] != self.channels:
            raise InputError(wrong_channels(name, values.shape[2], self.channels))
        low, high = (np.array(ends, np.float32) for ends in zip(*self._ranges_for(values.dtype, name), strict=True))
        scaled = (values.astype(np.float32) - low) * (255 / (high - low))
        np.nan_to_num(scaled, copy=False, nan=0.0)
        np.clip(scaled, -255 * BEYOND, 255 * (1 + BEYOND), out=scaled)
        return in_image_order(scaled)

    def _ranges_for(self, dtype: np.dtype[Any], name: str) -> Sequence[Range]:
        if self.ranges is not None:
            return self.ranges
        if dtype.kind == "f":
            return [(0.0, 1.0)]
        if dtype == np.uint8 or dtype == np.uint16:
            return [(0.0, float(np.iinfo(dtype).max))]
        raise InputError(
            f"{name}: values of type {dtype} have no default range: set input.range, such as input.range=[0, 4095], "
            "before training (python -m yolofpn stats measures it)"
        )


def wrong_channels(name: str, has: int, wants: int) -> str:
    """Return the message for an image with another number of channels than the network takes."""
    return (
        f"{name}: has {has} channel{'s' * (has != 1)}, the network takes {wants}: "
        f"use images with {wants} channel{'s' * (wants != 1)}, or train with input.channels={has}"
    )


def not_colours(name: str, has: int) -> str:
    """Return the message for an image of bands where colours are expected."""
    setting = "input.range" if has == 3 else f"input.channels={has}"
    return f"{name}: not an image of colours, but of bands ({has}); set {setting} in a model config (docs/bands.md)"


def in_tensor_order(image: NDArray[Any]) -> NDArray[Any]:
    """[H, W, N] as it is, but three channels reversed: BGR -> RGB. A view."""
    return image[:, :, ::-1] if image.shape[2] == 3 else image


in_image_order = in_tensor_order  # and back


def with_channels(image: NDArray[Any]) -> NDArray[Any]:
    """[H, W] -> [H, W, 1]: OpenCV drops an axis of one channel."""
    return image if image.ndim == 3 else image[:, :, None]


def viewable(image: Image, shown: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    """An image for people's eyes.

    Args:
        image: [H, W, 3] uint8, which is returned as it is, or [H, W, N] of any numbers as ``Bands`` gives it.
        shown: the numbers, from 1, of the bands that become red, green and blue; None: the first three, or the only
            one (of two the first) as gray.

    Returns:
        [H, W, 3] uint8, BGR. Each band is stretched, from its 1st to its 99th percentile.
    """
    image = with_channels(image)
    if image.dtype == np.uint8 and image.shape[2] == 3 and shown is None:
        return image
    count = image.shape[2]
    bands = in_tensor_order(image)
    chosen = shown or ((1, 2, 3) if count >= 3 else (1, 1, 1))
    stretched = {number: _stretched(bands[:, :, number - 1]) for number in set(chosen)}
    return np.ascontiguousarray(np.stack([stretched[number] for number in reversed(chosen)], axis=2))


def drawable(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image to draw on.

    Args:
        image: uint8 [H, W], [H, W, 1], [H, W, 3] BGR or [H, W, 4] BGRA; or what ``viewable`` takes.

    Returns:
        [H, W, 3] uint8, BGR: 8-bit gray and colours with the values that they have, without alpha; others stretched.
    """
    image = with_channels(image)
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3, 4):
        return viewable(image)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.ascontiguousarray(image[:, :, :3])


def _stretched(band: NDArray[Any]) -> NDArray[np.uint8]:
    """A band [H, W] from its percentiles to 0..255; NaN is black."""
    known = band[np.isfinite(band)] if band.dtype.kind == "f" else band
    if known.size == 0:
        return np.zeros(band.shape, np.uint8)
    low, high = np.percentile(known, _SHOWN_PERCENTILES)
    if high <= low:  # less than one pixel in a hundred differs
        low, high = float(known.min()), float(known.max())
    scaled = np.nan_to_num(band.astype(np.float32), nan=low)
    scaled = (scaled - low) * (255 / (high - low) if high > low else 0)
    gray: NDArray[np.uint8] = scaled.clip(0, 255).round().astype(np.uint8)
    return gray
