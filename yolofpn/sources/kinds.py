"""A source of each kind: an image, an animation, a video, an address, a camera, or one that only fails.

What reads videos and addresses is imported where one is given: FFmpeg and TLS take a tenth of the time of one image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Condition
from typing import Literal

from yolofpn.addresses import STREAM_SCHEMES, looks_live, shown_url
from yolofpn.bands import Bands, viewable
from yolofpn.data.band_files import NPY_SUFFIX, check_values
from yolofpn.data.images import VIDEO_SUFFIXES, image_size, is_animated, read_frames, read_image, readable_suffixes
from yolofpn.data.reduced_images import Admit, NeededSize, read_reduced
from yolofpn.errors import InputError, UserError
from yolofpn.fields import Depth
from yolofpn.regular_files import special_kind
from yolofpn.sources.live.camera import connect_camera
from yolofpn.sources.live.capture import Connect, LiveCapture
from yolofpn.structures import Frame, WholeImage
from yolofpn.text import counted

_ANIMATED_SUFFIXES = frozenset({".gif", ".webp", ".png", ".apng", ".avif"})


@dataclass(frozen=True)
class Source:
    """A source of frames: an image, a video or a stream.

    Attributes:
        name: as shown to people and written to files: never with a password.
        kind: 'image', 'video' (has an end), 'stream' (live), or 'failed' (there is nothing to read).
        relative_path: where its results go beneath the output folder; no two sources of a run share it, not even
            up to the suffix. Folders and patterns keep the structure below them.
        read: opens it anew and gives its frames.
        path: the local file, None for anything else. The sound of a video is there.
        frame_count: how many frames ``frames`` will give, where the file says so.
        fps: mean frame rate of the video itself, before any stride, where known.
        capture: makes a LiveCapture of it; None unless it is a stream.
        decode: gives the frame of an image; several may be called at once. It is given a function that is called with
            the number of pixels before these are decoded, and may wait. None for other kinds.
        held: bytes of memory that it takes: the content of an image at an http address.
    """

    name: str
    kind: Literal["image", "video", "stream", "failed"]
    relative_path: Path
    read: Callable[[], Iterator[Frame]] = field(repr=False, compare=False)
    path: Path | None = None
    frame_count: int | None = None
    fps: float | None = None
    capture: Callable[..., LiveCapture] | None = field(default=None, repr=False, compare=False)
    decode: Callable[[Admit], Frame] | None = field(default=None, repr=False, compare=False)
    held: int = field(default=0, repr=False, compare=False)

    def open_live(self, changed: Condition | None = None) -> LiveCapture:
        """A stream's newest frames, to be used as a context manager.

        Args:
            changed: see ``LiveCapture``.

        Raises:
            ValueError: if it is no stream.
        """
        if self.capture is None:
            raise ValueError(f"{self.name} is not a live source")
        return self.capture(changed=changed)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames; a stream yields its newest frame each time, until the generator is closed.

        Raises:
            InputError: if it is missing or damaged, perhaps after some frames.
        """
        return self.read()


def file_source(
    path: Path,
    relative_path: Path,
    vid_stride: int = 1,
    depth: Depth | Bands = "auto",
    needed: NeededSize | None = None,
) -> Source:
    """An image, an animation or a video: by suffix where that is enough, else by what the file holds."""
    name = str(path)
    if kind := special_kind(path):  # opening it might wait for ever
        kind += " (cameras: by number)" if kind == "a device" else ""
        return failed_source(name, f"{name}: {kind}, which cannot be read as a source; give a file")
    if isinstance(depth, Bands):
        if path.suffix.lower() != NPY_SUFFIX and _content_of(path) != "image":
            return failed_source(name, no_video(name, depth))
        return _image_source(path, name, relative_path, depth, needed)
    match _content_of(path):
        case "video":
            return _video_source(path, name, relative_path, vid_stride)
        case "animation":
            return Source(name, "video", relative_path, partial(_read_animation, path, name, vid_stride), path)
        case "image":
            return _image_source(path, name, relative_path, depth, needed)


def url_source(
    url: str, vid_stride: int = 1, depth: Depth | Bands = "auto", needed: NeededSize | None = None
) -> Source:
    """A stream, or the image or video at an http address, which is asked at once.

    Raises:
        UserError: if no program here speaks that kind of address.
        InputError: if an http address gives no answer, an error, or a web page.
    """
    from yolofpn.sources.live.network_stream import connect_stream
    from yolofpn.sources.remote import fetch

    name = shown_url(url)
    relative_path = _path_of_url(name)
    scheme = url.partition("://")[0].lower()
    stream = _live_source(name, relative_path, partial(connect_stream, url, name), vid_stride)
    if isinstance(depth, Bands) and scheme in STREAM_SCHEMES:
        return failed_source(name, no_video(name, depth, what="streams"))
    if scheme in STREAM_SCHEMES:
        return stream
    if scheme not in ("http", "https"):
        raise UserError(f"{name}: addresses of this kind are not known; use rtsp://, http:// or https://")
    try:
        remote = fetch(url)
    except InputError:
        if not looks_live(url):
            raise
        return stream if not isinstance(depth, Bands) else failed_source(name, no_video(name, depth, what="streams"))
    if isinstance(depth, Bands) and remote.kind != "image":
        return failed_source(name, no_video(name, depth))
    match remote.kind:
        case "stream":
            return stream
        case "video":
            return _video_source(url, name, relative_path, vid_stride)
        case "image" if _is_animated(remote.data):
            read = partial(_read_animation, remote.data, name, vid_stride)
            return Source(name, "video", relative_path, read, held=len(remote.data))
        case "image":
            return _image_source(remote.data, name, relative_path, depth, needed)


def camera_source(number: int, vid_stride: int = 1, depth: Depth | Bands = "auto") -> Source:
    """A camera at this computer."""
    name = f"camera {number}"
    if isinstance(depth, Bands):
        return failed_source(name, no_video(name, depth, what="cameras"))
    return _live_source(name, Path(f"camera-{number}"), partial(connect_camera, number, name), vid_stride)


def no_video(name: str, bands: Bands, what: str = "videos") -> str:
    """Return the message for a source of 8-bit colours where the network takes other images."""
    channels = counted(bands.channels, "channel")
    return f"{name}: {what} have 8-bit colours, the network takes {channels} of all bits: give image files"


def failed_source(name: str, message: str) -> Source:
    """A source that cannot be opened: its ``frames`` raise InputError with ``message``."""

    def read() -> Iterator[Frame]:
        raise InputError(message)

    return Source(name, "failed", Path(_file_name(Path(name).name)), read)


def _live_source(name: str, relative_path: Path, connect: Connect, vid_stride: int) -> Source:
    capture = partial(LiveCapture, name, connect, vid_stride=vid_stride)

    def read() -> Iterator[Frame]:
        with capture() as frames:
            yield from frames

    return Source(name, "stream", relative_path, read, capture=capture)


def _video_source(target: Path | str, name: str, relative_path: Path, vid_stride: int) -> Source:
    from yolofpn.video.reader import probe_video, read_video

    try:
        count, fps = probe_video(target, name)
    except InputError:  # told when its frames are asked for
        count, fps = None, None
    read = partial(read_video, target, name, vid_stride)
    path = target if isinstance(target, Path) else None
    return Source(name, "video", relative_path, read, path, count and -(-count // vid_stride), fps)


def _content_of(path: Path) -> Literal["image", "animation", "video"]:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in readable_suffixes() - _ANIMATED_SUFFIXES:
        return "image"
    try:
        return "animation" if is_animated(path) else "image"
    except InputError:
        if suffix in readable_suffixes():
            return "image"
        from yolofpn.video.reader import is_video

        return "video" if is_video(path) else "image"


def _is_animated(data: bytes) -> bool:
    try:
        return is_animated(data)
    except InputError:  # told when its frames are asked for
        return False


def _image_source(
    target: Path | bytes, name: str, relative_path: Path, depth: Depth | Bands, needed: NeededSize | None
) -> Source:
    decode = partial(decode_image, target, name, depth, needed)

    def read() -> Iterator[Frame]:
        yield decode(lambda pixels: None)

    path, held = (target, 0) if isinstance(target, Path) else (None, len(target))
    return Source(name, "image", relative_path, read, path, frame_count=1, decode=decode, held=held)


def decode_image(
    target: Path | bytes, name: str, depth: Depth | Bands, needed: NeededSize | None, admit: Admit
) -> Frame:
    """The frame of an image, reduced as far as ``needed`` allows: see ``read_reduced``.

    Raises:
        InputError: as ``read_image``.
    """
    if isinstance(depth, Bands):
        return _decode_bands(target, name, depth, admit)
    reduced = read_reduced(target, needed, name=name, depth=depth, admit=admit)
    if reduced.factor == 1:
        return Frame(reduced.image, name)
    read = partial(read_image, target, name=name, depth=depth)
    return Frame(reduced.image, name, whole=WholeImage(reduced.size, (reduced.factor, reduced.factor), read))


def _decode_bands(target: Path | bytes, name: str, bands: Bands, admit: Admit) -> Frame:
    """Whoever looks at the frame sees three of its bands."""
    height, width = image_size(target, name=name, channels=bands.channels)
    check_values(height, width, bands.channels, name)
    admit(-(-height * width * bands.channels * 4 // 3))  # pixels of three bytes
    image = read_image(target, name=name, depth=bands)
    return Frame(image, name, whole=WholeImage(image.shape[:2], (1.0, 1.0), partial(viewable, image, bands.shown)))


def _read_animation(source: Path | bytes, name: str, vid_stride: int) -> Iterator[Frame]:
    held: Frame | None = None  # until the time of the next one tells how long it is shown
    end = 0.0
    for index, (image, time, duration) in enumerate(read_frames(source, name=name)):
        end = time + duration
        if index % vid_stride == 0:
            if held is not None:
                yield replace(held, duration=time - held.time)
            held = Frame(image, name, index, time)
    if held is not None:
        yield replace(held, duration=end - held.time)


def _path_of_url(shown: str) -> Path:
    """The file's name if it has a suffix, else host and name."""
    host, *folders = re.split(r"[?#]", shown.partition("://")[2])[0].split("/")
    last = folders[-1] if folders else ""
    return Path(_file_name(last if Path(last).suffix else f"{host}-{last}".replace(".", "-").strip("-")))


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text) or "source"
