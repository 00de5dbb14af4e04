"""Reads the values of image files with any number of channels and any numbers: TIFF, NPY, and what Pillow opens.

Pillow reads 8 bits of up to four channels and 16 bits of one, OpenCV 16 bits of three and four, also of
the pages of a TIFF file. Other TIFF files (more samples per pixel, planes of 16 bits, floats of several channels) are
tifffile's, which is kept, under the BSD licence, and needs NumPy alone (with imagecodecs for compressed files).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from yolofpn.bands import wrong_channels
from yolofpn.data.orientation import SIDEWAYS, exif_orientation, upright, without_warnings
from yolofpn.errors import InputError
from yolofpn.extras import is_installed
from yolofpn.opencv import cv2

NPY_SUFFIX = ".npy"
MAX_BAND_BYTES = 2**31  # of the values of one image in float32
_NPY_MAGIC = b"\x93NUMPY"
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIZE_TAGS = (256, 257)  # width and height
_BITS_PER_SAMPLE, _ORIENTATION, _SAMPLES_PER_PIXEL, _PLANAR_CONFIGURATION = 258, 274, 277, 284
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
        [H, W] or [H, W, N], bands in the order of the file, numbers in the machine's byte order; upright, where the
        file says so.

    Raises:
        InputError: it is too large, or needs a library that is missing.
        Exception: what the libraries raise for damaged files.
    """
    start = stream.read(8)
    stream.seek(0)
    if is_npy(start):
        values = _npy_values(stream, channels, name)
    elif is_tiff(start) and not _opens(stream):
        values = _tiff_values(stream, channels, name)
    else:
        with PIL.Image.open(stream) as pil_image:
            values = pillow_values(pil_image, channels, name)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def band_header(stream: IO[bytes], channels: int | None, name: str) -> BandHeader | None:
    """Upright size and channels of NPY files, and of TIFF files that Pillow does not read; None for others.

    Args:
        stream: of the whole file, at its start.
        channels: that are wanted, as ``native_values`` takes them.
        name: of the image, for messages.

    Raises:
        InputError: tifffile is needed and missing.
    """
    start = stream.read(8)
    stream.seek(0)
    if is_npy(start):
        shape, _ = _npy_header(stream, name)
        return BandHeader(*_npy_layout(shape, channels))
    if is_tiff(start) and not _opens(stream):
        with _open_tiff(stream, name) as tiff:
            found = _tiff_bands(tiff, channels)
        turned = found.orientation in SIDEWAYS
        height, width = (found.width, found.height) if turned else (found.height, found.width)
        return BandHeader(height, width, found.channels)
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


def pillow_values(pil_image: PIL.Image.Image, channels: int | None, name: str) -> NDArray[Any]:
    """The values of an upright Pillow image: [H, W] or [H, W, N] in the file's order.

    Args:
        pil_image: may not be loaded yet; of a TIFF with several pages of one channel, each page is a band. Pages of
            another size or kind than the first one (overviews, masks) are none.
        channels: that are wanted: where they are not as many as the pages, the first page alone is read. None: all.
        name: of the image, for messages.

    Raises:
        InputError: it is too large, needs a library that is missing, or was loaded with 8 of its 16 bits.
        Exception: what the libraries raise for damaged files.
    """
    if pil_image.format == "TIFF" and not _keeps_all(pil_image):
        return _tiff_values(_encoded(pil_image, name), channels, name)
    height, width = pil_image.height, pil_image.width
    check_values(height, width, len(pil_image.getbands()), name)
    if _has_deep_colours(pil_image):
        return _deep_values(pil_image, name)
    pages = _band_pages(pil_image)
    if len(pages) == 1 or channels not in (None, len(pages)):
        return _plain_values(pil_image)
    check_values(height, width, len(pages), name)
    first = _plain_values(pil_image)
    values = np.empty((*first.shape, len(pages)), first.dtype)
    for band, number in enumerate(pages):
        pil_image.seek(number)
        values[:, :, band] = _plain_values(pil_image)
    return values


def _has_deep_colours(pil_image: PIL.Image.Image) -> bool:
    """Whether it has colours of 16 bits, of which Pillow would keep 8."""
    tiles = getattr(pil_image, "tile", ())
    return pil_image.mode in ("RGB", "RGBA", "RGBX") and any(";16" in str(tile[3]) for tile in tiles)


def _band_pages(pil_image: PIL.Image.Image) -> list[int]:
    """The numbers of the pages that are like the first one; its own alone if it is no TIFF of one channel."""
    if pil_image.format != "TIFF" or len(pil_image.getbands()) != 1:
        return [0]
    like = (pil_image.size, pil_image.mode)
    pages = []
    for number in range(getattr(pil_image, "n_frames", 1)):
        pil_image.seek(number)
        if (pil_image.size, pil_image.mode) == like:
            pages.append(number)
    pil_image.seek(0)
    return pages


def _plain_values(pil_image: PIL.Image.Image) -> NDArray[Any]:
    from PIL import ImageOps  # for images of bands alone

    turned = ImageOps.exif_transpose(pil_image)
    if turned.mode in _RGB_MODES:
        turned = turned.convert("RGB")
    elif turned.mode == "1":
        turned = turned.convert("L")
    values = np.asarray(turned)
    # Pillow widens what other formats hold in 16 bits to its own mode of 32.
    return values.astype(np.uint16) if turned.mode == "I" and pil_image.format in ("PNG", "PPM") else values


def _deep_values(pil_image: PIL.Image.Image, name: str) -> NDArray[Any]:
    """16-bit colours, of which Pillow would keep the high bytes only."""
    content = np.frombuffer(_encoded(pil_image, name).read(), np.uint8)
    has_gray = any("LA;16" in str(tile[3]) for tile in getattr(pil_image, "tile", ()))
    values: NDArray[Any] | None = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("OpenCV cannot decode its 16-bit colours")
    if values.ndim == 3:  # OpenCV repeats the gray of gray and alpha
        values = values[:, :, [0, 3] if has_gray else [2, 1, 0, 3][: values.shape[2]]]
    return upright(values, exif_orientation(pil_image))


def _encoded(pil_image: PIL.Image.Image, name: str) -> IO[bytes]:
    """The file of an image, at its start."""
    stream: IO[bytes] | None = getattr(pil_image, "fp", None)
    if stream is None or stream.closed:
        raise InputError(f"{name}: Pillow has loaded a part of its values only: give the path of its file instead")
    stream.seek(0)
    return stream


def _opens(stream: IO[bytes]) -> bool:
    """Whether Pillow opens a TIFF file, and it, or OpenCV in its place, reads all values as they are."""
    try:
        with without_warnings():  # not around the rest, which takes the same lock
            pil_image = PIL.Image.open(stream)
        return _keeps_all(pil_image)
    except PIL.UnidentifiedImageError:
        return False
    finally:
        stream.seek(0)


def _keeps_all(pil_image: PIL.Image.Image) -> bool:
    """Whether Pillow, or OpenCV in its place, reads all values of an opened TIFF.

    Pillow drops samples that it has no mode for, and takes planes of 16 bits for planes of 8. OpenCV reads 16-bit
    colours, but does not turn them.
    """
    tags = getattr(pil_image, "tag_v2", {})
    samples, bits = tags.get(_SAMPLES_PER_PIXEL, 1), tags.get(_BITS_PER_SAMPLE, (1,))
    if samples == 1 or max(bits) <= 8:
        return bool(samples == len(pil_image.getbands()))
    is_contiguous = tags.get(_PLANAR_CONFIGURATION, 1) == 1
    return is_contiguous and _has_deep_colours(pil_image) and exif_orientation(pil_image) == 1


def _open_tiff(stream: IO[bytes], name: str) -> Any:  # noqa: ANN401
    if not is_installed("tifffile"):
        if not _is_whole_tiff(stream):
            raise PIL.UnidentifiedImageError("neither size nor type can be read")
        raise InputError(f"{name}: a TIFF of this kind needs the extra 'bands': pip install tifffile imagecodecs")
    import tifffile  # type: ignore[import-not-found,unused-ignore]

    # Series may lie in other files that the metadata name: pages alone are read, and no metadata.
    return tifffile.TiffFile(stream, is_ome=False, is_mmstack=False, _multifile=False)


def _is_whole_tiff(stream: IO[bytes]) -> bool:
    """Whether a TIFF's first directory of tags can be read and has a size."""
    stream.seek(0)
    start = stream.read(8)
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(
            start + (stream.read(8) if start[2:4].strip(b"\0") == b"+" else b"")
        )
        stream.seek(directory.next)
        with without_warnings():
            directory.load(stream)
        return all(directory.get(tag, 0) > 0 for tag in _SIZE_TAGS)
    except Exception:  # as in images._explained
        return False
    finally:
        stream.seek(0)


@dataclass(frozen=True)
class _TiffBands:
    """Pages of a TIFF, as tifffile gives them, that are the bands of an image.

    Attributes:
        pages: of equal shape and type.
        height: in pixels, before the image is turned.
        width: in pixels, likewise.
        channels: of all pages.
        orientation: as in EXIF.
    """

    pages: Sequence[Any]
    height: int
    width: int
    channels: int
    orientation: int


def _tiff_bands(tiff: Any, channels: int | None) -> _TiffBands:  # noqa: ANN401
    """The pages that are like the first one; the first alone if that has the wanted number of channels."""
    first = tiff.pages[0]
    planes, depth, height, width, samples = first.shaped
    each = planes * depth * samples
    pages = [first]
    if channels != each:
        pages = [page for page in tiff.pages if (page.shaped, page.dtype) == (first.shaped, first.dtype)]
    tag = first.tags.get(_ORIENTATION)
    orientation = tag.value if tag is not None and tag.value in range(1, 9) else 1
    return _TiffBands(pages, height, width, each * len(pages), orientation)


def _tiff_values(stream: IO[bytes], channels: int | None, name: str) -> NDArray[Any]:
    with _open_tiff(stream, name) as tiff:
        found = _tiff_bands(tiff, channels)
        if channels is not None and found.channels != channels:
            raise InputError(wrong_channels(name, found.channels, channels))
        first = found.pages[0]
        check_values(found.height, found.width, found.channels, name, first.dtype.itemsize)
        values = np.empty((found.height, found.width, found.channels), first.dtype)
        each = found.channels // len(found.pages)
        for number, page in enumerate(found.pages):
            page_values = page.asarray().reshape(first.shaped).transpose(2, 3, 0, 1, 4)
            values[:, :, number * each : (number + 1) * each] = page_values.reshape(found.height, found.width, each)
    return upright(values, found.orientation)
