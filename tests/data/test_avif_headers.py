"""AVIF: the size of what is coded counts, whatever the boxes around it state. Nothing is decoded."""

from __future__ import annotations

import contextlib
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
from yolofpn.data.av1_headers import Av1SizeReader
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
    assert list(Av1SizeReader().sizes(large)) == [(640, 480)]
    assert list(Av1SizeReader().sizes(bytes([0x12, 0]) + sequence_header(64, 48) + large)) == [(64, 48), (640, 480)]
    without_length = bytes([large[0] & ~2]) + large[2:]
    assert list(Av1SizeReader().sizes(without_length)) == [(640, 480)]
    extended = bytes([large[0] | 4, 0]) + large[1:]
    assert list(Av1SizeReader().sizes(extended)) == [(640, 480)]
    # 4 bits of profile and kind, no timing, no delay, one operating point: 12 bits, 5 of level; sizes of 16 bits.
    plain = int("0000" + "0" + "0" + "0" + "00000" + "0" * 12 + "00001" + "1111" * 2 + f"{639:016b}{479:016b}", 2)
    bits = 4 + 1 + 1 + 1 + 5 + 12 + 5 + 8 + 32
    content = (plain << -bits % 8).to_bytes((bits + 7) // 8)
    assert list(Av1SizeReader().sizes(bytes([0x0A, len(content)]) + content)) == [(640, 480)]
    # Timing (64 bits, equal intervals: 0), a decoder model with delays of 3 bits, display delay; level 8 has a tier.
    text = "0000" + "0" + "1" + "0" * 64 + "1" + "1" + "1" + "00010" + "0" * 42 + "1" + "00000"
    text += "0" * 12 + "01000" + "1" + "1" + "000" * 2 + "0" + "1" + "0000" + "1111" * 2 + f"{639:016b}{479:016b}"
    content = (int(text, 2) << -len(text) % 8).to_bytes((len(text) + 7) // 8)
    assert list(Av1SizeReader().sizes(bytes([0x0A, len(content)]) + content)) == [(640, 480)]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def infe(number: int, kind: bytes) -> bytes:
    return box(b"infe", struct.pack(">BBHHH", 2, 0, 0, number, 0) + kind + b"\0")


def ispe(width: int, height: int) -> bytes:
    return box(b"ispe", bytes(4) + struct.pack(">II", width, height))


SMALL = ispe(64, 48)


def file_of(
    properties: bytes,
    items: Sequence[tuple[bytes, Sequence[bytes]]] = (),
    *,
    idat: bool = False,
    first: bytes = b"",
    infos: bytes | None = None,
) -> bytes:
    """A file of these properties and items, each of a kind and of parts that lie apart from each other.

    Args:
        properties: the content of 'ipco'.
        items: numbered from 0.
        idat: whether they are in 'idat' rather than 'mdat'.
        first: boxes before 'meta'.
        infos: the content of 'iinf', instead of what belongs to the items.
    """
    head = box(b"ftyp", b"avif" + bytes(4)) + first
    ipco = box(b"iprp", box(b"ipco", properties))
    if infos is None:
        infos = b"".join(infe(number, kind) for number, (kind, _) in enumerate(items))
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


@pytest.mark.slow
@pytest.mark.parametrize("idat", [False, True])
def test_items_anywhere_in_pieces_and_put_together(idat: bool) -> None:
    header, smaller = sequence_header(), (b"av01", [sequence_header(64, 48)])
    whole = [(b"Exif", [sequence_header(2000, 1000)]), (b"av01", [header])]
    assert read_header(file_of(SMALL, whole, idat=idat)) == ImageHeader("AVIF", 480, 640)
    pieces = [(b"av01", [header[:3], header[3:5], header[5:]])]
    assert read_header(file_of(SMALL, pieces, idat=idat)) == ImageHeader("AVIF", 480, 640)
    grid = [(b"grid", [b"\0\0\1\1" + struct.pack(">HH", 1200, 900)]), (b"av01", [header])]
    assert read_header(file_of(SMALL, grid, idat=idat)) == ImageHeader("AVIF", 900, 1200)
    wide = [(b"grid", [b"\0\1\1\1" + struct.pack(">II", 120_000, 900)]), smaller]
    assert read_header(file_of(SMALL, wide, idat=idat)) == ImageHeader("AVIF", 900, 120_000)
    overlay = [(b"iovl", [bytes(10) + struct.pack(">HH", 1300, 800)]), smaller]
    assert read_header(file_of(SMALL, overlay, idat=idat)) == ImageHeader("AVIF", 800, 1300)


def test_the_box_beside_the_data_counts_as_well() -> None:
    items = [(b"av01", [sequence_header(64, 48)])]
    assert read_header(file_of(SMALL, items)) == ImageHeader("AVIF", 48, 64)
    beside = box(b"av1C", bytes(4) + sequence_header())
    assert read_header(file_of(SMALL + beside, items)) == ImageHeader("AVIF", 480, 640)


def test_an_avif_whose_coded_size_cannot_be_found_is_refused() -> None:
    good = (b"av01", [sequence_header(64, 48)])
    for items in ([], [(b"Exif", [b"abc"])], [(b"av01", [b"\x12\0"])], [good, (b"av01", [b"\x12\0"])]):
        with pytest.raises(ValueError, match="cannot be read"):
            read_header(file_of(SMALL, items))
    data = file_of(SMALL, [good])
    assert read_header(data) == ImageHeader("AVIF", 48, 64)
    for place, value in ((0, 3), (4, 0x34), (9, 2), (11, 2)):  # version, bytes of a number, two items, another source
        changed = bytearray(data)
        changed[data.index(b"iloc") + 4 + place] = value
        with pytest.raises(ValueError, match="cannot be read"):
            read_header(bytes(changed))
    # The boxes of HEIC are the same, but its reader checks the sizes itself.
    assert read_header(file_of(SMALL).replace(b"avif", b"mif1")) is None


def test_only_the_boxes_of_an_item_list_say_of_what_kind_items_are() -> None:
    items = [(b"av01", [sequence_header()])]
    assert read_header(file_of(SMALL, items) + infe(0, b"Exif")) == ImageHeader("AVIF", 480, 640)
    broken = box(b"infe", b"\2")
    assert read_header(file_of(SMALL, items, infos=broken + infe(0, b"av01"))) == ImageHeader("AVIF", 480, 640)
    for names in ((b"av01", b"Exif"), (b"Exif", b"av01")):  # one says that it is coded
        infos = b"".join(infe(0, name) for name in names)
        assert read_header(file_of(SMALL, items, infos=infos)) == ImageHeader("AVIF", 480, 640)
    elsewhere = box(b"iloc", bytes(6) + bytes(2)) + box(b"idat", bytes(99)) + box(b"iinf", bytes(6) + infe(0, b"Exif"))
    assert read_header(file_of(SMALL, items, idat=True, first=elsewhere)) == ImageHeader("AVIF", 480, 640)
    another = box(b"moov", box(b"trak", box(b"meta", bytes(4) + elsewhere)))
    assert read_header(file_of(SMALL, items, idat=True, first=another)) == ImageHeader("AVIF", 480, 640)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 3])
def test_a_file_cut_off_anywhere_is_refused_or_has_its_size(frames: int) -> None:
    data = avif(frames=frames)
    assert read_header(data) == ImageHeader("AVIF", 480, 640, frames)
    stated = stating(data, 64, 48)
    for length in range(32, len(data), frames):
        with contextlib.suppress(ValueError):
            header = read_header(stated[:length])
            assert header is not None
            assert header.pixels == 640 * 480


def test_a_location_ends_with_its_box() -> None:
    """What follows is not read as more items: of 3,000 boxes each would else be read to the end of the file."""
    endless = box(b"iloc", bytes([1, 0, 0, 0, 0, 0]) + b"\xff\xff")
    file = file_of(SMALL, [(b"av01", [sequence_header(64, 48)])], first=box(b"meta", bytes(4) + 3000 * endless))
    with pytest.raises(ValueError, match="cannot be read"):
        read_header(file)


def track(count: int, *boxes: bytes) -> bytes:
    """A track of one chunk of frames of one byte, which lies beyond the end of a small file."""
    stsd = box(b"stsd", bytes(8) + box(b"av01", bytes(24) + struct.pack(">HH", 64, 48) + bytes(50)))
    stsz = box(b"stsz", struct.pack(">III", 0, 1, count))
    stsc = box(b"stsc", struct.pack(">IIIII", 0, 1, 1, count, 1))
    stco = box(b"stco", struct.pack(">III", 0, 1, 1 << 30))
    stbl = box(b"stbl", stsd + stsz + stsc + stco + b"".join(boxes))
    return box(b"moov", box(b"trak", box(b"mdia", box(b"minf", stbl))))


def test_frames_beyond_the_end_are_refused_and_all_tracks_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [(b"av01", [sequence_header(64, 48)])]
    with pytest.raises(ValueError, match="cannot be read"):
        read_header(file_of(SMALL, items, first=track(5)))
    with pytest.raises(ValueError, match="two boxes"):
        read_header(file_of(SMALL, items, first=track(5, box(b"stco", bytes(8)))))
    monkeypatch.setattr(avif_headers, "MAX_PARTS", 1000)
    with pytest.raises(ValueError, match="cannot be read"):
        read_header(file_of(SMALL, items, first=track(600)))
    with pytest.raises(ValueError, match="parts"):
        read_header(file_of(SMALL, items, first=2 * track(600)))


def test_parts_without_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    header = sequence_header(64, 48)
    with pytest.raises(ValueError, match="overlap"):
        read_header(overlapping(header))
    monkeypatch.setattr(av1_headers, "MAX_UNITS", 5)
    assert read_header(file_of(SMALL, [(b"av01", [header + 3 * b"\x12\0"])])) == ImageHeader("AVIF", 48, 64)
    with pytest.raises(ValueError, match="units"):  # of all items together
        read_header(file_of(SMALL, 2 * [(b"av01", [header + 3 * b"\x12\0"])]))
    monkeypatch.setattr(av1_headers, "MAX_SEQUENCE_HEADERS", 2)
    assert read_header(file_of(SMALL, 4 * [(b"av01", [header])])) == ImageHeader("AVIF", 48, 64)
    with pytest.raises(ValueError, match="different"):
        read_header(file_of(SMALL, [(b"av01", [header + bytes([0x0A, 9, size] + 8 * [0])]) for size in range(2)]))
    monkeypatch.setattr(avif_headers, "MAX_PARTS", 20)
    with pytest.raises(ValueError, match="parts"):
        read_header(file_of(20 * SMALL))


def test_numbers_that_decoders_read_differently_have_no_size() -> None:
    # Timing, whose ticks are 32 zeros and more: libdav1d takes it for the largest number, others go on.
    text = "0000" + "0" + "1" + "0" * 64 + "1" + "0" * 40
    content = (int(text, 2) << -len(text) % 8).to_bytes((len(text) + 7) // 8) + bytes(50) + b"\xff" * 50
    with pytest.raises(IndexError):
        list(Av1SizeReader().sizes(bytes([0x0A, len(content)]) + content))


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
    assert read_header(box(b"ftyp", b"mif1" + bytes(4)) + nested) is None


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
    for module in ("images", "reduced_images"):
        monkeypatch.setattr(f"yolofpn.data.{module}.open_image", with_low_limit)
    monkeypatch.setattr("PIL.AvifImagePlugin.AvifImageFile.load", fail)
    Path("small.avif").write_bytes(stating(avif(frames=frames), 64, 48))
    outcome = call(detect, capsys, "small.avif", "good.png", "--weights", weights, "--output", "out")
    assert outcome.code == 1
    assert outcome.err.startswith("failed: small.avif: has more pixels than the limit of 307,199")
    assert "1 image, 1 failed: found 1 red" in outcome.out
