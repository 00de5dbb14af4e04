"""The sizes of images that AV1 data states (AV1 Bitstream & Decoding Process Specification, sections 5.3 to 5.5)."""

from __future__ import annotations

from collections.abc import Iterator

MAX_UNITS = 100_000  # OBUs of one image or frame
_SEQUENCE_HEADER = 1  # a type of OBU
_START = 1024  # bytes of one that are looked at


class _Bits:
    """Reads bits from the left; IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data[:_START])
        self._left = 8 * len(data[:_START])

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise IndexError("ends within a header")
        return self._value >> self._left & ((1 << count) - 1)

    def skip_variable(self) -> None:
        """Over a number of the type uvlc()."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        self.read(zeros)


def sizes_in_av1(data: bytes) -> Iterator[tuple[int, int]]:
    """(width, height) that each sequence header of AV1 data states.

    Raises:
        IndexError: if it ends within a header.
        ValueError: if it has more than ``MAX_UNITS`` units.
    """
    position = count = 0
    while position < len(data):
        head = data[position]
        position += 1 + (head >> 2 & 1)  # with an extension, or without
        length = len(data) - position
        if head & 2:
            length, position = _leb128(data, position)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            yield _av1_size(_Bits(data[position : position + length]))
        position += length
        count += 1
        if count > MAX_UNITS:
            raise ValueError(f"more than {MAX_UNITS:,} units")


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """A number of up to eight bytes, and where it ends."""
    value = 0
    for index in range(8):
        byte = data[position + index]
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
