"""Frames of videos, decoded with PyAV: upright, timed, and honest about damage."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from yolofpn.errors import InputError
from yolofpn.graphs.libraries import num_threads
from yolofpn.structures import Frame, Image

OPEN_TIMEOUT = 15.0  # seconds that an address has to answer
READ_TIMEOUT = 15.0  # seconds that a stream may stay silent
_CUT_SECONDS = 0.5  # a video that ends this much and this part before its stated end was cut off
_CUT_PART = 0.05
_MATROSKA_DURATION = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")  # 00:01:02.500000000

_of_thread = threading.local()


def read_video(target: Path | str, name: str, vid_stride: int = 1, *, max_pixels: int | None = None) -> Iterator[Frame]:
    """Frames 0, n, 2n, ... of a video with their true numbers and presentation times.

    Args:
        target: path of the file, or its http address.
        name: what frames and error messages call it.
        vid_stride: n.
        max_pixels: larger frames, which a file may hide behind small ones, count as damaged and take no memory.

    Raises:
        InputError: it cannot be opened or has no frames; or, after the last readable frame, it was damaged or cut off.
    """
    with _open(target, name) as (container, stream):
        if max_pixels is not None:
            stream.codec_context.options = {"max_pixels": str(max_pixels)}
        decoder = VideoDecoder(container, stream)
        for index, time, frame in decoder.frames():
            if index % vid_stride == 0:
                yield Frame(upright_bgr(frame), name, index, time)
        if decoder.good == 0:
            raise InputError(f"{name}: no frame of this video can be decoded; {_remedy(target, opened=True)}")
        if decoder.failure or decoder.damaged or decoder.ended_early():
            reason = f" ({decoder.failure})" if decoder.failure else ""
            raise InputError(
                f"{name}: damaged or cut off{reason}: {decoder.good} frames could be read, "
                f"the last at {decoder.last_time:.1f} s; copy or download it again"
            )


def probe_video(target: Path | str, name: str) -> tuple[int | None, float | None]:
    """The number of frames and the mean frame rate that a video states, as far as it does.

    Args:
        target: path of the file, or its http address.
        name: what error messages call it.

    Raises:
        InputError: it cannot be opened.
    """
    with _open(target, name) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate
        seconds = _stated_seconds(container, stream)
        count = stream.frames or (round(seconds * rate) if seconds and rate else None)
        return count, float(rate) if rate else None


def is_video(path: Path) -> bool:
    """Whether the content of a file is a video of a kind that can be decoded."""
    try:
        with _open(path, str(path)):
            return True
    except InputError:
        return False


@contextmanager
def _open(target: Path | str, name: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    # "file:" keeps FFmpeg from taking a colon in a file's name for the end of a protocol.
    address = f"file:{target}" if isinstance(target, Path) else target
    timeout = None if isinstance(target, Path) else (OPEN_TIMEOUT, READ_TIMEOUT)
    try:
        container = av.open(address, metadata_errors="replace", timeout=timeout)
    except (OSError, ValueError, av.FFmpegError) as error:
        # PyAV's messages repeat the address, which may hold a password: only the reason is passed on.
        raise InputError(f"{name}: cannot be opened as a video ({reason_of(error)}); {_remedy(target)}") from None
    with container:
        stream = container.streams.best("video")
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            raise InputError(f"{name}: a single picture, not a video; give it the suffix of its format")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise InputError(f"{name}: holds no video that can be decoded; convert it, e.g. to H.264 in mp4")
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = num_threads()
        yield container, stream


class VideoDecoder:
    """Decodes one stream and remembers how that went.

    Attributes:
        good: frames given so far.
        damaged: packets and frames that could not be decoded whole.
        failure: why reading ended before the end of the stream; empty if it did not.
        last_time: presentation time of the last frame.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        self._start: int | None = stream.start_time
        self._end = 0.0
        self.good = 0
        self.damaged = 0
        self.failure = ""
        self.last_time = 0.0

    def frames(self) -> Iterator[tuple[int, float, VideoFrame]]:
        """Number, presentation time in seconds and content of every frame that is whole."""
        for index, frame in enumerate(self._decoded()):
            self.last_time = self._seconds(frame, index)
            self._end = self.last_time + (float(frame.duration * frame.time_base) if frame.time_base else 0.0)
            if frame.is_corrupt:
                self.damaged += 1
                continue
            self.good += 1
            yield index, self.last_time, frame

    def ended_early(self) -> bool:
        """Whether the frames ended clearly before the end that the file states."""
        stated = self.stated_seconds()
        return stated is not None and stated - self._end > max(_CUT_SECONDS, _CUT_PART * stated)

    def stated_seconds(self) -> float | None:
        """How long the video lasts by its own account; None for a live stream."""
        return _stated_seconds(self._container, self._stream)

    def _decoded(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            try:
                yield from self._stream.decode(packet)
            except av.FFmpegError:
                self.damaged += 1

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        """What can be read of the stream; at last None or an empty packet, for the frames still in the decoder."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (OSError, av.FFmpegError) as error:
                self.failure = reason_of(error)
                yield None
                return
            if packet is None:
                return
            if packet.is_corrupt:
                self.damaged += 1
            else:
                yield packet

    def _seconds(self, frame: VideoFrame, index: int) -> float:
        if frame.pts is None or frame.time_base is None:
            return index / float(self._stream.average_rate or self._stream.guessed_rate or 25)
        if self._start is None:
            self._start = frame.pts
        return max(0.0, float((frame.pts - self._start) * frame.time_base))


def _stated_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the video lasts by the file's own account."""
    stated = []
    if stream.duration and stream.time_base:
        stated.append(float(stream.duration * stream.time_base))
    elif match := _MATROSKA_DURATION.fullmatch(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = match.groups()
        stated.append(int(hours) * 3600 + int(minutes) * 60 + float(seconds))
    # The whole file's duration may be that of longer sound; but cuts by an edit list show only there.
    if container.duration and (stated or len(container.streams) == 1):
        stated.append(container.duration / av.time_base)
    return min(stated, default=None)


def upright_bgr(frame: VideoFrame) -> Image:
    """[H, W, 3], turned and mirrored as the display matrix [a b u; c d v; x y w] asks: x' = ax + cy, y' = bx + dy."""
    image: Image = _converter().reformat(frame, format="bgr24").to_ndarray().astype(np.uint8, copy=False)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return image
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image)


def _converter() -> VideoReformatter:
    """That of this thread: a frame's own would start threads, which live until the garbage is collected."""
    if not hasattr(_of_thread, "converter"):
        _of_thread.converter = VideoReformatter()
    converter: VideoReformatter = _of_thread.converter
    return converter


def reason_of(error: Exception) -> str:
    """What went wrong, without the address that PyAV's messages repeat: it may hold a password."""
    if type(error).__name__ == "ExitError":
        return "timed out"
    return getattr(error, "strerror", None) or type(error).__name__


def _remedy(target: Path | str, *, opened: bool = False) -> str:
    if isinstance(target, Path):
        return "check the file, or copy or download it again"
    # With its index at the end, a video plays only from servers that give any part of a file.
    return "download it and give the file" if opened else "check the address"
