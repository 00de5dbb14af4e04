"""H.264 videos that play in a browser, and that are playable even if the program was killed while writing."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from yolofpn.concurrency import Handover
from yolofpn.files import write_errors
from yolofpn.hardware import num_threads
from yolofpn.structures import Image
from yolofpn.video.remux import drop_torn_fragment, file_url, remux

TIME_BASE = Fraction(1, 90_000)  # of MPEG streams; all usual frame rates are whole numbers of it
# The fastest preset, with the three of its savings undone that cost more in size and looks than they save in time.
QUALITY = {"preset": "ultrafast", "crf": "20", "x264-params": "mbtree=1:rc-lookahead=10:analyse=i4x4:no-deblock=0"}
FRAGMENTED = {
    "movflags": "frag_keyframe+delay_moov+default_base_moof",
    "frag_duration": "1000000",  # microseconds: what a killed run loses, besides the encoder's lookahead
    "flush_packets": "1",
}
LARGE = 2**23  # pixels of a frame, from which on few are kept in memory: none wait, the encoder does not look ahead
LARGE_QUALITY = QUALITY | {"x264-params": "mbtree=0:rc-lookahead=0:sync-lookahead=0:analyse=i4x4:no-deblock=0"}
WAITING = 3  # frames that may wait for the encoder
LARGEST_SIDE = 16_384  # pixels of an H.264 frame
FRAME_DURATION = 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: the encoder hands on how long frames are shown
ITU709 = 1  # the colour matrix that players assume; said in the file too


class VideoWriter:
    """Writes frames with their own presentation times, at any frame rate or at none.

    The file grows in fragments, each playable as soon as it is written. ``close`` joins them, puts the index in
    front (fast start) and adds the sound. Frames of odd width or height get one more column or row, a copy of the
    last one: H.264 with yuv420p takes even sizes only. Frames larger than H.264 allows are shrunk.

    Args:
        path: the mp4 file, made with its first frame.
        size: (height, width) of all frames.
        fps: nominal frames per second, a hint for the encoder.
        sound: a media file whose first audio stream is taken over.
        background: encode in threads of its own; else in the thread that calls ``write`` alone.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        *,
        fps: float | None = None,
        sound: Path | None = None,
        background: bool = True,
    ) -> None:
        self.path = path
        shrink = min(1.0, LARGEST_SIDE / max(size))
        height, width = (max(1, round(side * shrink)) for side in size)
        self._size = height + height % 2, width + width % 2
        self._large = height * width >= LARGE
        self._fps = Fraction(fps).limit_denominator(1001) if fps and 0.1 <= fps <= 1000 else Fraction(25)
        self._sound = sound
        self._background = background
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._encoder: Handover[tuple[Image, int, int]] | None = None
        self._converter = VideoReformatter()
        self._last_pts = -1

    def write(self, image: Image, time: float, duration: float | None = None) -> None:
        """Add a frame.

        Args:
            image: [H, W, 3] uint8, BGR; must stay as it is from now on.
            time: seconds from the start of the video; one not after the frame before is moved just behind it.
            duration: seconds for which it is shown if no other frame follows; by default those of one frame.

        Raises:
            UserError: if the file cannot be written; or that was so with an earlier frame.
        """
        pts = max(round(time / TIME_BASE), self._last_pts + 1)
        self._last_pts = pts
        if self._container is None:
            with write_errors(self.path):
                self._container, self._stream = self._open()
            if self._background:
                self._encoder = Handover(self._encode, waiting=1 if self._large else WAITING)
        item = image, pts, round((duration or 1 / self._fps) / TIME_BASE)
        if self._encoder is not None:
            self._encoder.give(item)
        else:
            self._encode(item)

    def close(self) -> None:
        """Finish the file.

        Raises:
            UserError: if it cannot be written; the frames written so far stay playable.
        """
        if self._container is None:
            return
        with write_errors(self.path):
            self._end_fragments()
            remux(self.path, sound=self._sound)

    def discard(self) -> None:
        """Stop, and remove the file."""
        if self._container is not None:
            with write_errors(self.path):
                self._end_fragments()
                self.path.unlink(missing_ok=True)

    def _encode(self, item: tuple[Image, int, int]) -> None:
        image, pts, duration = item
        assert self._container is not None and self._stream is not None
        if image.shape[:2] != self._size:
            image = self._fit(image)
        with write_errors(self.path):
            bgr = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            frame = self._converter.reformat(bgr, format="yuv420p", dst_colorspace=ITU709)
            frame.pts, frame.time_base, frame.duration = pts, TIME_BASE, duration
            self._container.mux(self._stream.encode(frame))

    def _fit(self, image: Image) -> Image:
        """[H, W, 3] -> the size of the video."""
        height, width = self._size
        if max(image.shape) > LARGEST_SIDE:
            return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        return np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)), mode="edge")

    def _open(self) -> tuple[OutputContainer, VideoStream]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        container = av.open(file_url(self.path), "w", format="mp4", options=FRAGMENTED)
        stream = container.add_stream("libx264", rate=self._fps, options=LARGE_QUALITY if self._large else QUALITY)
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = TIME_BASE
        codec.max_b_frames = 0  # so that decoding order is presentation order, and no time needs to be shifted
        codec.thread_count = max(1, num_threads() // 2) if self._background else 1  # the network needs the rest
        codec.gop_size = max(1, round(2 * self._fps))
        codec.colorspace = codec.color_primaries = codec.color_trc = ITU709
        codec.color_range = 1  # 16..235
        codec.flags |= FRAME_DURATION
        return container, stream

    def _end_fragments(self) -> None:
        assert self._container is not None and self._stream is not None
        try:
            if self._encoder is not None:
                self._encoder.close()
            self._container.mux(self._stream.encode(None))
        finally:
            with contextlib.suppress(av.FFmpegError):
                self._container.close()
            # The encoder knows this writer: without the circle both, and their threads, end now.
            self._container = self._stream = self._encoder = None
            drop_torn_fragment(self.path)
