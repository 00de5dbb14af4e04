"""Tracks as text files of the MOT Challenge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from yolofpn.files import AppendFile
from yolofpn.sinks.output_names import OutputNames, add_suffix

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


class MotSink:
    """``mot/STEM.txt`` for each video or stream: ``frame,id,left,top,width,height,score,-1,-1,-1``.

    Frames count from 1. Only tracked objects are in it, of all classes, which the format does not name.

    Args:
        output: the run's output folder.
    """

    key: ClassVar[str] = "mot"
    help: ClassVar[str] = "mot/, a MOT Challenge text file for each video or stream, with --track"
    folder: ClassVar[str | None] = "mot"
    resumable: ClassVar[bool] = True

    def __init__(self, output: Path) -> None:
        self._folder = output / "mot"
        self._names = OutputNames()
        self._source: SourceInfo | None = None
        self._files: dict[int, AppendFile] = {}

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Add the lines of one frame; images have no tracks."""
        if source.kind == "image":
            return
        if self._source is not source and source.kind == "video":  # files come one after the other
            self.close()
        self._source = source
        if id(source) not in self._files:
            self._files[id(source)] = AppendFile(self._folder / add_suffix(self._names.stem(source), ".txt"))
        tracks = [] if detections.track_ids is None else detections.track_ids.tolist()
        rows = zip(tracks, detections.boxes.tolist(), detections.scores.tolist(), strict=bool(tracks))
        lines = [
            f"{frame.index + 1},{track},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score:.4f},-1,-1,-1\n"
            for track, (x1, y1, x2, y2), score in rows
            if track >= 0
        ]
        self._files[id(source)].append("".join(lines))

    def close(self) -> None:
        """Close the files."""
        files, self._files = list(self._files.values()), {}
        for file in files:
            file.close()
