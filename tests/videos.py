"""Small videos made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray


def write_video(
    path: Path,
    frames: Sequence[NDArray[np.uint8]],
    *,
    rate: int = 10,
    milliseconds: Sequence[int] | None = None,
    codec: str = "libx264",
    rotation: int = 0,
    pixel_aspect: Fraction | None = None,
    flags: dict[str, str] | None = None,
    format: str | None = None,
) -> Path:
    """Encode BGR frames at ``rate`` per second, or shown at ``milliseconds``."""
    with av.open(str(path), "w", options=flags or {}, format=format) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = {"mjpeg": "yuvj420p", "ffv1": "bgr0"}.get(codec, "yuv420p")
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            if milliseconds is not None:
                frame.pts, frame.time_base = milliseconds[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shades(count: int, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    """Frames whose shade tells their number: 10, 20, 30, ..."""
    return [np.full((height, width, 3), 10 * (index + 1), np.uint8) for index in range(count)]


def noise(count: int, height: int = 120, width: int = 160) -> list[NDArray[np.uint8]]:
    """Frames that do not compress, so that a cut in the file falls among them."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]
