"""A finished video: its fragments joined, its index in front, the sound of its source added."""

from __future__ import annotations

import contextlib
import heapq
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from yolofpn.files import NO_ROOM, part_path
from yolofpn.video.timeline import Timeline, may_jump, start_seconds

BROWSER_AUDIO = {"aac", "mp3", "opus", "flac"}  # codecs that browsers play from an mp4
PRIMING = 0.1  # seconds: sound before the first image goes, but not what a decoder needs to get going

logger = logging.getLogger(__name__)
AnyStream = TypeVar("AnyStream", VideoStream, AudioStream)


def remux(path: Path, *, sound: Path | None) -> None:
    """Rewrite a fragmented mp4 as one with its index in front, with the sound of another file if it has any.

    Sound that browsers play from an mp4 is copied, any other becomes AAC; it ends with the video. If it cannot be
    read the video stays silent, which is logged.

    Raises:
        OSError: if the new file cannot be written; the old one is as it was.
    """
    part = part_path(path)
    try:
        try:
            _join(path, part, sound)
        except (av.FFmpegError, ValueError) as error:
            if sound is None or getattr(error, "errno", None) in NO_ROOM:
                raise
            logger.warning("%s: its sound cannot be read, so %s has none", sound, path)
            _join(path, part, None)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def file_url(path: Path) -> str:
    """Return the URL for FFmpeg; without the prefix it would read a colon in a path as a protocol."""
    return f"file:{path}"


def drop_torn_fragment(path: Path) -> None:
    """Cut off what follows the last complete fragment (``moof`` + ``mdat``), the trace of a disk that was full.

    A file without any fragment is removed.
    """
    if not path.exists():
        return
    whole = 0
    with path.open("r+b") as file:
        length = file.seek(0, 2)
        position = 0
        while position + 8 <= length:
            file.seek(position)
            header = file.read(16)
            size, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if size == 1:
                size = int.from_bytes(header[8:16], "big")
            position += size
            if size < 8 or position > length:
                break
            if kind == b"mdat":
                whole = position
        if whole < length:
            file.truncate(whole)
    if whole == 0:
        path.unlink()


def _join(path: Path, part: Path, sound: Path | None) -> None:
    options = {"movflags": "faststart"}
    with contextlib.ExitStack() as stack:
        fragments = stack.enter_context(av.open(file_url(path)))
        output = stack.enter_context(av.open(file_url(part), "w", format="mp4", options=options))
        source = stack.enter_context(av.open(file_url(sound), metadata_errors="replace")) if sound else None
        # The streams of a file must all be known before its first packet.
        stream = output.add_stream_from_template(fragments.streams.video[0])
        video: Iterator[Packet[Any]] = _copied(_demux(fragments), stream)
        audio: Iterator[Packet[Any]] = (
            _audio_packets(source, output, _duration(path)) if source and source.streams.audio else iter(())
        )
        for packet in heapq.merge(video, audio, key=_seconds):
            output.mux(packet)


def _duration(path: Path) -> float:
    """Return the end time of the last frame in seconds."""
    with av.open(file_url(path)) as container:
        ends = [_seconds(packet) + float((packet.duration or 0) * packet.time_base) for packet in _demux(container)]
    return max(ends, default=0.0)


def _demux(container: InputContainer) -> Iterator[Packet[VideoStream]]:
    return (packet for packet in container.demux(container.streams.video[0]) if packet.dts is not None)


def _audio_packets(source: InputContainer, output: OutputContainer, end: float) -> Iterator[Packet[AudioStream]]:
    """The first audio stream of ``source`` that can be decoded until ``end``, in seconds from the start of its video.

    Raises:
        ValueError: if none can be decoded.
    """
    stream = next((each for each in source.streams.audio if each.codec_context is not None), None)
    if stream is None:
        raise ValueError("no decoder for its sound")
    start, timeline = _video_clock(source)
    if stream.codec_context.name in BROWSER_AUDIO:
        copy = output.add_stream_from_template(stream)
        return _copied(_shifted(source, stream, start, timeline), copy, end)
    rate = stream.codec_context.sample_rate or 48_000
    aac = output.add_stream("aac", rate=rate)
    aac.layout = "mono" if stream.codec_context.layout.nb_channels == 1 else "stereo"
    return _encoded(_shifted(source, stream, start, timeline), stream, aac, end)


def _video_clock(source: InputContainer) -> tuple[float, Timeline]:
    """When the source's video starts, and a timeline for its sound, which follows the jumps of the video's clock."""
    stream = source.streams.best("video")
    if stream is None:
        return 0.0, Timeline(source)
    if not may_jump(source):
        return start_seconds(source, stream, None), Timeline(source)
    first: float | None = None
    timeline = Timeline(source)
    for packet in source.demux(stream):
        if first is None and packet.pts is not None:
            first = float(packet.pts * packet.time_base)
        timeline.shift(packet)
    source.seek(0, backward=True, any_frame=True)
    return start_seconds(source, stream, first), Timeline(source, timeline.jumps)


def _shifted(
    source: InputContainer, stream: AudioStream, start: float, timeline: Timeline
) -> Iterator[Packet[AudioStream]]:
    """The packets of the sound in the times of the video: from its start on, and in their order."""
    last: int | None = None
    for packet in source.demux(stream):
        if packet.pts is None or packet.dts is None or not packet.time_base:
            continue
        timeline.shift(packet)
        shift = round(start / packet.time_base)
        packet.pts -= shift
        packet.dts -= shift
        if _seconds(packet) < -PRIMING or (last is not None and packet.dts <= last):
            continue
        last = packet.dts
        yield packet


def _copied(
    packets: Iterator[Packet[AnyStream]], copy: AnyStream, end: float = math.inf
) -> Iterator[Packet[AnyStream]]:
    for packet in packets:
        if _seconds(packet) >= end:
            return
        packet.stream = copy
        yield packet


def _encoded(
    packets: Iterator[Packet[AudioStream]], stream: AudioStream, aac: AudioStream, end: float
) -> Iterator[Packet[AudioStream]]:
    resampler = av.AudioResampler(format="fltp", layout=aac.layout, rate=aac.rate)
    for frame in _decoded(packets, stream):
        if frame.time is not None and frame.time >= end:
            break
        for resampled in resampler.resample(frame):
            yield from aac.encode(resampled)
    for resampled in resampler.resample(None):
        yield from aac.encode(resampled)
    yield from aac.encode(None)


def _decoded(packets: Iterator[Packet[AudioStream]], stream: AudioStream) -> Iterator[AudioFrame]:
    for packet in packets:
        yield from stream.decode(packet)
    yield from stream.decode(None)


def _seconds(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * (packet.time_base or 0))
