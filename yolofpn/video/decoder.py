"""Decodes frames with monotonic timestamps, and records damage."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from yolofpn.errors import InputError
from yolofpn.video.deinterlace import TimedFrame, deinterlaced
from yolofpn.video.timeline import Timeline, start_seconds

_CUT_SECONDS = 0.5  # a video that ends this much and this part before its stated end was cut off
_CUT_PART = 0.05
_MATROSKA_DURATION = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")  # 00:01:02.500000000

_TO_NEXT_RECORDING = 3  # packets from one with a gap in its count to the keyframe of the recording that follows

VideoPacket: TypeAlias = "Packet[VideoStream] | None"


class VideoDecoder:
    """Decodes one stream and remembers how that went.

    Args:
        container: where the stream is.
        stream: a video.
        most_failures: packets in a row that cannot be decoded, after which reading ends; by default it goes on.

    Attributes:
        good: frames given so far.
        damaged: packets and frames that could not be decoded whole.
        failure: why reading ended before the end of the stream; empty if it did not.
        last_time: presentation time of the last frame.
        end: when the last frame has been shown, in seconds.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, *, most_failures: int | None = None) -> None:
        self._most_failures = most_failures
        self._container = container
        self._stream = stream
        self._timeline = Timeline(container)
        self._start: float | None = None
        self.good = 0
        self.damaged = 0
        self.failure = ""
        self.last_time = 0.0
        self.end = 0.0

    def frames(self) -> Iterator[TimedFrame]:
        """Yield complete, progressive frames with increasing timestamps."""
        for item in deinterlaced(self._timed()):
            self.good += 1
            yield item

    def ended_early(self) -> bool:
        """Return whether decoding ended well before the duration stated in the file."""
        stated = self.stated_seconds()
        return stated is not None and stated - self.end > max(_CUT_SECONDS, _CUT_PART * stated)

    def stated_seconds(self) -> float | None:
        """Return the duration stated in the file; None for a live stream, or if timestamps jumped."""
        return None if self._timeline.jumps else stated_seconds(self._container, self._stream, self._start)

    def _timed(self) -> Iterator[TimedFrame]:
        for index, frame in enumerate(self._decoded()):
            duration = float(frame.duration * frame.time_base) if frame.time_base else 0.0
            if frame.pts is None or frame.time_base is None:
                time = index / float(self._stream.average_rate or self._stream.guessed_rate or 25)
            else:
                seconds = float(frame.pts * frame.time_base)
                self._start = seconds if self._start is None else self._start
                time = max(0.0, seconds - self._start)
            if index and time <= self.last_time:
                time = max(self.end, self.last_time + 0.001)
            self.last_time, self.end = time, time + duration
            if frame.is_corrupt:
                self.damaged += 1
                continue
            yield TimedFrame(frame, index, time, duration)

    def _decoded(self) -> Iterator[VideoFrame]:
        failures = 0
        for packet in self._packets():
            try:
                frames = self._stream.decode(packet)
            except Exception:  # PyAV raises more than its own kinds, and what a file holds must not end the run
                self.damaged += 1
                failures += 1
                if failures == self._most_failures:
                    self.failure = "its frames cannot be decoded: they are damaged or too large"
                    return
                continue
            failures = 0
            yield from frames

    def _packets(self) -> Iterator[VideoPacket]:
        """Yield the packets of the stream; finally None or an empty packet, which flushes the decoder.

        FFmpeg marks a packet as damaged where the count of a transport stream's packets has a gap. Where a keyframe
        follows at once, another recording was joined there, and the packet is whole; elsewhere it is not.
        """
        waiting: deque[VideoPacket] = deque()
        for packet in self._demuxed():
            if packet is not None:
                if self._start is None and packet.pts is not None and packet.time_base:
                    self._start = start_seconds(self._container, self._stream, float(packet.pts * packet.time_base))
                self._timeline.shift(packet)
            if not waiting and (packet is None or not packet.is_corrupt):
                yield packet
                continue
            waiting.append(packet)
            while waiting and (
                (first := waiting[0]) is None or not first.is_corrupt or len(waiting) > _TO_NEXT_RECORDING
            ):
                yield from self._sound(waiting.popleft(), waiting)
        while waiting:
            yield from self._sound(waiting.popleft(), waiting)

    def _sound(self, packet: VideoPacket, following: Iterable[VideoPacket]) -> Iterator[VideoPacket]:
        if packet is not None and packet.is_corrupt:
            if not any(each is not None and each.is_keyframe for each in following):
                self.damaged += 1
                return
            packet.is_corrupt = False
        yield packet

    def _demuxed(self) -> Iterator[VideoPacket]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except Exception as error:  # as above
                self.failure = reason_of(error)
                yield None
                return
            if packet is None:
                return
            yield packet


def stated_seconds(container: InputContainer, stream: VideoStream, start: float | None = None) -> float | None:
    """Return the duration stated in the file.

    Args:
        container: the file.
        stream: its video.
        start: what its clock shows at 0:00, where that is known.
    """
    stated = []
    if stream.duration and stream.time_base:
        stated.append(float(stream.duration * stream.time_base))
    elif match := _MATROSKA_DURATION.fullmatch(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = match.groups()
        stated.append(int(hours) * 3600 + int(minutes) * 60 + float(seconds))
    # The whole file's duration may be that of longer sound; but cuts by an edit list show only there.
    if container.duration and (stated or len(container.streams) == 1):
        stated.append(container.duration / av.time_base)
    if "matroska" in container.format.name:  # states when it ends by its clock, which need not begin at 0
        start = start_seconds(container, stream, None) if start is None else start
        stated = [end - start for end in stated]
    return min(stated, default=None)


def reason_of(error: Exception) -> str:
    """Return the error message without the URL that PyAV repeats, which may contain a password."""
    if type(error).__name__ == "ExitError" or isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, InputError):
        return str(error)
    return getattr(error, "strerror", None) or type(error).__name__
