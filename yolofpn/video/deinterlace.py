"""Whole frames from the interlaced ones of television and older cameras, with FFmpeg's bwdif."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from yolofpn.hardware import num_threads


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame with its place in the video.

    Attributes:
        index: frame number.
        time: presentation time in seconds from the start.
        duration: for how long it is shown, in seconds; 0 if unknown.
    """

    frame: VideoFrame
    index: int
    time: float
    duration: float


def deinterlaced(frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    """The same frames, those that are interlaced made whole; from the first of these on one always waits for the next.

    A video without any passes as it is, at no cost; so does one that bwdif does not take.
    """
    graph: Graph | None = None
    shape: tuple[object, ...] = ()
    refused: set[tuple[object, ...]] = set()
    waiting: deque[TimedFrame] = deque()
    for item in frames:
        if graph is not None and shape != _shape(item.frame):
            yield from _flush(graph, waiting)
            graph = None
        if graph is None and item.frame.interlaced_frame and _shape(item.frame) not in refused:
            shape = _shape(item.frame)
            graph = _graph(item.frame)
            if graph is None:
                refused.add(shape)
        if graph is None:
            yield item
            continue
        waiting.append(item)
        graph.push(item.frame)
        yield from _pull(graph, waiting)
    if graph is not None:
        yield from _flush(graph, waiting)


def _shape(frame: VideoFrame) -> tuple[object, ...]:
    return frame.width, frame.height, frame.format.name


def _graph(frame: VideoFrame) -> Graph | None:
    graph = Graph()
    graph.threads = num_threads()
    try:
        # The times within do not matter: for each frame that goes in, one comes out.
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
        graph.configure()
    except (av.FFmpegError, ValueError):  # too small, or a pixel format that it cannot be given
        return None
    return graph


def _flush(graph: Graph, waiting: deque[TimedFrame]) -> Iterator[TimedFrame]:
    graph.push(None)
    yield from _pull(graph, waiting)
    yield from waiting
    waiting.clear()


def _pull(graph: Graph, waiting: deque[TimedFrame]) -> Iterator[TimedFrame]:
    while waiting:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield replace(waiting.popleft(), frame=frame)
