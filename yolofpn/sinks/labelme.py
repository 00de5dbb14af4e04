"""Detections as labelme's JSON files beside their images."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, ClassVar

from yolofpn.data.writers.labelme_writer import labelme_json
from yolofpn.files import write_atomically
from yolofpn.sinks.prelabels import FlatImages, written_image

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


class LabelmeSink:
    """``labelme/``: images with a JSON file each, for labelme, X-AnyLabeling and training.

    Args:
        output: the run's output folder.
    """

    key: ClassVar[str] = "labelme"
    help: ClassVar[str] = "labelme/, images and a JSON file for each"
    folder: ClassVar[str | None] = "labelme"

    def __init__(self, output: Path) -> None:
        self._folder = output / "labelme"
        self._images = FlatImages(self._folder)

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Write the image and its file."""
        name = self._images.write(source, frame)
        text = labelme_json(written_image(name, frame.size, detections))
        write_atomically(self._folder / f"{PurePath(name).stem}.json", text.encode())

    def close(self) -> None:
        """Do nothing: every file is already complete."""
