"""Detections as annotations for a task of CVAT that has the same images or video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from yolofpn.data.writers.cvat_writer import CVAT_TAIL, cvat_head, cvat_image
from yolofpn.files import AppendFile
from yolofpn.sinks.output_names import OutputNames, add_suffix
from yolofpn.sinks.prelabels import written_image

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


class CvatSink:
    """``cvat/annotations.xml`` for all images, and ``cvat/STEM.xml`` for each video, as "CVAT for images 1.1".

    Images have the names that they have within the source folder, frames of videos CVAT's own names.

    Args:
        output: the run's output folder.
    """

    key: ClassVar[str] = "cvat"
    help: ClassVar[str] = "cvat/, annotations to upload to a CVAT task"
    folder: ClassVar[str | None] = "cvat"

    def __init__(self, output: Path) -> None:
        self._folder = output / "cvat"
        self._names = OutputNames()
        self._names.claim(Path("annotations"))
        self._files: dict[Path, tuple[AppendFile, int]] = {}
        self._video = Path()  # the file of the newest video

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Add the element of an image or frame."""
        is_image = source.kind == "image"
        path = self._folder / ("annotations.xml" if is_image else add_suffix(self._names.stem(source), ".xml"))
        if source.kind == "video" and path != self._video:  # videos come one after the other
            if self._video in self._files:
                self._files.pop(self._video)[0].close()
            self._video = path
        file, count = self._files.get(path) or (self._open(path, detections), 0)
        name = source.relative_path.as_posix() if is_image else f"frame_{frame.index:06d}"
        number = count if is_image else frame.index
        file.append(cvat_image(number, written_image(name, frame.size, detections)))
        self._files[path] = file, count + 1

    def close(self) -> None:
        """Close the files."""
        for file, _ in self._files.values():
            file.close()

    def _open(self, path: Path, detections: Detections) -> AppendFile:
        return AppendFile(path, head=cvat_head(detections.names, path.stem), tail=CVAT_TAIL)
