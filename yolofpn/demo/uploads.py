"""Checks uploaded files: size limits, and their type by content."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import PIL

from yolofpn.bands import Bands
from yolofpn.data.image_headers import read_header
from yolofpn.data.images import open_image, read_frames, read_image
from yolofpn.demo.limits import UploadLimits
from yolofpn.errors import InputError
from yolofpn.fields import Depth
from yolofpn.structures import Frame
from yolofpn.video.frame_pixels import square_width
from yolofpn.video.reader import probe_video, read_video

# Formats that Pillow decodes by itself: others start programs (EPS) or hold no images.
IMAGE_FORMATS = frozenset({"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "PPM", "ICO", "JPEG2000"})
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags
_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
# How files of these formats begin: only they are looked at as images where they are larger than an image may be.
_IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\1\0", b"\xff\x4f\xff\x51")
_BOXES = (b"ftypavif", b"ftypavis", b"jP  \r\n\x87\n")
# Containers that hold their frames themselves: playlists could make FFmpeg open other files and addresses.
VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,flv,live_flv,asf,ogg,mjpeg,ivf,m4v"
)


@dataclass(frozen=True)
class Upload:
    """A file that was checked, and may be read.

    Attributes:
        path: where it lies.
        name: what its owner calls it.
        kind: what it is by its content; an animation is an animated GIF, WebP, PNG or AVIF.
        pixels: of the image, or of a frame.
        frame_count: of a video, where it says so.
        fps: of a video, where it says so.
    """

    path: Path
    name: str
    kind: Literal["image", "animation", "video"]
    pixels: int
    frame_count: int | None = None
    fps: float | None = None

    def frame(self, depth: Depth | Bands = "auto") -> Frame:
        """The image.

        Args:
            depth: how images of more than 8 bits are read.

        Raises:
            InputError: if it is damaged.
        """
        return Frame(read_image(self.path, name=self.name, depth=depth), self.name)

    def frames(self, limits: UploadLimits) -> Generator[Frame]:
        """The frames of a video or animation.

        Raises:
            InputError: if it is damaged, or larger than it said, perhaps after some frames.
        """
        if self.kind == "video":
            frames: Iterator[Frame] = read_video(self.path, self.name, max_pixels=limits.video_pixels, threads=1)
        else:
            shown = enumerate(read_frames(self.path, name=self.name, max_pixels=limits.video_pixels))
            frames = (
                Frame(image, self.name, index, time, duration=duration) for index, (image, time, duration) in shown
            )
        for count, frame in enumerate(frames):
            _check_pixels(frame.size, limits.video_pixels, self.name)
            if frame.time > limits.video_seconds or count >= limits.video_frames:
                raise InputError(f"{self.name}: {_too_long(limits)}; the part before that was processed")
            yield frame


async def receive(chunks: AsyncIterator[bytes], path: Path, most_bytes: int) -> None:
    """Write what arrives to ``path``.

    Raises:
        InputError: if it is larger than ``most_bytes``, or empty; or the disk is full.
    """
    total = 0
    try:
        with path.open("wb") as file:
            async for chunk in chunks:
                total += len(chunk)
                if total > most_bytes:
                    raise InputError(too_large(most_bytes))
                file.write(chunk)
    except OSError as error:
        raise InputError(f"the server cannot keep the file ({error.strerror}): try again later") from None
    if not total:
        raise InputError("the file is empty")


def check_upload(path: Path, name: str, limits: UploadLimits) -> Upload:
    """See what a file is, and that it is not too large, from its headers; no image is decoded for that.

    Raises:
        InputError: if it is neither image nor video, damaged, or too large.
    """
    image = _check_image(path, name, limits)
    if image is not None:
        return image
    try:
        size, seconds = _check_container(path, limits)
    except (OSError, ValueError, LookupError, av.FFmpegError):
        raise InputError(_unknown(name)) from None
    _check_pixels(size, limits.video_pixels, name)
    try:
        count, fps = probe_video(path, name, max_pixels=limits.video_pixels)
    except InputError:
        raise InputError(_unknown(name)) from None
    if seconds > limits.video_seconds or (count or 0) > limits.video_frames:
        raise InputError(f"{name}: {_too_long(limits)}; cut it first")
    return Upload(path, name, "video", size[0] * size[1], count, fps)


def check_image(data: bytes, name: str, most_pixels: int) -> tuple[str, tuple[int, int], int] | None:
    """The format of an image, (height, width) of the canvas that holds all of its frames, and their number.

    Args:
        data: of the whole file.
        name: what error messages call it.
        most_pixels: of the canvas; a decoder sees nothing larger.

    Returns:
        None if it is no image of a known kind.

    Raises:
        InputError: if it is damaged or too large.
    """
    try:
        header = read_header(data)
    except ValueError as error:
        raise InputError(f"{name}: damaged ({error}); save it again") from None
    if header is not None:
        _check_pixels((header.height, header.width), most_pixels, name)
        if header.format == "ICO":  # Pillow decodes icons as it opens them
            return header.format, (header.height, header.width), 1
    try:
        with open_image(data, name=name) as pil_image:
            form, (width, height), frames = pil_image.format or "", pil_image.size, 1
            if form == "AVIF":
                frames = getattr(pil_image, "n_frames", 1)
            elif form == "TIFF":  # each tile is decoded whole
                tags = getattr(pil_image, "tag_v2", {})
                width, height = max(width, int(tags.get(_TILE_WIDTH, 0))), max(height, int(tags.get(_TILE_LENGTH, 0)))
    except InputError as error:
        if isinstance(error.__context__, PIL.UnidentifiedImageError):
            return None
        raise
    if header is not None:
        size, frames = max((height, width), (header.height, header.width), key=math.prod), max(frames, header.frames)
        height, width = size
    _check_pixels((height, width), most_pixels, name)
    return form, (height, width), frames


def too_large(most_bytes: int) -> str:
    """Return the error message for a file with more bytes."""
    return f"the file is larger than {most_bytes / 2**20:.0f} MiB; send a smaller one"


def clean_name(name: str) -> str:
    """A file's name that can be shown and written anywhere: printable, without folders, not long."""
    last = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(letter for letter in last if letter.isprintable()).strip()
    return printable[-80:] or "upload"


def _check_image(path: Path, name: str, limits: UploadLimits) -> Upload | None:
    """Check an image file by its headers; return None if it is not an image."""
    if path.stat().st_size > limits.image_bytes:
        with path.open("rb") as file:
            start = file.read(16)
        if start.startswith(_IMAGE_STARTS) or start[8:12] == b"WEBP" or start[4:12] in _BOXES:
            raise InputError(f"{name}: {too_large(limits.image_bytes)}")
        return None
    found = check_image(path.read_bytes(), name, max(limits.image_pixels, limits.video_pixels))
    if found is None or found[0] not in IMAGE_FORMATS:
        return None
    form, size, frames = found
    animated = form in _ANIMATED and frames > 1
    _check_pixels(size, limits.video_pixels if animated else limits.image_pixels, name)
    if animated and frames > limits.video_frames:
        raise InputError(f"{name}: {_too_long(limits)}; cut it first")
    return Upload(path, name, "animation" if animated else "image", size[0] * size[1])


def _check_container(path: Path, limits: UploadLimits) -> tuple[tuple[int, int], float]:
    """(height, width) as shown and seconds of a video that FFmpeg takes for a container of nothing from elsewhere."""
    options = {
        "format_whitelist": VIDEO_FORMATS,
        "protocol_whitelist": "file",
        "max_pixels": str(limits.video_pixels),
    }
    with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
        stream = container.streams.video[0]
        size = stream.height, stream.width
        seconds = container.duration / av.time_base if container.duration else 0.0
        return (stream.height, square_width(size, stream.sample_aspect_ratio)), seconds


def _unknown(name: str) -> str:
    return f"{name}: not an image or video of a known kind; send e.g. JPEG, PNG or MP4"


def _too_long(limits: UploadLimits) -> str:
    return f"the video is longer than {limits.video_seconds:.0f} s or {limits.video_frames:,} frames"


def _check_pixels(size: tuple[int, int], most: int, name: str) -> None:
    height, width = size
    if height * width > most:
        raise InputError(f"{name}: {width}x{height} pixels are more than {most:,}; shrink it first")
