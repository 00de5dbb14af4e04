"""Pictures and videos with the boxes drawn on them, and the boxes cut out."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, TypeAlias

import cv2
import numpy as np

from yolofpn.drawing import LabelStyle
from yolofpn.errors import InputError
from yolofpn.output_files import write_atomically
from yolofpn.sinks.names import OutputNames, SourceInfo, add_suffix, safe_part, source_stem
from yolofpn.sinks.records import rows
from yolofpn.structures import Detections, Frame, Image
from yolofpn.video.writer import VideoWriter

MediaChoice: TypeAlias = Literal["all", "hits", "none"]

JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 95]
QUALITY = {".jpg": JPEG_QUALITY, ".jpeg": JPEG_QUALITY, ".webp": [cv2.IMWRITE_WEBP_QUALITY, 95]}
WRITABLE = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".heic", ".heif", ".jp2", ""}
FOLDERS_OF_SINKS = {"crops", "dataset", "labels"}


def encode_image(image: Image, suffix: str) -> tuple[bytes, str]:
    """A picture file's content and suffix: ``suffix`` where it can be written, else ``.jpg`` or the lossless ``.png``.

    Args:
        image: [H, W, 3] uint8, BGR.
        suffix: of the file that the picture comes from.

    Raises:
        InputError: no format takes a picture of this size.
    """
    suffix = suffix.lower()
    if suffix not in WRITABLE:
        suffix = ".jpg" if suffix in LOSSY else ".png"
    for attempt in (suffix, ".png"):  # JPEG ends at 65535 pixels a side, WebP at 16383
        with contextlib.suppress(cv2.error):
            encoded, data = cv2.imencode(attempt, np.ascontiguousarray(image), QUALITY.get(attempt, []))
            if encoded:
                return data.tobytes(), attempt
    raise InputError(f"a picture of {image.shape[1]}x{image.shape[0]} pixels cannot be written as {suffix} or .png")


def crop(image: Image, box: list[float]) -> Image:
    """The pixels that a box touches, at least one.

    Args:
        image: [H, W, 3] uint8, BGR.
        box: xyxy, pixels.
    """
    height, width = image.shape[:2]
    left = min(max(int(np.floor(box[0])), 0), width - 1)
    top = min(max(int(np.floor(box[1])), 0), height - 1)
    right = min(max(int(np.ceil(box[2])), left + 1), width)
    bottom = min(max(int(np.ceil(box[3])), top + 1), height)
    return image[top:bottom, left:right]


class CropSink:
    """``crops/NAME/STEM_N``: each detection cut out, N counting from the best; without loss where the source has none.

    Args:
        folder: the run's output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "crops"
        self._names = OutputNames()

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Write the crops of one frame."""
        stem = self._names.frame_stem(source, frame)
        lossy = source.kind != "image" or source.relative_path.suffix.lower() in LOSSY
        for number, (box, _, label, name) in enumerate(rows(detections)):
            data, suffix = encode_image(crop(frame.image, box), ".jpg" if lossy else ".png")
            folder = self._folder / (safe_part(name) or str(label))
            write_atomically(folder / add_suffix(stem, f"_{number}{suffix}"), data)

    def close(self) -> None:
        """Every file is complete already."""


@dataclass
class _OpenVideo:
    source: SourceInfo
    size: tuple[int, int]
    writer: VideoWriter
    hit: bool = False


class MediaSink:
    """Annotated pictures and videos under the names of their sources.

    A picture keeps its format where that can be written; a video becomes an H.264 mp4. A video whose frames change
    their size goes on in a second file.

    Args:
        folder: the run's output folder.
        choice: 'all', or 'hits' for pictures with a detection and videos with any.
        labels: what stands beside a box.
    """

    def __init__(self, folder: Path, choice: MediaChoice = "all", labels: LabelStyle = "score") -> None:
        self._folder = folder
        self._hits_only = choice == "hits"
        self._labels = labels
        self._names = OutputNames()
        self._videos: dict[int, _OpenVideo] = {}

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Write one picture, or add one frame to its video."""
        if source.kind == "image":
            self._finish_files_but(None)
            if len(detections) or not self._hits_only:
                self._write_picture(source, detections.draw(frame.image, labels=self._labels))
            return
        self._finish_files_but(source)
        video = self._video(source, frame)
        video.hit |= len(detections) > 0
        video.writer.write(detections.draw(frame.image, labels=self._labels), frame.time, frame.duration)

    def close(self) -> None:
        """Finish the videos: all of them, even if one fails."""
        with contextlib.ExitStack() as stack:
            for key in list(self._videos):
                stack.callback(self._finish, key)

    def _write_picture(self, source: SourceInfo, image: Image) -> None:
        data, suffix = encode_image(image, source.relative_path.suffix)
        path = self._names.claim(_out_of_the_way(source), suffix)
        write_atomically(self._folder / path, data)

    def _video(self, source: SourceInfo, frame: Frame) -> _OpenVideo:
        open_video = self._videos.get(id(source))
        if open_video is not None and open_video.size != frame.size:
            self._finish(id(source))
        if id(source) not in self._videos:
            path = self._folder / self._names.claim(_out_of_the_way(source), ".mp4")
            sound = source.path if source.kind == "video" else None
            writer = VideoWriter(path, frame.size, fps=source.fps, sound=sound)
            self._videos[id(source)] = _OpenVideo(source, frame.size, writer)
        return self._videos[id(source)]

    def _finish_files_but(self, source: SourceInfo | None) -> None:
        """Files are read one after the other: once the next one begins, the last one is over. Streams go on."""
        for key, video in list(self._videos.items()):
            if video.source is not source and video.source.kind == "video":
                self._finish(key)

    def _finish(self, key: int) -> None:
        video = self._videos.pop(key)
        if self._hits_only and not video.hit:
            video.writer.discard()
        else:
            video.writer.close()


def _out_of_the_way(source: SourceInfo) -> PurePath:
    """The source's stem, away from the folders that other sinks fill."""
    stem = source_stem(source)
    first = stem.parts[0]
    if len(stem.parts) > 1 and first.casefold() in FOLDERS_OF_SINKS:
        return PurePath(f"{first}-media", *stem.parts[1:])
    return stem
