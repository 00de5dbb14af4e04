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


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "JPEG2000"])
def test_a_still_image_has_the_size_that_pillow_states(kind: str) -> None:
    assert read_header(encoded(kind)) == ImageHeader(kind, 20, 40, 1)


def test_the_variants_of_a_format_are_known() -> None:
    assert read_header(encoded("WEBP", lossless=True)) == ImageHeader("WEBP", 20, 40)
    assert read_header(encoded("JPEG2000", no_jp2=True)) == ImageHeader("JPEG2000", 20, 40)
    assert read_header(encoded("ICO", 64, 64, sizes=[(16, 16), (32, 32)])) == ImageHeader("ICO", 32, 32)
    assert read_header(encoded("ICO", 64, 64, sizes=[(48, 48)], bitmap_format="bmp")) == ImageHeader("ICO", 48, 48)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_all_frames_of_an_animation_are_counted(kind: str) -> None:
    assert read_header(animated(kind)) == ImageHeader(kind, 8, 10, 3)


def test_a_later_gif_frame_beyond_the_screen_widens_the_canvas_as_in_pillow() -> None:
    data = animated("GIF")[:-1] + gif_frame(5, 2, 300, 7) + gif_frame(0, 50, 3, 200) + b";"
    assert read_header(data) == ImageHeader("GIF", 250, 305, 5)
    with PillowImage.open(io.BytesIO(animated("GIF")[:-1] + gif_frame(5, 2, 30, 7) + b";")) as image:
        assert image.size == (10, 8), "what the first frame states"
        image.seek(3)
        assert image.size == (35, 9)


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


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "TIFF", "AVIF"])
def test_formats_whose_size_pillow_states_are_left_to_it(kind: str) -> None:
    assert read_header(encoded(kind)) is None


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "ICO", "JPEG2000"])
def test_files_cut_off_anywhere_are_no_error(kind: str) -> None:
    data = encoded(kind)
    for length in range(len(data)):
        read_header(data[:length])


def test_a_file_of_endless_chunks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_headers, "MAX_CHUNKS", 5)
    with pytest.raises(ValueError, match="chunks"):
        read_header(encoded("PNG")[:33] + 6 * chunk(b"tEXt", b"a\0b"))
    with pytest.raises(ValueError, match="icons"):
        read_header(struct.pack("<HHH", 0, 1, 65) + bytes(2000))
