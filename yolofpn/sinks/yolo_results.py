"""Detections as YOLO text files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from yolofpn.files import write_atomically
from yolofpn.sinks.output_names import OutputNames, add_suffix

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


def yolo_lines(detections: Detections, size: tuple[int, int], *, scores: bool) -> str:
    """One line ``label cx cy width height [score]`` per detection, lengths as shares of the image's.

    Args:
        detections: boxes in pixels; what reaches out of the image is cut off.
        size: (height, width) of the image.
        scores: whether the score stands at the end of each line; without, boxes of no area are left out too, which
            labelling tools refuse.
    """
    height, width = size
    boxes = detections.boxes.astype("float64")  # a copy
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, width) / width
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, height) / height
    lines = []
    for (left, top, right, bottom), score, label in zip(
        boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
    ):
        if not scores and (right <= left or bottom <= top):
            continue
        numbers = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top] + [score] * scores
        lines.append(" ".join([str(label), *(f"{number:.6f}" for number in numbers)]) + "\n")
    return "".join(lines)


class YoloSink:
    """``labels/STEM.txt`` for each image or frame; an empty file where nothing was found.

    Args:
        output: the run's output folder.
    """

    key: ClassVar[str] = "yolo"
    help: ClassVar[str] = "labels/, a YOLO text file for each image, with scores"
    folder: ClassVar[str | None] = "labels"
    resumable: ClassVar[bool] = True

    def __init__(self, output: Path) -> None:
        self._folder = output / "labels"
        self._names = OutputNames()

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Write the file of one frame."""
        path = add_suffix(self._names.frame_stem(source, frame), ".txt")
        write_atomically(self._folder / path, yolo_lines(detections, frame.size, scores=True).encode())

    def close(self) -> None:
        """Do nothing: every file is already complete."""
