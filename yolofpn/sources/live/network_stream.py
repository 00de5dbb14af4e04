"""Live network streams through PyAV: RTSP, MJPEG over http, HLS and what else FFmpeg knows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import partial

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from yolofpn.addresses import password_hint
from yolofpn.data.images import MAX_FRAME_PIXELS
from yolofpn.errors import InputError
from yolofpn.sources.live.capture import Patience, Shot
from yolofpn.sources.live.mjpeg import Body, may_be_mjpeg, open_mjpeg
from yolofpn.structures import Image
from yolofpn.video.decoder import VideoDecoder, reason_of
from yolofpn.video.deinterlace import TimedFrame
from yolofpn.video.frame_pixels import upright_bgr
from yolofpn.video.reader import limit_pixels

RTSP_OPTIONS = {"rtsp_flags": "prefer_tcp"}
OPTIONS = {"fpsprobesize": "0"}  # no seconds of watching before the first frame to learn the frame rate
SEGMENTED = {"hls", "dash"}  # whose frames come many seconds at once, faster than they are due
MOST_FAILURES = 50  # packets in a row that give no frame: then the stream is lost
LONGEST_GAP = 10.0  # seconds between two frames; more is a jump of the stream's clock


def connect_stream(url: str, name: str, patience: Patience) -> Iterator[Shot]:
    """Open a live stream and give what arrives; frames of a segmented one when they are due.

    Args:
        url: address, with user and password where the camera asks for them.
        name: what error messages call it.
        patience: its time-outs.

    Raises:
        InputError: if nothing answers, it is lost, or it sends no video. A stream that states how long it lasts, and
            lasts so long, just ends.
    """
    with _open(url, name, patience) as (container, body):
        stream = _video_of(container, name)
        decoder = VideoDecoder(container, stream, most_failures=MOST_FAILURES)
        segmented = bool(SEGMENTED & set(container.format.name.split(",")))
        for item in _when_due(decoder) if segmented else decoder.frames():
            if body is not None:
                body.next_frame()
            yield partial(_image_of, item.frame, stream.sample_aspect_ratio, name)
        if decoder.failure or decoder.ended_early() or decoder.stated_seconds() is None:
            reason = decoder.failure or "it ended"
            raise InputError(f"{name}: lost after {decoder.good} frames ({reason}); check the camera and its network")


def _image_of(frame: VideoFrame, pixel_aspect: Fraction | None, name: str) -> Image:
    try:
        return upright_bgr(frame, pixel_aspect)
    except Exception as error:  # as in VideoDecoder: what a frame holds must not end the run
        raise InputError(f"{name}: a frame cannot be converted ({reason_of(error)})") from error


@contextmanager
def _open(url: str, name: str, patience: Patience) -> Iterator[tuple[InputContainer, Body | None]]:
    """The stream, and where Python reads it for FFmpeg what it is read from."""
    options = OPTIONS | (RTSP_OPTIONS if url.startswith("rtsp") else {}) | {"max_pixels": str(MAX_FRAME_PIXELS)}
    timeouts = (patience.open_timeout, patience.read_timeout)
    with ExitStack() as stack:
        try:
            mjpeg = stack.enter_context(open_mjpeg(url, patience, options)) if may_be_mjpeg(url) else None
            if mjpeg is None:
                stream = av.open(url, options=options, metadata_errors="replace", timeout=timeouts)
                opened: tuple[InputContainer, Body | None] = stack.enter_context(stream), None
                _refuse_unbounded(opened[0])
            else:
                opened = mjpeg
        except Exception as error:  # PyAV raises more than its own kinds
            hint = f"check the address{password_hint(url)}"
            raise InputError(f"{name}: cannot be opened as a video ({reason_of(error)}); {hint}") from None
        yield opened


def _refuse_unbounded(container: InputContainer) -> None:
    """FFmpeg takes frames of any number of bytes from a multipart answer; ``open_mjpeg`` has a limit.

    Raises:
        InputError: if the answer is one all the same: it came the second time, or under the name of another format.
    """
    if "mpjpeg" in container.format.name.split(","):
        raise InputError("MJPEG where another format was expected: give an address that always sends it")


def _video_of(container: InputContainer, name: str) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise InputError(f"{name}: sends no video that can be decoded; check the camera's settings")
    limit_pixels(stream, name)
    # Threads that decode a frame each would deliver every frame as late as there are threads.
    stream.thread_type = "SLICE"
    return stream


def _when_due(decoder: VideoDecoder) -> Iterator[TimedFrame]:
    """Yield each frame at its presentation time, relative to the first; late frames are yielded immediately."""
    start = 0.0
    for item in decoder.frames():
        seconds, now = item.time, time.monotonic()
        if not start or not -LONGEST_GAP < start + seconds - now < LONGEST_GAP:
            start = now - seconds
        start = max(start, now - seconds)
        time.sleep(max(0.0, start + seconds - now))
        yield item
