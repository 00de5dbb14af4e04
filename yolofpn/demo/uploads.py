"""Files from strangers: how large they may be, and what they really are, whatever they are called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import PIL

from yolofpn.data.images import exif_orientation, open_picture, read_frames, read_image
from yolofpn.errors import InputError
from yolofpn.inference.video import probe_video, read_video
from yolofpn.structures import Frame

# Formats that Pillow decodes by itself: others start programs (EPS) or hold no pictures.
PICTURE_FORMATS = frozenset(
    {"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "PPM", "ICO", "JPEG2000"}
)
# Containers that hold their frames themselves: playlists could make FFmpeg open other files and addresses.
VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,flv,live_flv,asf,ogg,mjpeg,ivf,m4v"
)


@dataclass(frozen=True)
class UploadLimits:
    """The largest upload that is taken.

    Attributes:
        picture_bytes: of a picture's file.
        video_bytes: of a video's file.
        picture_pixels: of a picture.
        video_pixels: of one frame.
        video_seconds: of a video.
        video_frames: of a video.
    """

    picture_bytes: int = 32 * 2**20
    video_bytes: int = 256 * 2**20
    picture_pixels: int = 40_000_000
    video_pixels: int = 4096 * 2304
    video_seconds: float = 120.0
    video_frames: int = 7200


@dataclass(frozen=True)
class Upload:
    """A file that was checked, and may be read.

    Attributes:
        path: where it lies.
        name: what its owner calls it.
        kind: what it is by its content; an animation is an animated GIF, WebP, PNG or AVIF.
        frame_count: of a video, where it says so.
        fps: of a video, where it says so.
    """

    path: Path
    name: str
    kind: Literal["picture", "animation", "video"]
    frame_count: int | None = None
    fps: float | None = None

    def frame(self) -> Frame:
        """The picture.

        Raises:
            InputError: it is damaged.
        """
        return Frame(read_image(self.path, name=self.name), self.name)

    def frames(self, limits: UploadLimits) -> Iterator[Frame]:
        """The frames of a video or animation.

        Raises:
            InputError: it is damaged, or larger than it said, perhaps after some frames.
        """
        if self.kind == "video":
            frames = read_video(self.path, self.name, max_pixels=limits.video_pixels)
        else:
            shown = enumerate(read_frames(self.path, name=self.name))
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
        InputError: it is larger than ``most_bytes``, or empty.
    """
    total = 0
    with path.open("wb") as file:
        async for chunk in chunks:
            total += len(chunk)
            if total > most_bytes:
                raise InputError(too_large(most_bytes))
            file.write(chunk)
    if not total:
        raise InputError("the file is empty")


def check_upload(path: Path, name: str, limits: UploadLimits) -> Upload:
    """See what a file is, and that it is not too large; hardly any of it is decoded for that.

    Raises:
        InputError: it is neither picture nor video, damaged, or too large.
    """
    picture = _check_picture(path, name, limits)
    if picture is not None:
        return picture
    try:
        _check_container(path, name)
        count, fps = probe_video(path, name)
    except InputError:
        raise InputError(f"{name}: not a picture or video of a known kind; send e.g. JPEG, PNG or MP4") from None
    _check_length(path, name, count, limits)
    return Upload(path, name, "video", count, fps)


def too_large(most_bytes: int) -> str:
    """What is said of a file with more bytes."""
    return f"the file is larger than {most_bytes / 2**20:.0f} MiB; send a smaller one"


def clean_name(name: str) -> str:
    """A file's name that can be shown and written anywhere: printable, without folders, not long."""
    last = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(letter for letter in last if letter.isprintable()).strip()
    return printable[-80:] or "upload"


def _check_picture(path: Path, name: str, limits: UploadLimits) -> Upload | None:
    try:
        with open_picture(path, name=name) as picture:
            known = picture.format in PICTURE_FORMATS
            size = picture.height, picture.width
            animated = picture.format in ("GIF", "WEBP", "PNG", "AVIF") and getattr(picture, "is_animated", False)
            if known:
                exif_orientation(picture)
    except InputError as error:
        if isinstance(error.__context__, PIL.UnidentifiedImageError):
            return None
        raise
    if not known:
        return None
    if path.stat().st_size > limits.picture_bytes:
        raise InputError(f"{name}: {too_large(limits.picture_bytes)}")
    _check_pixels(size, limits.video_pixels if animated else limits.picture_pixels, name)
    return Upload(path, name, "animation" if animated else "picture")


def _check_container(path: Path, name: str) -> None:
    """See that FFmpeg takes the file for a container that refers to nothing outside."""
    options = {"format_whitelist": VIDEO_FORMATS, "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{path}", options=options, metadata_errors="replace"):
            pass
    except (OSError, ValueError, av.FFmpegError):
        raise InputError(f"{name}: not a video") from None


def _check_length(path: Path, name: str, count: int | None, limits: UploadLimits) -> None:
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        stream = container.streams.video[0]
        _check_pixels((stream.height, stream.width), limits.video_pixels, name)
        seconds = container.duration / av.time_base if container.duration else 0.0
    if seconds > limits.video_seconds or (count or 0) > limits.video_frames:
        raise InputError(f"{name}: {_too_long(limits)}; cut it first")


def _too_long(limits: UploadLimits) -> str:
    return f"the video is longer than {limits.video_seconds:.0f} s or {limits.video_frames:,} frames"


def _check_pixels(size: tuple[int, int], most: int, name: str) -> None:
    height, width = size
    if height * width > most:
        raise InputError(f"{name}: {width}x{height} are more than {most / 1e6:.0f} million pixels; shrink it first")
