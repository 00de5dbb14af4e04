"""Reads the canvas size over all frames of an image file from its headers.

Pillow states the size of the first frame. What comes later may be larger: a GIF frame beyond the screen of the first
one, an icon's PNG behind a small directory entry, the tiles of a JPEG 2000 codestream, the AV1 image within an AVIF
container. And a WebP canvas is allocated when the file is opened. So these headers are read here, without decoding a
pixel and before a decoder sees the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from yolofpn.data.avif_headers import is_avif, read_avif_sizes

MAX_CHUNKS = 100_000  # of a PNG or WebP file; encoders write a few thousand at most
MAX_ICONS = 64  # of an ICO file
_PNG = b"\x89PNG\r\n\x1a\n"
_SIZ = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream, whose first segment is its size


@dataclass(frozen=True)
class ImageHeader:
    """What the headers of an image file state.

    Attributes:
        format: as Pillow calls it.
        height: of the canvas that holds every frame, in pixels.
        width: of that canvas, in pixels.
        frames: that follow each other in time; 1 for a still image.
    """

    format: str
    height: int
    width: int
    frames: int = 1

    @property
    def pixels(self) -> int:
        """Number of pixels of the canvas."""
        return self.height * self.width


def could_grow(start: bytes) -> bool:
    """Return whether a file with these first 8 bytes has a format that ``read_header`` reads."""
    return start[:4] in (b"GIF8", _PNG[:4], b"RIFF", b"\0\0\1\0", _SIZ) or start[4:8] in (b"jP  ", b"ftyp")


def read_header(data: bytes) -> ImageHeader | None:
    """The canvas and the number of frames of a GIF, PNG, WebP, ICO, JPEG 2000 or AVIF file.

    Args:
        data: the whole file.

    Returns:
        None for other formats, whose size Pillow states before anything is decoded, and where a header is incomplete.

    Raises:
        ValueError: if a file has more than ``MAX_CHUNKS`` chunks or ``MAX_ICONS`` icons, or too many boxes.
    """
    readers = {b"GIF8": _read_gif, _PNG[:4]: _read_png, b"RIFF": _read_webp, b"\0\0\1\0": _read_icon}
    reader = readers.get(data[:4])
    if reader is None and (_SIZ in data[:4] or data[4:8] == b"jP  "):
        reader = _read_jpeg2000
    elif is_avif(data[:12]):
        reader = _read_avif
    try:
        return reader(data) if reader else None
    except (struct.error, IndexError):  # cut off within a header: decoders refuse it, and say so
        return None


def _read_gif(data: bytes) -> ImageHeader:
    """Walk over all blocks as Pillow does; the canvas holds the screen and every frame, as Pillow lets it grow."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _palette_bytes(flags)
    frames = 0
    while position < len(data) and data[position] != 0x3B:  # the trailer
        kind = data[position]
        position += 1
        if kind == 0x21:
            position = _after_extension(data, position, is_first_frame=frames == 0)
        elif kind == 0x2C and position + 9 < len(data):
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, position)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            position = _after_blocks(data, position + 9 + _palette_bytes(flags) + 1)
            frames += 1
    return ImageHeader("GIF", height, width, max(1, frames))


def _after_extension(data: bytes, position: int, *, is_first_frame: bool) -> int:
    """Return the end of the extension whose label is at ``position``.

    Of most kinds Pillow reads one block and then all up to an empty one, even where that first block is empty; of
    Netscape's, before the first frame, it reads two.
    """
    label, position = data[position], position + 1
    if label == 0xFE:  # a comment
        return _after_blocks(data, position)
    is_loop = label == 0xFF and is_first_frame and data[position + 1 : position + 12] == b"NETSCAPE2.0"
    if is_loop and data[position] >= 11:
        position += data[position] + 1
    return _after_blocks(data, position + data[position] + 1)


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, position: int) -> int:
    """Return the end of the sub-blocks from ``position`` on, which an empty block terminates."""
    while position < len(data) and data[position]:
        position += data[position] + 1
    return position + 1


def _read_png(data: bytes, position: int = 0) -> ImageHeader:
    """Read the maximum size of all IHDR and fcTL chunks."""
    height = width = frames = 0
    for kind, start in _chunks(data, position + len(_PNG), ">", after=4):
        if kind == b"IHDR":
            sizes = struct.unpack_from(">II", data, start)
        elif kind == b"fcTL":
            frame_width, frame_height, left, top = struct.unpack_from(">IIII", data, start + 4)
            sizes = left + frame_width, top + frame_height
            frames += 1
        else:
            continue
        width, height = max(width, sizes[0]), max(height, sizes[1])
    return ImageHeader("PNG", height, width, max(1, frames))


def _read_webp(data: bytes) -> ImageHeader | None:
    if data[8:12] != b"WEBP":
        return None
    height = width = frames = 0
    for kind, start in _chunks(data, 12, "<", after=0):
        if kind == b"VP8X":
            size = _uint24(data, start + 4) + 1, _uint24(data, start + 7) + 1
        elif kind == b"ANMF":
            left, top = 2 * _uint24(data, start), 2 * _uint24(data, start + 3)
            size = left + _uint24(data, start + 6) + 1, top + _uint24(data, start + 9) + 1
            frames += 1
        elif kind == b"VP8 ":
            frame_width, frame_height = struct.unpack_from("<HH", data, start + 6)
            size = frame_width & 0x3FFF, frame_height & 0x3FFF
        elif kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, start + 1)
            size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        else:
            continue
        width, height = max(width, size[0]), max(height, size[1])
    return ImageHeader("WEBP", height, width, max(1, frames))


def _chunks(data: bytes, position: int, order: str, after: int) -> Iterator[tuple[bytes, int]]:
    """Kind and start of each chunk: of PNG length, kind, content, CRC; of WebP kind, length, content, even."""
    count = 0
    while position + 8 <= len(data):
        if order == ">":
            length, kind = struct.unpack_from(">I4s", data, position)
        else:
            kind, length = struct.unpack_from("<4sI", data, position)
            length += length % 2
        yield kind, position + 8
        if kind == b"IEND":
            return
        position += 8 + length + after
        count += 1
        if count > MAX_CHUNKS:
            raise ValueError(f"more than {MAX_CHUNKS:,} chunks")


def _uint24(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")


def _read_icon(data: bytes) -> ImageHeader:
    """Read the size of the largest image from its own header; the directory may state less."""
    height = width = 0
    (count,) = struct.unpack_from("<H", data, 4)
    if count > MAX_ICONS:
        raise ValueError(f"more than {MAX_ICONS} icons")
    for start in {struct.unpack_from("<I", data, 6 + 16 * index + 12)[0] for index in range(count)}:
        if data[start : start + len(_PNG)] == _PNG:
            own = _read_png(data, start)
            size = own.width, own.height
        else:  # a bitmap, and its mask of the same size below it
            bitmap_width, bitmap_height = struct.unpack_from("<ii", data, start + 4)
            size = abs(bitmap_width), abs(bitmap_height) // 2
        width, height = max(width, size[0]), max(height, size[1])
    return ImageHeader("ICO", height, width)


def _read_jpeg2000(data: bytes) -> ImageHeader | None:
    start = data.find(_SIZ)
    if start < 0:
        return None
    width, height, left, top = struct.unpack_from(">IIII", data, start + 8)
    return ImageHeader("JPEG2000", max(0, height - top), max(0, width - left))


def _read_avif(data: bytes) -> ImageHeader | None:
    sizes = read_avif_sizes(data)
    is_known = sizes.has_av1 and sizes.width and sizes.height  # else it may be HEIC, whose size its reader checks
    return ImageHeader("AVIF", sizes.height, sizes.width, sizes.frames) if is_known else None
