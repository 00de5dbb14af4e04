"""How large the images within an AVIF file are: what its boxes state, and what its coded images state.

The decoder takes memory for the size that a coded image states, whatever its container says, and scales it afterwards.
So the sequence headers of AV1 are read too, those of the boxes beside an image and those in its data; a file in which
they cannot be found is refused. libheif, which reads HEIC, refuses a coded image that is larger than its container
states. (ISO/IEC 14496-12 and 23008-12; AV1 Image File Format.)
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from yolofpn.data.av1_headers import Av1SizeReader

MAX_PARTS = 20_000  # of a file: boxes, items, their extents, frames of its tracks and their chunks
MAX_DEPTH = 10  # of boxes within each other; real ones need eight
_BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1"})  # of which files Pillow takes for AVIF
_AV1 = b"av01"  # an item, and the description of a track's frames
_PUT_TOGETHER = (b"grid", b"iovl")  # an image of other items
_INSIDE = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"stsd": 8}
_SAMPLE_ENTRY = 78  # bytes of a visual one before the boxes in it
_FORMS = {0: "", 1: "B", 2: "H", 4: "I", 8: "Q"}  # of numbers by their bytes, as an item's location says them
_INCOMPLETE = (struct.error, IndexError, KeyError)  # a box ends within its numbers, or has a form that does not exist


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


@dataclass(slots=True)
class _Box:
    kind: bytes
    start: int  # of its content
    end: int
    inside: list[_Box] = field(default_factory=list)

    def all(self, kind: bytes) -> list[_Box]:
        return [box for box in self.inside if box.kind == kind]


def is_avif(start: bytes) -> bool:
    """Whether a file that begins so may be an AVIF image, and no video of the same boxes."""
    return start[4:8] == b"ftyp" and start[8:12] in _BRANDS


def read_avif_sizes(data: bytes) -> AvifSizes:
    """All sizes of a file for which ``is_avif`` holds.

    Args:
        data: the whole file.

    Raises:
        ValueError: if it has more than ``MAX_PARTS`` parts, if the extents of its items overlap many times, or if it
            is AVIF and the sequence header of an item or a track cannot be found.
    """
    return _SizeReader(data).read()


class _SizeReader:
    """Reads one file, all of whose parts count together."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._parts = MAX_PARTS
        self._left = 2 * len(data)  # bytes that are copied from items in several extents
        self._av1 = Av1SizeReader()
        self._sizes = AvifSizes()
        self._has_coded = False
        self._has_unknown = False

    def read(self) -> AvifSizes:
        boxes: list[_Box] = []
        file = _Box(b"", 0, len(self._data))
        self._add_boxes(file, 0, (), boxes)
        # The main brand, or one of those with which a file of a general one is compatible.
        brands = b"".join(self._content(box) for box in file.all(b"ftyp"))
        self._sizes.has_av1 = b"avif" in brands or b"avis" in brands
        for box in boxes:
            with contextlib.suppress(*_INCOMPLETE):
                self._add_stated(box)
        for box in boxes:
            if box.kind == b"meta":
                self._add_items(box)
            elif box.kind == b"stbl":
                self._add_frames(box)
        if self._sizes.has_av1 and (self._has_unknown or not self._has_coded):
            raise ValueError("the size of its AV1 data cannot be read")
        return self._sizes

    def _count(self, parts: int) -> None:
        self._parts -= parts
        if self._parts < 0:
            raise ValueError(f"more than {MAX_PARTS:,} parts")

    def _content(self, box: _Box, limit: int | None = None) -> bytes:
        """What is in a box, or its first bytes."""
        return self._data[box.start : box.end if limit is None else min(box.end, box.start + limit)]

    def _add_boxes(self, outer: _Box, skipped: int, above: tuple[bytes, ...], boxes: list[_Box]) -> None:
        """Each box within another behind ``skipped`` bytes, and those within the boxes that hold others."""
        position, end = outer.start + skipped, outer.end
        while position + 8 <= end:
            self._count(1)
            size, kind = struct.unpack_from(">I4s", self._data, position)
            start = position + 8
            if size == 1 and start + 8 <= end:
                (size,) = struct.unpack_from(">Q", self._data, start)
                start += 8
            stop = end if size == 0 else min(end, position + size)
            if stop < start:
                return
            box = _Box(kind, start, stop)
            outer.inside.append(box)
            boxes.append(box)
            inside = _INSIDE.get(kind)
            if kind == b"iinf":
                inside = 6 if self._content(box, 1) == b"\0" else 8
            elif kind == _AV1 and outer.kind == b"stsd":
                inside = _SAMPLE_ENTRY
            if inside is not None and len(above) < MAX_DEPTH:
                self._add_boxes(box, inside, (*above, kind), boxes)
            position = stop

    def _add_stated(self, box: _Box) -> None:
        """What a box says itself."""
        if box.kind == b"ispe":
            self._sizes.add(*struct.unpack_from(">II", self._content(box, 12), 4))
        elif box.kind == _AV1:
            self._sizes.add(*struct.unpack_from(">HH", self._content(box, 28), 24))
        elif box.kind == b"stsz":
            self._sizes.frames = max(self._sizes.frames, struct.unpack_from(">I", self._content(box, 12), 8)[0])
        elif box.kind == b"av1C":
            self._sizes.has_av1 = True
            self._add_av1(self._data, box.start + 4, box.end)

    def _add_av1(self, data: bytes, start: int, end: int) -> bool:
        """The sizes that AV1 data states; whether there is any."""
        found = False
        with contextlib.suppress(*_INCOMPLETE):
            for width, height in self._av1.sizes(data, start, end):
                self._sizes.add(width, height)
                found = True
        return found

    def _add_items(self, meta: _Box) -> None:
        """The images of one 'meta', which alone says of what kind they are and where."""
        kinds: dict[int, set[bytes]] = {}
        for entry in (entry for iinf in meta.all(b"iinf") for entry in iinf.all(b"infe")):
            with contextlib.suppress(*_INCOMPLETE):
                content = self._content(entry, 14)
                item, kind = struct.unpack_from({2: ">H2x4s", 3: ">I2x4s"}[content[0]], content, 4)
                kinds.setdefault(item, set()).add(kind)
        self._sizes.has_av1 |= any(_AV1 in names for names in kinds.values())
        within = next(iter(meta.all(b"idat")), _Box(b"", 0, 0))
        sources = {0: _Box(b"", 0, len(self._data)), 1: within}
        for iloc in meta.all(b"iloc"):
            try:
                for item, method, extents in self._locations(self._content(iloc)):
                    names = kinds.get(item, set())
                    if not names.isdisjoint((_AV1, *_PUT_TOGETHER)):
                        self._add_item(names, *self._joined(sources[method], extents))
            except _INCOMPLETE:
                self._has_unknown = True
                return

    def _joined(self, source: _Box, extents: list[tuple[int, int]]) -> tuple[bytes, int, int]:
        """Data that holds the extents behind each other, their start and their end in it."""
        ends = [
            (source.start + start, min(source.end, source.start + start + length) if length else source.end)
            for start, length in extents
        ]
        if len(ends) == 1:
            return (self._data, *ends[0])
        self._left -= sum(max(0, end - start) for start, end in ends)
        if self._left < 0:
            raise ValueError("its extents overlap")
        content = b"".join(self._data[start:end] for start, end in ends)
        return content, 0, len(content)

    def _add_item(self, kinds: set[bytes], data: bytes, start: int, end: int) -> None:
        """What the data of an item says, as each kind by which it is called."""
        for kind in kinds.intersection(_PUT_TOGETHER):
            with contextlib.suppress(*_INCOMPLETE):
                content = data[start : min(end, start + 18)]
                form = ">II" if content[1] & 1 else ">HH"
                self._sizes.add(*struct.unpack_from(form, content, 4 if kind == b"grid" else 10))
        if _AV1 in kinds:
            found = self._add_av1(data, start, end)
            self._has_coded |= found
            self._has_unknown |= not found

    def _locations(self, content: bytes) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
        """Of each item its number, where its data is (0: file, 1: idat) and its extents as (offset, length)."""
        version, (sizes,) = content[0], struct.unpack_from(">H", content, 4)
        offset, length, base, index = (_FORMS[sizes >> shift & 15] for shift in (12, 8, 4, 0))
        number = "H" if version < 2 else "I"
        head = struct.Struct(">" + number + ("HH" if version else "H") + base + "H")
        extent = struct.Struct(">" + (index if version else "") + offset + length)
        position = 6 + struct.calcsize(number)
        for _ in range(*struct.unpack_from(">" + number, content, 6)):
            item, *middle, count = head.unpack_from(content, position)
            position += head.size
            self._count(count + 1)
            found = []
            for _ in range(count):
                numbers = list(extent.unpack_from(content, position))
                position += extent.size
                extent_length = numbers.pop() if length else 0
                found.append(((numbers.pop() if offset else 0) + (middle[-1] if base else 0), extent_length))
            yield item, middle[0] & 15 if version else 0, found

    def _add_frames(self, table: _Box) -> None:
        """The frames of one track."""
        if not any(entry.kind == _AV1 for stsd in table.all(b"stsd") for entry in stsd.inside):
            return
        self._sizes.has_av1 = True
        own = {box.kind: box for box in table.inside}
        if len(own) < len(table.inside):
            raise ValueError("a track has two boxes of the same kind")
        found = False
        with contextlib.suppress(*_INCOMPLETE):
            for start, end in self._samples(own):
                found |= self._add_av1(self._data, start, end)
        self._has_coded |= found
        self._has_unknown |= not found

    def _samples(self, own: dict[bytes, _Box]) -> Iterator[tuple[int, int]]:
        """Start and end of each frame in the file: so many lie behind each other from each chunk's offset on."""
        form = "I" if b"stco" in own else "Q"
        sample_sizes, runs_of_chunks = self._content(own[b"stsz"]), self._content(own[b"stsc"])
        chunk_offsets = self._content(own[b"stco" if form == "I" else b"co64"])
        size, count = struct.unpack_from(">II", sample_sizes, 4)
        (chunks,), (runs,) = struct.unpack_from(">I", chunk_offsets, 4), struct.unpack_from(">I", runs_of_chunks, 4)
        self._count(count + chunks + runs)
        sizes = (size,) * count if size else struct.unpack_from(f">{count}I", sample_sizes, 12)
        offsets = struct.unpack_from(f">{chunks}{form}", chunk_offsets, 8)
        firsts = struct.unpack_from(f">{3 * runs}I", runs_of_chunks, 8)
        starts, per_chunk = firsts[::3], firsts[1::3]
        frame, run = 0, 0
        for number, position in enumerate(offsets, start=1):
            while run + 1 < len(starts) and starts[run + 1] <= number:
                run += 1
            stop = min(count, frame + per_chunk[run])
            for frame_size in sizes[frame:stop]:
                if position >= len(self._data):  # as are all behind it, up to the next chunk
                    break
                yield position, position + frame_size
                position += frame_size
            frame = stop
