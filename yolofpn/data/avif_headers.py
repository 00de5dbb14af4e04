"""How large the images within an AVIF file are: what its boxes state, and what its coded images state.

The decoder takes memory for the size that a coded image states, whatever its container says, and scales it afterwards.
So the sequence headers of AV1 are read too, those of the boxes beside an image and those in its data. libheif, which
reads HEIC, refuses a coded image that is larger than its container states. (ISO/IEC 14496-12 and 23008-12; AV1 Image
File Format.)
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from yolofpn.data.av1_headers import sizes_in_av1

MAX_BOXES = 100_000  # of a file; also items, their extents, and frames of a track
MAX_TRACKS = 64
MAX_DEPTH = 10  # of boxes within each other; real ones need eight
_BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1"})  # of which files Pillow takes for AVIF
_AV1 = b"av01"  # an item, and the description of a track's frames
_PUT_TOGETHER = (b"grid", b"iovl")  # an image of other items
_INSIDE = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"stsd": 8}
_SAMPLE_ENTRY = 78  # bytes of a visual one before the boxes in it
_FORMS = {0: "", 4: "I", 8: "Q"}  # of numbers by their bytes, as an item's location says them


@dataclass
class AvifSizes:
    """What a file states.

    Attributes:
        height: the largest of anything in it, in pixels.
        width: the largest of anything in it, in pixels.
        frames: of its longest track, 1 without any.
        has_av1: whether it holds AV1.
    """

    height: int = 0
    width: int = 0
    frames: int = 1
    has_av1: bool = False

    def add(self, width: int, height: int) -> None:
        """Something of that size is in it."""
        self.height, self.width = max(self.height, height), max(self.width, width)


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int  # of its content
    end: int
    parent: bytes


def is_avif(start: bytes) -> bool:
    """Whether a file that begins so may be an AVIF image, and no video of the same boxes."""
    return start[4:8] == b"ftyp" and start[8:12] in _BRANDS


def read_avif_sizes(data: bytes) -> AvifSizes:
    """All sizes of an AVIF file; where a header is incomplete, those of the others.

    Args:
        data: the whole file.

    Raises:
        ValueError: if it has more than ``MAX_BOXES`` parts, or they overlap many times.
    """
    boxes: list[_Box] = []
    for box in _boxes(data, 0, len(data), ()):
        boxes.append(box)
        if len(boxes) > MAX_BOXES:
            raise ValueError(f"more than {MAX_BOXES:,} boxes")
    sizes = AvifSizes(has_av1=data[8:12] in (b"avif", b"avis"))
    for box in boxes:
        with contextlib.suppress(struct.error, IndexError):
            _add_stated(data, box, sizes)
    left = 2 * len(data)  # bytes that are looked at
    for kind, content in _parts(data, boxes):
        left -= len(content)
        if left < 0:
            raise ValueError("its images overlap")
        with contextlib.suppress(struct.error, IndexError):
            _add_coded(kind, content, sizes)
    return sizes


def _boxes(data: bytes, position: int, end: int, above: tuple[bytes, ...]) -> Iterator[_Box]:
    """Each box, and those within the boxes that hold others."""
    while position + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1 and start + 8 <= end:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = end if size == 0 else min(end, position + size)
        if stop < start:
            return
        parent = above[-1] if above else b""
        yield _Box(kind, start, stop, parent)
        inside = _INSIDE.get(kind)
        if kind == b"iinf":
            inside = 6 if data[start : start + 1] == b"\0" else 8
        elif kind == _AV1 and parent == b"stsd":
            inside = _SAMPLE_ENTRY
        if inside is not None and len(above) < MAX_DEPTH:
            yield from _boxes(data, start + inside, stop, (*above, kind))
        position = stop


def _add_stated(data: bytes, box: _Box, sizes: AvifSizes) -> None:
    """What a box says itself."""
    if box.kind == b"ispe":
        sizes.add(*struct.unpack_from(">II", data, box.start + 4))
    elif box.kind == _AV1:
        sizes.add(*struct.unpack_from(">HH", data, box.start + 24))
    elif box.kind == b"stsz":
        sizes.frames = max(sizes.frames, struct.unpack_from(">I", data, box.start + 8)[0])
    elif box.kind == b"av1C":
        sizes.has_av1 = True
        for width, height in sizes_in_av1(data[box.start + 4 : box.end]):
            sizes.add(width, height)


def _add_coded(kind: bytes, content: bytes, sizes: AvifSizes) -> None:
    """What the data of an item or a frame says."""
    if kind in _PUT_TOGETHER:
        start = 4 if kind == b"grid" else 10
        sizes.add(*struct.unpack_from(">II" if content[1] & 1 else ">HH", content, start))
        return
    for width, height in sizes_in_av1(content):
        sizes.add(width, height)


def _parts(data: bytes, boxes: list[_Box]) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of each item that is an image, and of each frame of the tracks."""
    with contextlib.suppress(struct.error, IndexError):
        yield from _items(data, boxes)
    with contextlib.suppress(struct.error, IndexError):
        yield from _frames(data, boxes)


def _items(data: bytes, boxes: list[_Box]) -> Iterator[tuple[bytes, bytes]]:
    kinds = dict(_item_kinds(data, boxes))
    within = next((box.start for box in boxes if box.kind == b"idat"), 0)
    for box in boxes:
        if box.kind != b"iloc":
            continue
        for item, method, extents in _locations(data, box.start):
            if kinds.get(item) in (_AV1, *_PUT_TOGETHER) and method in (0, 1):
                base = within if method == 1 else 0
                ends = [(base + start, base + start + length if length else len(data)) for start, length in extents]
                if sum(max(0, min(end, len(data)) - start) for start, end in ends) > 2 * len(data):
                    raise ValueError("its images overlap")
                yield kinds[item], b"".join(data[start:end] for start, end in ends)


def _item_kinds(data: bytes, boxes: list[_Box]) -> Iterator[tuple[int, bytes]]:
    for box in boxes:
        if box.kind == b"infe" and data[box.start] in (2, 3):
            number, size = (">H", 2) if data[box.start] == 2 else (">I", 4)
            kind = data[box.start + 6 + size : box.start + 10 + size]
            yield struct.unpack_from(number, data, box.start + 4)[0], kind


def _locations(data: bytes, start: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Of each item its number, where its data is (0: file, 1: idat) and its extents as (offset, length)."""
    version, (sizes,) = data[start], struct.unpack_from(">H", data, start + 4)
    offset, length, base, index = (_FORMS.get(sizes >> shift & 15, "") for shift in (12, 8, 4, 0))
    head = (">H" if version < 2 else ">I") + ("HH" if version else "H") + base + "H"
    extent = ">" + (index if version else "") + offset + length
    position = start + 6
    count_form = ">H" if version < 2 else ">I"
    (count,) = struct.unpack_from(count_form, data, position)
    position += struct.calcsize(count_form)
    seen = 0
    for _ in range(count):
        item, *middle, extents = struct.unpack_from(head, data, position)
        position += struct.calcsize(head)
        seen += extents + 1
        if seen > MAX_BOXES:
            raise ValueError(f"more than {MAX_BOXES:,} items")
        found = []
        for _ in range(extents):
            numbers = list(struct.unpack_from(extent, data, position))
            position += struct.calcsize(extent)
            extent_length = numbers.pop() if length else 0
            found.append(((numbers.pop() if offset else 0) + (middle[-1] if base else 0), extent_length))
        yield item, middle[0] & 15 if version else 0, found


def _frames(data: bytes, boxes: list[_Box]) -> Iterator[tuple[bytes, bytes]]:
    """Of the tracks, each of which has one box of each kind, in any order, within its own 'stbl'."""
    tables = [box for box in boxes if box.kind == b"stbl"]
    if len(tables) > MAX_TRACKS:
        raise ValueError(f"more than {MAX_TRACKS} tracks")
    for table in tables:
        own = {box.kind: box.start for box in boxes if box.parent in (b"stbl", b"stsd") and _within(box, table)}
        if {_AV1, b"stsz", b"stsc"} <= own.keys() and not own.keys().isdisjoint({b"stco", b"co64"}):
            for start, end in _samples(data, own):
                yield _AV1, data[start:end]


def _within(box: _Box, other: _Box) -> bool:
    return other.start <= box.start and box.end <= other.end


def _samples(data: bytes, own: dict[bytes, int]) -> Iterator[tuple[int, int]]:
    """Start and end of each frame: so many lie behind each other from each chunk's offset on."""
    size, count = struct.unpack_from(">II", data, own[b"stsz"] + 4)
    if count > MAX_BOXES:
        raise ValueError(f"more than {MAX_BOXES:,} frames")
    sizes = (size,) * count if size else struct.unpack_from(f">{count}I", data, own[b"stsz"] + 12)
    form, offsets_at = ("I", own[b"stco"]) if b"stco" in own else ("Q", own[b"co64"])
    (chunks,) = struct.unpack_from(">I", data, offsets_at + 4)
    offsets = struct.unpack_from(f">{min(chunks, MAX_BOXES)}{form}", data, offsets_at + 8)
    (runs,) = struct.unpack_from(">I", data, own[b"stsc"] + 4)
    firsts = struct.unpack_from(f">{3 * min(runs, MAX_BOXES)}I", data, own[b"stsc"] + 8)
    starts, per_chunk = firsts[::3], firsts[1::3]
    frame, run = 0, 0
    for number, position in enumerate(offsets, start=1):
        while run + 1 < len(starts) and starts[run + 1] <= number:
            run += 1
        for _ in range(per_chunk[run]):
            if frame == count:
                return
            yield position, position + sizes[frame]
            position, frame = position + sizes[frame], frame + 1
