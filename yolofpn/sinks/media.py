"""Images and videos with the boxes drawn on them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal, TypeAlias

from yolofpn import sinks
from yolofpn.drawing import LabelStyle
from yolofpn.files import write_atomically
from yolofpn.sinks.image_files import encode_image
from yolofpn.sinks.output_names import OutputNames, SourceInfo, source_stem
from yolofpn.structures import Detections, Frame, Image

if TYPE_CHECKING:
    from yolofpn.video.writer import VideoWriter

MediaChoice: TypeAlias = Literal["all", "hits", "none"]


@dataclass
class _OpenVideo:
    source: SourceInfo
    size: tuple[int, int]
    writer: VideoWriter
    hit: bool = False


class MediaSink:
    """Annotated images and videos under the names of their sources.

    An image keeps its format where that can be written; a video becomes an H.264 mp4. A video whose frames change
    their size goes on in a second file.

    Args:
        folder: the run's output folder.
        choice: 'all', or 'hits' for images with a detection and videos with any.
        labels: what stands beside a box.
    """

    def __init__(self, folder: Path, choice: MediaChoice = "all", labels: LabelStyle = "score") -> None:
        self._folder = folder
        self._hits_only = choice == "hits"
        self._labels = labels
        self._names = OutputNames()
        self._videos: dict[int, _OpenVideo] = {}
        self._latest: SourceInfo | None = None

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Write one image, or add one frame to its video."""
        if source is not self._latest:
            self._latest = source
            self._finish_files_but(source)
        if source.kind == "image":
            if len(detections) or not self._hits_only:
                self._write_image(source, detections.draw(frame.whole_image(), labels=self._labels))
            return
        video = self._video(source, frame)
        video.hit |= len(detections) > 0
        video.writer.write(detections.draw(frame.whole_image(), labels=self._labels), frame.time, frame.duration)

    def close(self) -> None:
        """Finish the videos: all of them, even if one fails."""
        with contextlib.ExitStack() as stack:
            for key in list(self._videos):
                stack.callback(self._finish, key)

    def _write_image(self, source: SourceInfo, image: Image) -> None:
        data, suffix = encode_image(image, source.relative_path.suffix)
        path = self._names.claim(_out_of_the_way(source), suffix)
        write_atomically(self._folder / path, data)

    def _video(self, source: SourceInfo, frame: Frame) -> _OpenVideo:
        from yolofpn.video.writer import VideoWriter  # FFmpeg: not for images

        open_video = self._videos.get(id(source))
        if open_video is not None and open_video.size != frame.size:
            self._finish(id(source))
        if id(source) not in self._videos:
            path = self._folder / self._names.claim(_out_of_the_way(source), ".mp4")
            sound = source.path if source.kind == "video" else None
            writer = VideoWriter(path, frame.size, fps=source.fps, sound=sound)
            self._videos[id(source)] = _OpenVideo(source, frame.size, writer)
        return self._videos[id(source)]

    def _finish_files_but(self, source: SourceInfo) -> None:
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
    if len(stem.parts) > 1 and first.casefold() in {sink.folder for sink in sinks.SINKS}:
        return PurePath(f"{first}-media", *stem.parts[1:])
    return stem
