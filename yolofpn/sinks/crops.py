"""The detections cut out of their images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from yolofpn.files import write_atomically
from yolofpn.sinks.output_names import OutputNames, add_suffix
from yolofpn.sinks.records import rows
from yolofpn.text import safe_part

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


class CropSink:
    """``crops/NAME/STEM_N``: each detection cut out, N counting from the best; without loss where the source has none.

    Args:
        output: the run's output folder.
    """

    key: ClassVar[str] = "crops"
    help: ClassVar[str] = "crops/NAME/, each detection as an image"
    folder: ClassVar[str | None] = "crops"
    resumable: ClassVar[bool] = True

    def __init__(self, output: Path) -> None:
        self._folder = output / "crops"
        self._names = OutputNames()

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Write the crops of one frame."""
        from yolofpn.sinks.image_files import LOSSY, crop, encode_image  # OpenCV: not for detect.py --help

        stem = self._names.frame_stem(source, frame)
        lossy = source.kind != "image" or source.relative_path.suffix.lower() in LOSSY
        image = frame.whole_image() if len(detections) else frame.image
        for number, (box, _, label, name) in enumerate(rows(detections)):
            data, suffix = encode_image(crop(image, box), ".jpg" if lossy else ".png")
            folder = self._folder / (safe_part(name) or str(label))
            write_atomically(folder / add_suffix(stem, f"_{number}{suffix}"), data)

    def close(self) -> None:
        """Do nothing: every file is already complete."""
