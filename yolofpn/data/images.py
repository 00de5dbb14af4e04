"""Reads images of any format that Pillow opens as upright BGR uint8 [H, W, 3].

Special cases:
    16 bits per channel: the high byte is kept (``value >> 8``), as Pillow does for colour and libpng when asked for
        8 bits. The scale never depends on the content, so a dark image stays dark.
    32-bit integers: the high byte of the narrowest of 8, 16 and 32 bits that holds every value.
    floats: 0..1, 0..255 or 0..65535, the narrowest that holds every value, up to twice as large; clipped.
    Another ``depth`` takes 4095 ('12'), 65535 ('16') or the largest value ('minmax') for white, whatever they are.
    transparency: laid over white, so the colour hidden in transparent pixels is never seen.
    CMYK: inverted where the JPEG is Adobe's, then converted without a colour profile.
    several pages or frames: the first (``read_frames`` gives all frames of an animation).
Pixels are those of the upright image: EXIF orientation, or what the format has in its place, is applied.
"""

from __future__ import annotations

import functools
import io
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageSequence

from yolofpn.bands import Bands, not_colours
from yolofpn.data.band_files import band_header, native_values
from yolofpn.data.depth import deep_colour, deep_grey, is_deep_colour, warn_if_flat
from yolofpn.data.image_headers import could_grow, read_header
from yolofpn.data.orientation import (
    SIDEWAYS,
    TRANSPOSES,
    exif_orientation,
    orientation_before_loading,
    without_warnings,
)
from yolofpn.errors import InputError, UserError
from yolofpn.fields import Depth
from yolofpn.opencv import cv2
from yolofpn.regular_files import open_regular_file
from yolofpn.structures import Image

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".ico",
    ".avif", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2",
})
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})  # read if pillow-heif is installed
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp",
    ".ogv", ".asf", ".vob", ".mjpeg", ".h264", ".hevc",
})
# fmt: on
MAX_PIXELS = 178_956_970  # where Pillow takes an image for a decompression bomb, by default
MAX_FRAME_PIXELS = 8192 * 4608  # of a frame of an animation or video, many of which are in memory at once: 8K

_TOO_SHORT = 10.0  # milliseconds; browsers show frames that ask for no more for _DEFAULT_DELAY
_DEFAULT_DELAY = 100.0


class UnknownImageError(InputError):
    """A file of a format that Pillow does not know."""


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """Return the file suffixes of readable images: HEIF only if pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return IMAGE_SUFFIXES
    register_heif_opener()
    return IMAGE_SUFFIXES | HEIF_SUFFIXES


def read_image(source: str | Path | bytes, *, name: str | None = None, depth: Depth | Bands = "auto") -> Image:
    """Read an upright image from a file or from its bytes.

    Args:
        source: path of the file, or its content.
        name: name in error messages; by default the path.
        depth: bit depth of images with more than 8 bits per channel, or how bands are read.

    Returns:
        [H, W, 3] uint8, BGR; of bands [H, W, N] float32 (see ``yolofpn.bands``).

    Raises:
        InputError: if the file is missing, unreadable, not an image, damaged, truncated, or larger than ``MAX_PIXELS``;
            or it has another number of bands.
    """
    name = name or _name_of(source)
    if isinstance(depth, Bands):
        return depth.read_values(read_native(source, depth.channels, name=name), name)
    with bands_named(source, name), open_image(source, name=name) as pil_image:
        return _to_bgr(pil_image, name, depth)


@contextmanager
def bands_named(source: str | Path | bytes, name: str) -> Iterator[None]:
    """Say that an image has bands where colours are expected, and what reads it, in the place of an unknown format.

    Args:
        source: path of the file, or its content.
        name: name in error messages.

    Raises:
        UnknownImageError: it is one of bands, or of no known format.
    """
    try:
        yield
    except UnknownImageError as error:
        message, header = str(error), None
        try:
            with _open_stream(source, name) as stream:
                header = band_header(stream, None, name)
        except InputError as other:
            message = str(other)
        except Exception:  # as in _explained
            pass
        raise UnknownImageError(not_colours(name, header.channels) if header else message) from None


def read_native(source: str | Path | bytes, channels: int | None = None, *, name: str | None = None) -> NDArray[Any]:
    """Read the values of an image as they are in the file.

    Args:
        source: path of the file, or its content.
        channels: that are wanted; None: all that the file has.
        name: name in error messages; by default the path.

    Returns:
        [H, W] or [H, W, N], bands in the order of the file.

    Raises:
        InputError: as ``read_image``.
    """
    name = name or _name_of(source)
    with _checked_stream(source, name) as stream:
        return native_values(stream, channels, name)


def read_frames(
    source: str | Path | bytes, *, name: str | None = None, max_pixels: int = MAX_FRAME_PIXELS
) -> Iterator[tuple[Image, float, float]]:
    """Yield the frames of an animated GIF, WebP, PNG or AVIF, with start time and duration in seconds.

    Durations are those that browsers show: 0.1 s in the place of any up to 0.01 s.

    Args:
        source: path of the file, or its content.
        name: name in error messages; by default the path.
        max_pixels: maximum pixels of the canvas over all frames.

    Raises:
        InputError: as ``read_image``; frames before a damaged one are given first.
    """
    name = name or _name_of(source)
    time = 0.0  # of the frame, in milliseconds
    end = 0.0  # of the frame by the file's own account
    with open_image(source, name=name, max_pixels=max_pixels) as pil_image:
        for frame in ImageSequence.Iterator(pil_image):
            # A frame may enlarge the canvas; should the headers have been read otherwise than here, it ends here.
            _check_pixels(frame.width * frame.height, name, max_pixels)
            image = _to_bgr(frame, name)
            stated = float(frame.info.get("duration", 0))
            # Where Pillow rounds durations to milliseconds, it rounds the frames' times too, and these do not drift.
            own_end = frame.info["timestamp"] + stated if "timestamp" in frame.info else end + stated
            delay = own_end - end if own_end - end > _TOO_SHORT else _DEFAULT_DELAY
            yield image, time / 1000, delay / 1000
            time, end = time + delay, own_end


def image_size(source: str | Path | bytes, *, name: str | None = None, channels: int | None = None) -> tuple[int, int]:
    """Return the (height, width) of ``read_image`` without decoding the pixels.

    Args:
        source: path of the file, or its content.
        name: name in error messages; by default the path.
        channels: that the network takes, which decides where an array allows two layouts.

    Raises:
        InputError: if the file cannot be opened as an image. That it is cut off further on goes unnoticed.
    """
    try:
        with open_image(source, name=name) as pil_image:
            width, height = pil_image.size
            # Pillow gives a TIFF's upright size from the start.
            if pil_image.format != "TIFF" and orientation_before_loading(pil_image) in SIDEWAYS:
                return width, height
            return height, width
    except UnknownImageError:
        with _checked_stream(source, name or _name_of(source)) as stream:
            header = band_header(stream, channels, name or _name_of(source))
        if header is None:
            raise
        return header.height, header.width


def is_animated(source: str | Path | bytes) -> bool:
    """Return whether a file is an animation; multi-page images and stereo pairs are not.

    Raises:
        InputError: if the file cannot be opened as an image.
    """
    with open_image(source) as pil_image:
        return pil_image.format in ("GIF", "WEBP", "PNG", "AVIF") and bool(getattr(pil_image, "is_animated", False))


def to_bgr(pil_image: PIL.Image.Image, *, name: str = "", depth: Depth = "auto") -> Image:
    """Convert a Pillow image of any mode to an upright [H, W, 3] uint8 BGR array.

    Args:
        pil_image: may not be loaded yet.
        name: name in error messages; by default that of its file.
        depth: bit depth of images with more than 8 bits per channel.

    Raises:
        InputError: if it has no pixels, or the file that it is lazily read from is damaged.
    """
    name = name or str(getattr(pil_image, "filename", "")) or "PIL image"
    with _explained(name):
        return _to_bgr(pil_image, name, depth)


@contextmanager
def open_image(
    source: str | Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[PIL.Image.Image]:
    """Open a Pillow image lazily; errors inside the ``with`` block become InputError.

    Args:
        source: path of the file, or its content.
        name: name in error messages; by default the path.
        max_pixels: of the canvas over all of its frames, which is looked up in the headers first.

    Raises:
        InputError: as ``read_image``.
    """
    name = name or _name_of(source)
    with _checked_stream(source, name) as stream:
        readable_suffixes()  # registers HEIF in this process
        _check_pixels(_pixels_by_header(stream), name, max_pixels)
        with without_warnings():
            pil_image = PIL.Image.open(stream)
        _check_pixels(pil_image.width * pil_image.height, name, max_pixels)
        yield pil_image


@contextmanager
def _checked_stream(source: str | Path | bytes, name: str) -> Iterator[IO[bytes]]:
    """Open a file that is not empty; errors inside the ``with`` block become InputError."""
    with _open_stream(source, name) as stream, _explained(name):
        if not stream.read(1):
            raise InputError(f"{name}: the file is empty; copy or download it again")
        stream.seek(0)
        yield stream


def _check_pixels(pixels: int, name: str, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise InputError(f"{name}: has more pixels than the limit of {max_pixels:,}; shrink it first")


def _pixels_by_header(stream: IO[bytes]) -> int:
    """Return the pixels of the canvas over all frames from the headers; leaves the stream at its start."""
    start = stream.read(8)
    stream.seek(0)
    if not could_grow(start):
        return 0
    if isinstance(stream, io.BytesIO):
        header = read_header(stream.getvalue())
    else:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header = read_header(cast("bytes", content))
    return header.pixels if header else 0


def _name_of(source: str | Path | bytes) -> str:
    return f"image of {len(source)} bytes" if isinstance(source, bytes) else str(source)


def _open_stream(source: str | Path | bytes, name: str) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    path = Path(source)
    try:
        if path.is_dir():
            raise InputError(f"{name}: a folder, not an image; name an image in it")
        stream = open_regular_file(path)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; check the path") from None
    except PermissionError:
        raise InputError(f"{name}: permission denied; make the file readable, e.g. with chmod a+r") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be opened ({error}); check the path") from None
    return stream


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Convert Pillow's exceptions to InputError."""
    try:
        yield
    except UserError:
        raise
    except PIL.Image.DecompressionBombError:
        message = f"{name}: has more pixels than the limit of {MAX_PIXELS:,}; shrink it first"
        raise InputError(message) from None
    except PIL.UnidentifiedImageError:
        message = (
            f"{name}: not an image of a known format (JPEG, PNG, TIFF, ...), or its header is damaged; check the file"
        )
        raise UnknownImageError(message) from None
    except Exception as error:  # Pillow's parsers raise anything from SyntaxError to zlib.error on damaged files
        message = f"{name}: damaged or cut off ({error or type(error).__name__}); copy or download it again"
        raise InputError(message) from error


def _to_bgr(pil_image: PIL.Image.Image, name: str, depth: Depth = "auto") -> Image:
    opened, deep_colours = pil_image, is_deep_colour(pil_image)
    if deep_colours and depth in ("12", "minmax"):
        pil_image = deep_colour(pil_image, depth) or pil_image
    pil_image.load()
    if 0 in pil_image.size:
        raise InputError(f"{name}: has no pixels ({pil_image.width}x{pil_image.height}); check where it comes from")
    if pil_image.mode in ("LAB", "La"):
        raise InputError(f"{name}: Pillow cannot convert its colour mode {pil_image.mode}; save it as RGB first")
    turn = TRANSPOSES.get(exif_orientation(opened))
    if pil_image.mode.startswith("I") or pil_image.mode == "F":
        grey, largest = deep_grey(pil_image, depth), float(np.asarray(pil_image).max())
        warn_if_flat(grey, largest, name, depth)
        pil_image = PIL.Image.fromarray(grey)
    rgb = _over_white(pil_image) if pil_image.has_transparency_data else pil_image.convert("RGB")
    if deep_colours:
        warn_if_flat(np.asarray(rgb), None, name, depth)
    if turn is not None:
        rgb = rgb.transpose(turn)
    image: Image = cv2.cvtColor(np.asarray(rgb), cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
    return image


def _over_white(pil_image: PIL.Image.Image) -> PIL.Image.Image:
    rgba = pil_image.convert("RGBA")
    white = PIL.Image.new("RGB", pil_image.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white
