from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from yolofpn.data import image_headers
from yolofpn.data.image_headers import ImageHeader, read_header


def encoded(kind: str, width: int = 40, height: int = 20, **options: Any) -> bytes:
    file = io.BytesIO()
    PillowImage.new("RGB", (width, height), "red").save(file, kind, **options)
    return file.getvalue()


def animated(kind: str, count: int = 3) -> bytes:
    frames = [PillowImage.fromarray(np.full((8, 10, 3), 40 * index, np.uint8)) for index in range(count)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


def gif_frame(left: int, top: int, width: int, height: int) -> bytes:
    """An image block; its pixels are cut off, since only headers are read."""
    return b"," + struct.pack("<HHHHB", left, top, width, height, 0) + b"\2\2\x4c\1\0"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "JPEG2000", "AVIF"])
def test_a_still_image_has_the_size_that_pillow_states(kind: str) -> None:
    assert read_header(encoded(kind)) == ImageHeader(kind, 20, 40, 1)


def test_the_variants_of_a_format_are_known() -> None:
    assert read_header(encoded("WEBP", lossless=True)) == ImageHeader("WEBP", 20, 40)
    assert read_header(encoded("JPEG2000", no_jp2=True)) == ImageHeader("JPEG2000", 20, 40)
    assert read_header(encoded("ICO", 64, 64, sizes=[(16, 16), (32, 32)])) == ImageHeader("ICO", 32, 32)
    assert read_header(encoded("ICO", 64, 64, sizes=[(48, 48)], bitmap_format="bmp")) == ImageHeader("ICO", 48, 48)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_all_frames_of_an_animation_are_counted(kind: str) -> None:
    assert read_header(animated(kind)) == ImageHeader(kind, 8, 10, 3)


def test_a_later_gif_frame_beyond_the_screen_widens_the_canvas_as_in_pillow() -> None:
    data = animated("GIF")[:-1] + gif_frame(5, 2, 300, 7) + gif_frame(0, 50, 3, 200) + b";"
    assert read_header(data) == ImageHeader("GIF", 250, 305, 5)
    with PillowImage.open(io.BytesIO(animated("GIF")[:-1] + gif_frame(5, 2, 30, 7) + b";")) as image:
        assert image.size == (10, 8), "what the first frame states"
        image.seek(3)
        assert image.size == (35, 9)


@pytest.mark.parametrize(
    "hidden",
    [
        *(b"!\1\0\3!\1\x40\0", b"!\xf9\0\3!\1\x40\0", b"!\xff\0\3!\1\x40\0"),
        *(b"!\xff\5NETSC\0", b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0", b"!\xfe\0", b"!\xfe\2!,\0"),
    ],
    ids=lambda extension: extension.hex(),
)
def test_a_gif_frame_behind_an_odd_extension_counts_as_in_pillow(hidden: bytes) -> None:
    """Of most extensions Pillow reads on where the first block is empty."""
    data = animated("GIF")[:-1] + hidden + gif_frame(5, 2, 30, 7) + bytes(80) + b";"
    header = read_header(data)
    with PillowImage.open(io.BytesIO(data)) as image:
        image.seek(3)
        assert header is not None and (header.width, header.height) == image.size == (35, 9)


def test_a_netscape_extension_of_the_first_frame_has_two_blocks_as_in_pillow() -> None:
    start = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x80, 0, 0) + bytes(6)
    extension = b"!\xff\x0bNETSCAPE2.0\0" + b"\3!\1\x40\0"
    data = start + extension + gif_frame(5, 2, 30, 7) + bytes(80) + b";"
    header = read_header(data)
    with PillowImage.open(io.BytesIO(data)) as image:
        assert header is not None and (header.width, header.height) == image.size == (35, 9)


def test_a_later_size_chunk_of_a_png_counts() -> None:
    png = encoded("PNG")
    ihdr = struct.pack(">IIBBBBB", 700, 30, 8, 2, 0, 0, 0)
    assert read_header(png[:33] + chunk(b"IHDR", ihdr) + png[33:]) == ImageHeader("PNG", 30, 700)


def test_a_frame_of_an_animated_webp_counts_even_beyond_its_canvas() -> None:
    frame = b"ANMF" + struct.pack("<I", 16) + bytes(6) + (499).to_bytes(3, "little") + bytes(7)
    assert read_header(animated("WEBP") + frame) == ImageHeader("WEBP", 8, 500, 4)


def test_an_icon_is_as_large_as_its_image_whatever_its_directory_states() -> None:
    png = encoded("PNG", 500, 400)
    directory = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(png), 22)
    assert read_header(directory + png) == ImageHeader("ICO", 400, 500)


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "TIFF"])
def test_formats_whose_size_pillow_states_are_left_to_it(kind: str) -> None:
    assert read_header(encoded(kind)) is None


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "ICO", "JPEG2000"])
def test_a_file_cut_off_anywhere_states_its_size_or_less(kind: str) -> None:
    is_animation = kind in ("GIF", "PNG", "WEBP")
    data = animated(kind) if is_animation else encoded(kind)
    whole = read_header(data)
    assert whole is not None
    found = [read_header(data[:length]) for length in range(len(data))]
    assert found[:4] == [None] * 4
    headers = [header for header in found if header is not None]
    assert headers[-1] == whole, "the last byte says nothing of the size"
    assert {header.format for header in headers} == {kind}
    assert max(header.pixels for header in headers) == whole.pixels, "less only where the size itself is cut off"
    size_at = next(length for length, header in enumerate(found) if header and header.pixels == whole.pixels)
    assert size_at < 60 or kind in ("ICO", "JPEG2000")
    assert {header.pixels for header in found[size_at:] if header} == {whole.pixels}
    frames = [header.frames for header in headers]
    assert frames == sorted(frames)
    assert set(frames) == ({1, 2, 3} if is_animation else {1})


def test_a_file_of_endless_chunks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_headers, "MAX_CHUNKS", 5)
    with pytest.raises(ValueError, match="chunks"):
        read_header(encoded("PNG")[:33] + 6 * chunk(b"tEXt", b"a\0b"))
    with pytest.raises(ValueError, match="icons"):
        read_header(struct.pack("<HHH", 0, 1, 65) + bytes(2000))
