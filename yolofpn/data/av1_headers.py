"""The sizes of images that AV1 data states (AV1 Bitstream & Decoding Process Specification, sections 5.3 to 5.5)."""

from __future__ import annotations

from collections.abc import Iterator

MAX_UNITS = 60_000  # OBUs of a file
MAX_SEQUENCE_HEADERS = 256  # of a file, that differ; an encoder repeats the same one
_SEQUENCE_HEADER = 1  # a type of OBU
_START = 512  # bytes of one that are looked at; the longest states its size within 400


class Av1SizeReader:
    """Reads the sizes in all AV1 data of one file, which have limits in common."""

    def __init__(self) -> None:
        self._units = 0
        self._sizes: dict[bytes, tuple[int, int] | None] = {}  # of each sequence header; None: it is incomplete

    def sizes(self, data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """(width, height) that each sequence header of AV1 data states.

        Args:
            data: holds the OBUs of one image, frame or configuration; nothing but sequence headers is copied.
            start: of the OBUs in it.
            end: of the OBUs in it, None for that of the data.

        Raises:
            IndexError: if it ends within a header.
            ValueError: if the file has more than ``MAX_UNITS`` units or ``MAX_SEQUENCE_HEADERS`` different headers.
        """
        position, end = start, len(data) if end is None else min(end, len(data))
        while position < end:
            self._units += 1
            if self._units > MAX_UNITS:
                raise ValueError(f"more than {MAX_UNITS:,} units")
            head = data[position]
            position += 1 + (head >> 2 & 1)  # with an extension, or without
            length = end - position
            if head & 2 and position < end and data[position] < 128:  # as most are
                length, position = data[position], position + 1
            elif head & 2:
                length, position = _leb128(data[position : min(position + 8, end)], position)
            if head >> 3 & 15 == _SEQUENCE_HEADER:
                yield self._size(data[position : min(position + min(length, _START), end)])
            position += length

    def _size(self, header: bytes) -> tuple[int, int]:
        if header not in self._sizes:
            if len(self._sizes) == MAX_SEQUENCE_HEADERS:
                raise ValueError(f"more than {MAX_SEQUENCE_HEADERS} different sequence headers")
            self._sizes[header] = None
            self._sizes[header] = _av1_size(_Bits(header))
        size = self._sizes[header]
        if size is None:
            raise IndexError("ends within a header")
        return size


class _Bits:
    """Reads bits from the left; IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise IndexError("ends within a header")
        return self._value >> self._left & ((1 << count) - 1)

    def skip_variable(self) -> None:
        """Over a number of the type uvlc(); IndexError for one beyond 32 bits, which decoders read differently."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros == 32:
                raise IndexError("a number has no end")
        self.read(zeros)


def _leb128(content: bytes, position: int) -> tuple[int, int]:
    """A number of up to eight bytes, which begins at ``position``, and where it ends."""
    value = 0
    for index, byte in enumerate(content):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position + index + 1
    raise IndexError("a number has no end")


def _av1_size(bits: _Bits) -> tuple[int, int]:
    bits.read(4)  # profile, still image
    if bits.read(1):  # reduced header
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            bits.skip_variable()
        if bits.read(1):  # decoder model
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)
