"""AVIF: the size of what is coded counts, whatever the boxes around it state. Nothing is decoded."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from tests.commands import call
from yolofpn.cli.detect import main as detect
from yolofpn.data import av1_headers, avif_headers, images
from yolofpn.data.av1_headers import sizes_in_av1
from yolofpn.data.image_headers import ImageHeader, read_header


def avif(width: int = 640, height: int = 480, frames: int = 1, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    shades = ("#f00f", "#0f08", "#00f4")[:frames] if mode == "RGBA" else ("red", "green", "blue")[:frames]
    images = [PIL.Image.new(mode, (width, height), shade) for shade in shades]
    images[0].save(file, "AVIF", save_all=frames > 1, append_images=images[1:], duration=100)
    return file.getvalue()


def stating(data: bytes, width: int, height: int) -> bytes:
    """An AVIF file of 640 x 480 pixels whose boxes state another size: 'ispe', and of tracks 'tkhd' and 'av01'."""
    changed = bytearray(
        data.replace(struct.pack(">II", 640 << 16, 480 << 16), struct.pack(">HHHH", width, 0, height, 0))
    )
    for kind, form in ((b"ispe", ">II"), (b"av01", ">HH")):
        start = changed.find(kind)
        while start >= 0:
            place = changed.find(struct.pack(form, 640, 480), start, start + 40)
            if place >= 0:
                struct.pack_into(form, changed, place, width, height)
            start = changed.find(kind, start + 4)
    assert struct.pack(">II", 640, 480) not in changed
    return bytes(changed)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("frames", [1, 3])
def test_the_larger_of_the_stated_and_the_coded_size_counts(frames: int, mode: str) -> None:
    data = avif(frames=frames, mode=mode)
    assert read_header(stating(data, 64, 48)) == ImageHeader("AVIF", 480, 640, frames)
    assert read_header(stating(data, 700, 500)) == ImageHeader("AVIF", 500, 700, frames)


def test_of_other_brands_images_are_read_and_videos_not() -> None:
    data = stating(avif(), 64, 48)
    assert read_header(data.replace(b"ftypavif", b"ftypmif1", 1)) == ImageHeader("AVIF", 480, 640)
    assert read_header(data.replace(b"ftypavif", b"ftypisom", 1)) is None


def sequence_header(width: int = 640, height: int = 480) -> bytes:
    """The OBU of an image of that size, as an encoder writes it."""
    data = avif(width, height)
    start = data.index(b"mdat") + 4
    while data[start] >> 3 != 1:
        start += 2 + data[start + 1]
    return data[start : start + 2 + data[start + 1]]


def test_sequence_headers_of_all_kinds() -> None:
    large = sequence_header()
    assert list(sizes_in_av1(large)) == [(640, 480)]
    assert list(sizes_in_av1(bytes([0x12, 0]) + sequence_header(64, 48) + large)) == [(64, 48), (640, 480)]
    without_length = bytes([large[0] & ~2]) + large[2:]
    assert list(sizes_in_av1(without_length)) == [(640, 480)]
    extended = bytes([large[0] | 4, 0]) + large[1:]
    assert list(sizes_in_av1(extended)) == [(640, 480)]
    # 4 bits of profile and kind, no timing, no delay, one operating point: 12 bits, 5 of level; sizes of 16 bits.
    plain = int("0000" + "0" + "0" + "0" + "00000" + "0" * 12 + "00001" + "1111" * 2 + f"{639:016b}{479:016b}", 2)
    bits = 4 + 1 + 1 + 1 + 5 + 12 + 5 + 8 + 32
    content = (plain << -bits % 8).to_bytes((bits + 7) // 8)
    assert list(sizes_in_av1(bytes([0x0A, len(content)]) + content)) == [(640, 480)]
    # Timing (64 bits, equal intervals: 0), a decoder model with delays of 3 bits, display delay; level 8 has a tier.
    text = "0000" + "0" + "1" + "0" * 64 + "1" + "1" + "1" + "00010" + "0" * 42 + "1" + "00000"
    text += "0" * 12 + "01000" + "1" + "1" + "000" * 2 + "0" + "1" + "0000" + "1111" * 2 + f"{639:016b}{479:016b}"
    content = (int(text, 2) << -len(text) % 8).to_bytes((len(text) + 7) // 8)
    assert list(sizes_in_av1(bytes([0x0A, len(content)]) + content)) == [(640, 480)]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def file_of(properties: bytes, items: Sequence[tuple[bytes, Sequence[bytes]]] = (), *, idat: bool = False) -> bytes:
    """A file of these properties and items, each of a kind and of parts that lie apart from each other."""
    head = box(b"ftyp", b"avif" + bytes(4))
    ipco = box(b"iprp", box(b"ipco", properties))
    infos = b"".join(
        box(b"infe", struct.pack(">BBHHH", 2, 0, 0, number, 0) + kind + b"\0") for number, (kind, _) in enumerate(items)
    )
    iinf = box(b"iinf", bytes(4) + struct.pack(">H", len(items)) + infos)
    content = b"".join(b"gap" + part for _, parts in items for part in parts)

    def with_offsets(base: int) -> bytes:
        place, entries = base, b""
        for number, (_, parts) in enumerate(items):
            entries += struct.pack(">HHHH", number, int(idat), 0, len(parts))
            for part in parts:
                entries += struct.pack(">II", place + 3, len(part))
                place += 3 + len(part)
        iloc = box(b"iloc", bytes([1, 0, 0, 0, 0x44, 0]) + struct.pack(">H", len(items)) + entries)
        return box(b"meta", bytes(4) + iloc + iinf + ipco + (box(b"idat", content) if idat else b""))

    meta = with_offsets(0)
    return head + (meta if idat else with_offsets(len(head) + len(meta) + 8) + box(b"mdat", content))


@pytest.mark.parametrize("idat", [False, True])
def test_items_anywhere_in_pieces_and_put_together(idat: bool) -> None:
    small = box(b"ispe", bytes(4) + struct.pack(">II", 64, 48))
    header = sequence_header()
    whole = [(b"Exif", [sequence_header(2000, 1000)]), (b"av01", [header])]
    assert read_header(file_of(small, whole, idat=idat)) == ImageHeader("AVIF", 480, 640)
    pieces = [(b"av01", [header[:3], header[3:5], header[5:]])]
    assert read_header(file_of(small, pieces, idat=idat)) == ImageHeader("AVIF", 480, 640)
    grid = [(b"grid", [b"\0\0\1\1" + struct.pack(">HH", 1200, 900)]), (b"av01", [header])]
    assert read_header(file_of(small, grid, idat=idat)) == ImageHeader("AVIF", 900, 1200)
    wide = [(b"grid", [b"\0\1\1\1" + struct.pack(">II", 120_000, 900)])]
    assert read_header(file_of(small, wide, idat=idat)) == ImageHeader("AVIF", 900, 120_000)
    overlay = [(b"iovl", [bytes(10) + struct.pack(">HH", 1300, 800)])]
    assert read_header(file_of(small, overlay, idat=idat)) == ImageHeader("AVIF", 800, 1300)


def test_the_box_beside_the_data_counts_as_well() -> None:
    small = box(b"ispe", bytes(4) + struct.pack(">II", 64, 48))
    assert read_header(file_of(small + box(b"av1C", bytes(4) + sequence_header()))) == ImageHeader("AVIF", 480, 640)
    assert read_header(file_of(small)) == ImageHeader("AVIF", 48, 64)
    assert read_header(file_of(b"")) is None


@pytest.mark.parametrize("frames", [1, 3])
def test_a_file_cut_off_anywhere_is_read_as_far_as_it_goes(frames: int) -> None:
    data = avif(frames=frames)
    found = [read_header(data[:length]) for length in range(len(data))]
    assert found[-1] == ImageHeader("AVIF", 480, 640, frames)
    assert {header.pixels for header in found if header} == {640 * 480}


def test_parts_without_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    header = sequence_header()
    with pytest.raises(ValueError, match="overlap"):
        read_header(overlapping(header))
    monkeypatch.setattr(avif_headers, "MAX_BOXES", 5)
    with pytest.raises(ValueError, match="boxes"):
        read_header(file_of(6 * box(b"ispe", bytes(4) + struct.pack(">II", 64, 48))))
    monkeypatch.setattr(av1_headers, "MAX_UNITS", 5)
    with pytest.raises(ValueError, match="units"):
        list(sizes_in_av1(6 * b"\x12\0"))


def overlapping(header: bytes) -> bytes:
    """Many extents of one item, all of which are the same bytes."""
    data = bytearray(file_of(b"", [(b"av01", [header] * 40)]))
    place = data.index(b"iloc") + 4 + 6 + 2 + 8
    first = data[place : place + 8]
    struct.pack_into(">I", first, 4, len(data) // 4)
    data[place : place + 40 * 8] = 40 * first
    return bytes(data)


def test_boxes_within_boxes_without_end_are_not_followed() -> None:
    nested = b""
    for _ in range(3000):
        nested = box(b"iprp", nested)
    assert read_header(box(b"ftyp", b"avif" + bytes(4)) + nested) is None


@pytest.mark.usefixtures("good_image")
@pytest.mark.parametrize("frames", [1, 3])
def test_an_avif_that_states_less_than_it_holds_is_refused_before_it_is_decoded(
    frames: int, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_low_limit(source: Any, **options: Any) -> Any:
        return open_image(source, **options | {"max_pixels": 640 * 480 - 1})

    def fail(_: object) -> None:
        raise AssertionError("decoded")

    open_image = images.open_image
    monkeypatch.setattr("yolofpn.data.images.open_image", with_low_limit)
    monkeypatch.setattr("PIL.AvifImagePlugin.AvifImageFile.load", fail)
    Path("small.avif").write_bytes(stating(avif(frames=frames), 64, 48))
    outcome = call(detect, capsys, "small.avif", "good.png", "--weights", weights, "--output", "out")
    assert outcome.code == 1
    assert outcome.err.startswith("failed: small.avif: has more pixels than the limit of 307,199")
    assert "1 image, 1 failed: found 1 red" in outcome.out
