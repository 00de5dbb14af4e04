"""The image that a decoded frame stands for: upright, of square pixels, in SDR colours."""

from __future__ import annotations

import threading
from enum import Enum
from fractions import Fraction
from typing import cast

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from yolofpn.data.images import MAX_FRAME_PIXELS
from yolofpn.structures import Image
from yolofpn.video.hdr import HDR, WIDE, sdr_bgr

_MOST_STRETCHED = 8  # a pixel's aspect beyond which it is a writer's mistake
_SIDE_DATA = range(48)  # FFmpeg's numbers; new ones are added at the end


class _OfThread(threading.local):
    """One reformatter for each thread; one per frame would start threads that live until garbage collection."""

    def __init__(self) -> None:
        self.converter = VideoReformatter()


_of_thread = _OfThread()


def upright_bgr(frame: VideoFrame, pixel_aspect: Fraction | None = None) -> Image:
    """[H, W, 3] uint8, turned and mirrored as the file asks; pixels that are not square are made so in the width.

    Args:
        frame: decoded.
        pixel_aspect: width / height of its pixels; None if unknown, which means square.
    """
    width = frame.width
    if pixel_aspect and pixel_aspect != 1:
        width = square_width((frame.height, width), pixel_aspect)
    converter = _of_thread.converter
    if frame.color_trc in HDR or frame.color_primaries in WIDE:
        image = sdr_bgr(frame, (frame.height, width), converter)
    else:
        image = converter.reformat(frame, width=width, format="bgr24").to_ndarray().astype(np.uint8, copy=False)
    matrix = _display_matrix(frame)
    return image if matrix is None else _upright(image, matrix)


def square_width(size: tuple[int, int], pixel_aspect: Fraction | None) -> int:
    """The width of a frame of ``size`` (height, width) whose pixels are made square; its height stays."""
    height, width = size
    if not pixel_aspect or not 1 / _MOST_STRETCHED <= pixel_aspect <= _MOST_STRETCHED:
        return width
    square = max(1, round(width * pixel_aspect))
    return width if height * square > MAX_FRAME_PIXELS else square


def _upright(image: Image, matrix: SideData) -> Image:
    """Apply the display matrix [a b u; c d v; x y w]: x' = ax + cy, y' = bx + dy."""
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image)


def _display_matrix(frame: VideoFrame) -> SideData | None:
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV raises for all side data where it cannot name one kind, such as EXIF
        matrix = _without_unnamed(frame).side_data.get("DISPLAYMATRIX")
    return matrix if isinstance(matrix, SideData) and len(bytes(matrix)) >= 36 else None


def _without_unnamed(frame: VideoFrame) -> VideoFrame:
    """The frame with the side data only that PyAV can name."""
    named = {kind.value for kind in cast("type[Enum]", Type)}
    graph = Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))]
    nodes += [graph.add("sidedata", f"mode=delete:type={kind}") for kind in _SIDE_DATA if kind not in named]
    graph.link_nodes(*nodes, graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    return graph.vpull()
