"""Reads the values of image files with any number of channels and any numbers: TIFF, NPY, and what Pillow opens.

Pillow reads 8 bits of up to four channels and 16 bits of one, OpenCV 16 bits of three and four, also of
the pages of a TIFF file. Other TIFF files (more samples per pixel, floats of several channels) are tifffile's, which is
kept, under the BSD licence, and needs NumPy alone (with imagecodecs for compressed files).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from yolofpn.bands import wrong_channels
from yolofpn.errors import InputError
from yolofpn.extras import is_installed
from yolofpn.opencv import cv2

NPY_SUFFIX = ".npy"
MAX_BAND_BYTES = 2**31  # of the values of one image in float32
_NPY_MAGIC = b"\x93NUMPY"
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_RGB_MODES = ("P", "PA", "YCbCr", "HSV", "LAB")


@dataclass(frozen=True)
class BandHeader:
    """Size of an image of bands.

    Attributes:
        height: in pixels.
        width: in pixels.
        channels: of the file.
    """

    height: int
    width: int
    channels: int


def is_npy(start: bytes) -> bool:
    """Return whether a file that starts so is NumPy's."""
    return start.startswith(_NPY_MAGIC)


def is_tiff(start: bytes) -> bool:
    """Return whether a file that starts so is a TIFF or BigTIFF."""
    return start[:4] in _TIFF_MAGICS


def native_values(stream: IO[bytes], channels: int | None, name: str) -> NDArray[Any]:
    """The values of an image as they are in the file.

    Args:
        stream: of the whole file, at its start.
        channels: that are wanted, which decides where a file allows several readings: axes of an array, pages of a
            TIFF; None: as many as there can be.
        name: of the image, for messages.

    Returns:
        [H, W] or [H, W, N], bands in the order of the file; upright, where the file says so.

    Raises:
        InputError: it is too large, or needs a library that is missing.
        Exception: what the libraries raise for damaged files.
    """
    start = stream.read(8)
    stream.seek(0)
    if is_npy(start):
        return _npy_values(stream, channels, name)
    if is_tiff(start) and not _opens(stream):
        return _tiff_values(stream, channels, name)
    with PIL.Image.open(stream) as pil_image:
        check_values(pil_image.height, pil_image.width, channels or 1, name)
        return pillow_values(pil_image, channels)


def band_header(stream: IO[bytes], name: str) -> BandHeader | None:
    """Size and channels of NPY files, and of TIFF files that Pillow cannot open; None for others.

    Raises:
        InputError: tifffile is needed and missing.
    """
    start = stream.read(8)
    stream.seek(0)
    if is_npy(start):
        shape, _ = _npy_header(stream, name)
        return BandHeader(*_npy_layout(shape, None))
    if is_tiff(start) and not _opens(stream):
        shape, axes = _tiff_shape(stream, name)
        height, width, channels = _tiff_layout(shape, axes)
        return BandHeader(height, width, channels)
    return None


def check_values(height: int, width: int, channels: int, name: str, itemsize: int = 4) -> None:
    """See that an image is not too large.

    Raises:
        InputError: in float32, or in its own numbers of ``itemsize`` bytes, it would have more than ``MAX_BAND_BYTES``.
    """
    if height * width * channels * max(itemsize, 4) > MAX_BAND_BYTES:
        size, limit = f"{height}x{width}x{channels}", MAX_BAND_BYTES // 4
        raise InputError(f"{name}: has more values ({size}) than the limit of {limit:,}; cut it up")


def _npy_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    stream.seek(0)
    if dtype.kind not in "uif" or len(shape) not in (2, 3) or 0 in shape:
        raise InputError(f"{name}: an image is an array [H, W] or [H, W, N] of numbers, not {dtype} {list(shape)}")
    return shape, dtype


def _npy_layout(shape: tuple[int, ...], channels: int | None) -> tuple[int, int, int]:
    """Height, width and channels; channels first if only the first axis can be theirs."""
    if len(shape) == 2:
        return shape[0], shape[1], 1
    if channels is None:
        first = shape[0] < min(shape[1:]) and shape[2] > shape[0]
    else:
        first = shape[0] == channels and shape[2] != channels
    return (shape[1], shape[2], shape[0]) if first else (shape[0], shape[1], shape[2])


def _npy_values(stream: IO[bytes], channels: int | None, name: str) -> NDArray[Any]:
    shape, dtype = _npy_header(stream, name)
    height, width, found = _npy_layout(shape, channels)
    check_values(height, width, found, name, dtype.itemsize)
    if stream.seek(0, os.SEEK_END) < math.prod(shape) * dtype.itemsize:
        raise InputError(f"{name}: is cut off: copy or download it again")
    stream.seek(0)
    values: NDArray[Any] = np.load(stream, allow_pickle=False)
    if values.ndim == 3 and values.shape != (height, width, found):
        values = values.transpose(1, 2, 0)
    return values


def pillow_values(pil_image: PIL.Image.Image, channels: int | None) -> NDArray[Any]:
    """The values of an upright Pillow image: [H, W] or [H, W, N] in the file's order.

    Args:
        pil_image: may not be loaded yet; of a TIFF with several pages of one channel, each page is a band.
        channels: that are wanted: where they are not as many as the pages, the first page alone is read. None: all.
    """
    tiles = getattr(pil_image, "tile", ())
    if pil_image.mode in ("RGB", "RGBA", "RGBX") and any(";16" in str(tile[3]) for tile in tiles):
        return _deep_values(pil_image)
    count = getattr(pil_image, "n_frames", 1) if pil_image.format == "TIFF" and len(pil_image.getbands()) == 1 else 1
    if count > 1 and channels in (None, count):
        pages = []
        for number in range(count):
            pil_image.seek(number)
            pages.append(_plain_values(pil_image))
        return np.stack(pages, axis=2)
    return _plain_values(pil_image)


def _plain_values(pil_image: PIL.Image.Image) -> NDArray[Any]:
    from PIL import ImageOps  # for images of bands alone

    upright = ImageOps.exif_transpose(pil_image)
    if upright.mode in _RGB_MODES:
        upright = upright.convert("RGB")
    elif upright.mode == "1":
        upright = upright.convert("L")
    values = np.asarray(upright)
    # Pillow widens what other formats hold in 16 bits to its own mode of 32.
    return values.astype(np.uint16) if upright.mode == "I" and pil_image.format in ("PNG", "PPM") else values


def _deep_values(pil_image: PIL.Image.Image) -> NDArray[Any]:
    """16-bit colours, of which Pillow would keep the high bytes only."""
    stream: Any = getattr(pil_image, "fp", None)
    stream.seek(0)
    values: NDArray[Any] | None = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("OpenCV cannot decode its 16-bit colours")
    order = [2, 1, 0, 3][: values.shape[2]] if values.ndim == 3 else None
    return values if order is None else values[:, :, order]


def _opens(stream: IO[bytes]) -> bool:
    """Whether Pillow opens a TIFF file; then it, or OpenCV in its place, reads all values as they are."""
    try:
        with PIL.Image.open(stream):
            return True
    except PIL.UnidentifiedImageError:
        return False
    finally:
        stream.seek(0)


def _tiff_pages(stream: IO[bytes], name: str) -> Any:  # noqa: ANN401
    if not is_installed("tifffile"):
        raise InputError(f"{name}: a TIFF of this kind needs the extra 'bands': pip install tifffile imagecodecs")
    import tifffile  # type: ignore[import-not-found,unused-ignore]

    return tifffile.TiffFile(stream)


def _tiff_shape(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], str]:
    series = _tiff_pages(stream, name).series[0]
    stream.seek(0)
    return tuple(series.shape), str(series.axes)


def _tiff_layout(shape: tuple[int, ...], axes: str) -> tuple[int, int, int]:
    """Height, width and the product of all other axes (samples, planes, pages, channels)."""
    if "Y" not in axes or "X" not in axes:
        raise ValueError(f"no image, but axes {axes}")
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    return height, width, math.prod(shape) // max(height * width, 1)


def _tiff_values(stream: IO[bytes], channels: int | None, name: str) -> NDArray[Any]:
    with _tiff_pages(stream, name) as tiff:
        series = tiff.series[0]
        shape, axes = tuple(series.shape), str(series.axes)
        height, width, found = _tiff_layout(shape, axes)
        if channels is not None and found != channels:
            raise InputError(wrong_channels(name, found, channels))
        check_values(height, width, found, name, series.dtype.itemsize)
        values: NDArray[Any] = series.asarray()
    order = [axes.index("Y"), axes.index("X"), *(place for place, axis in enumerate(axes) if axis not in "YX")]
    return values.transpose(order).reshape(height, width, found)
