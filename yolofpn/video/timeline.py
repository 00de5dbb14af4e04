"""Presentation times that go on where the clock of a recording restarts or jumps, as in parts joined with ``cat``."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

_TIMESTAMPS_MAY_JUMP = 0x0200  # AVFMT_TS_DISCONT
_LONGEST_GAP = 10.0  # seconds; FFmpeg's own dts_delta_threshold
_BACKWARDS = 0.1  # seconds that a clock may step back within one recording
_SIMULTANEOUS = 0.15  # seconds; a codec's priming lets sound start this much before the first frame


@dataclass(frozen=True)
class Jump:
    """A shift of all timestamps from this packet on.

    Attributes:
        position: of the packet in the file, in bytes.
        shift: seconds.
    """

    position: int
    shift: float


class Timeline:
    """Shifts the times of one stream's packets so that they go on.

    The rules are those of FFmpeg's programs: a clock that steps back has restarted; one that leaps ahead has jumped,
    but only in formats whose clocks may do so, since elsewhere it is a frame that is held.

    Args:
        container: where the packets come from.
        jumps: those of another stream of the file, which its own follow; None to work them out.

    Attributes:
        jumps: where the clock restarted or jumped so far.
    """

    def __init__(self, container: InputContainer, jumps: list[Jump] | None = None) -> None:
        self._may_leap = may_jump(container)
        self._given = jumps
        self.jumps: list[Jump] = []
        self._shift = 0.0
        self._last = self._next = 0.0
        self._begun = False

    def shift(self, packet: Packet[Any]) -> None:
        """Shift ``pts`` and ``dts`` of the next packet."""
        if not packet.time_base:
            return
        if packet.dts is not None:
            seconds = float(packet.dts * packet.time_base)
            if self._begun and self._jumped(seconds + self._shift):
                position = packet.pos or 0
                self._shift = self._shift_at(position, self._next - seconds)
                self.jumps.append(Jump(position, self._shift))
            self._begun = True
            self._last = seconds + self._shift
            self._next = self._last + float((packet.duration or 0) * packet.time_base)
        shift = round(self._shift / packet.time_base)
        packet.dts = None if packet.dts is None else packet.dts + shift
        packet.pts = None if packet.pts is None else packet.pts + shift

    def _jumped(self, seconds: float) -> bool:
        return seconds < self._last - _BACKWARDS or (self._may_leap and abs(seconds - self._next) > _LONGEST_GAP)

    def _shift_at(self, position: int, own: float) -> float:
        """Return the jump of the other stream that is nearest in the file; concatenated parts restart all streams."""
        if not self._given:
            return own
        index = bisect_left([jump.position for jump in self._given], position)
        near = self._given[max(0, index - 1) : index + 1]
        return min(near, key=lambda jump: abs(jump.position - position)).shift


def may_jump(container: InputContainer) -> bool:
    """Return whether timestamps of this format may restart or jump: transport and program streams, HLS, Ogg."""
    return bool(int(container.format.flags) & _TIMESTAMPS_MAY_JUMP)


def start_seconds(container: InputContainer, stream: Stream, first: float | None) -> float:
    """Return the timestamp that players show as 0:00: the start of the earliest stream.

    Args:
        container: the file.
        stream: its video.
        first: time of the video's first packet; the stated start of joined parts may be that of a later one.
    """
    start = _seconds_of_start(stream)
    if first is not None and (start is None or (may_jump(container) and abs(first - start) > _LONGEST_GAP)):
        return first
    start = start or 0.0
    starts = [_seconds_of_start(each) for each in container.streams if each.type in ("audio", "video")]
    earliest = min((each for each in starts if each is not None), default=start)
    lead = start - earliest
    jumped = may_jump(container) and lead > _LONGEST_GAP
    return earliest if lead > _SIMULTANEOUS and not jumped else start


def _seconds_of_start(stream: Stream) -> float | None:
    if stream.start_time is None or stream.time_base is None:
        return None
    return float(stream.start_time * stream.time_base)
