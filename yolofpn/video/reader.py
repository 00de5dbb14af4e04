"""Frames of videos, decoded with PyAV: upright, timed, and honest about damage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path, PurePath

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from yolofpn.data.images import HEIF_SUFFIXES, MAX_FRAME_PIXELS
from yolofpn.errors import InputError
from yolofpn.hardware import num_threads
from yolofpn.structures import Frame
from yolofpn.video.decoder import VideoDecoder, reason_of, stated_seconds
from yolofpn.video.deinterlace import TimedFrame
from yolofpn.video.frame_pixels import upright_bgr

OPEN_TIMEOUT = 15.0  # seconds that an address has to answer
READ_TIMEOUT = 15.0  # seconds that a stream may stay silent


def read_video(
    target: Path | str,
    name: str,
    vid_stride: int = 1,
    *,
    max_pixels: int = MAX_FRAME_PIXELS,
    threads: int | None = None,
) -> Iterator[Frame]:
    """Frames 0, n, 2n, ... of a video with their true numbers, presentation times and durations.

    They are upright, progressive, of square pixels and in SDR colours, whatever the video is.

    Args:
        target: path of the file, or its http address.
        name: what frames and error messages call it.
        vid_stride: n.
        max_pixels: larger frames, which a file may hide behind small ones, count as damaged and take no memory.
        threads: that decode; by default as many as ``num_threads`` says.

    Raises:
        InputError: it cannot be opened or has no frames; or, after the last readable frame, it was damaged or cut off.
    """
    with _open(target, name, max_pixels) as (container, stream):
        stream.codec_context.thread_count = threads or num_threads()
        decoder = VideoDecoder(container, stream)
        held: TimedFrame | None = None  # until the time of the next one tells how long it is shown
        for item in decoder.frames():
            if item.index % vid_stride == 0:
                if held is not None:
                    yield from _frame(held, item.time, name, decoder, stream.sample_aspect_ratio)
                held = item
        whole = isinstance(target, Path) and is_whole(target)
        if held is not None:
            end = max(decoder.end, decoder.stated_seconds() or 0.0) if whole else decoder.end
            yield from _frame(held, end, name, decoder, stream.sample_aspect_ratio)
        if decoder.good == 0:
            raise InputError(f"{name}: no frame of this video can be decoded; {_remedy(target, opened=True)}")
        if decoder.failure or decoder.damaged or (decoder.ended_early() and not whole):
            reason = f" ({decoder.failure})" if decoder.failure else ""
            raise InputError(
                f"{name}: damaged or cut off{reason}: {decoder.good} frames could be read, "
                f"the last at {decoder.last_time:.1f} s; copy or download it again"
            )


def _frame(
    item: TimedFrame, end: float, name: str, decoder: VideoDecoder, pixel_aspect: Fraction | None
) -> Iterator[Frame]:
    """The frame, shown until ``end``; nothing if it cannot be converted."""
    try:
        image = upright_bgr(item.frame, pixel_aspect)
    except Exception:  # as in VideoDecoder
        decoder.damaged += 1
        decoder.good -= 1
        return
    yield Frame(image, name, item.index, item.time, duration=max(0.0, end - item.time))


def probe_video(
    target: Path | str, name: str, *, max_pixels: int = MAX_FRAME_PIXELS
) -> tuple[int | None, float | None]:
    """The number of frames and the mean frame rate that a video states, as far as it does.

    Args:
        target: path of the file, or its http address.
        name: what error messages call it.
        max_pixels: larger frames are not decoded to learn them.

    Raises:
        InputError: if it cannot be opened.
    """
    with _open(target, name, max_pixels) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate
        seconds = stated_seconds(container, stream)
        count = stream.frames or (round(seconds * rate) if seconds and rate else None)
        return count, float(rate) if rate else None


def is_video(path: Path) -> bool:
    """Return whether a file is a video that can be decoded, by its content."""
    try:
        with _open(path, str(path)):
            return True
    except InputError:
        return False


@contextmanager
def _open(
    target: Path | str, name: str, max_pixels: int = MAX_FRAME_PIXELS
) -> Iterator[tuple[InputContainer, VideoStream]]:
    # "file:" keeps FFmpeg from taking a colon in a file's name for the end of a protocol.
    address = f"file:{target}" if isinstance(target, Path) else target
    timeout = None if isinstance(target, Path) else (OPEN_TIMEOUT, READ_TIMEOUT)
    try:
        container = av.open(
            address, metadata_errors="replace", timeout=timeout, options={"max_pixels": str(max_pixels)}
        )
    except Exception as error:  # PyAV raises more than its own kinds
        # PyAV's messages repeat the address, which may hold a password: only the reason is passed on.
        raise InputError(f"{name}: cannot be opened as a video ({reason_of(error)}); {_remedy(target)}") from None
    with container:
        stream = container.streams.best("video")
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            raise InputError(f"{name}: a single image, not a video; give it the suffix of its format")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise InputError(f"{name}: holds no video that can be decoded; convert it, e.g. to H.264 in mp4")
        if PurePath(name).suffix.lower() in HEIF_SUFFIXES and len(container.streams.video) > 1:
            raise InputError(f"{name}: a HEIC image in tiles, which FFmpeg gives one by one; pip install pillow-heif")
        limit_pixels(stream, name, max_pixels)
        stream.thread_type = "AUTO"
        yield container, stream


def limit_pixels(stream: VideoStream, name: str, max_pixels: int = MAX_FRAME_PIXELS) -> None:
    """Let the decoder refuse larger frames before it allocates them.

    Raises:
        InputError: if the stream says at once that it has such frames.
    """
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > max_pixels:
        raise InputError(f"{name}: {width}x{height}: more pixels than the limit of {max_pixels:,}; shrink it first")
    stream.codec_context.options = {"max_pixels": str(max_pixels)}


def is_whole(path: Path) -> bool:
    """Return whether a Matroska, WebM or AVI file has the length stated in its header; False for other formats.

    They state no duration of the last frame, so a pause at the end looks like a cut.
    """
    with path.open("rb") as file:
        head = file.read(64)
    size = path.stat().st_size
    if head[:4] == b"RIFF":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return False
    length, begin = _ebml_size(head, 4)
    segment = begin + length
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return False
    length, begin = _ebml_size(head, segment + 4)
    return begin + length <= size


def _ebml_size(data: bytes, position: int) -> tuple[int, int]:
    """A Matroska element's length and where its content begins; without a length it is that of no file."""
    if position >= len(data) or data[position] == 0:
        return 1 << 62, position
    width = 9 - data[position].bit_length()
    value = int.from_bytes(data[position : position + width], "big")
    return value - (1 << (7 * width)), position + width


def _remedy(target: Path | str, *, opened: bool = False) -> str:
    if isinstance(target, Path):
        return "check the file, or copy or download it again"
    # With its index at the end, a video plays only from servers that give any part of a file.
    return "download it and give the file" if opened else "check the address"
