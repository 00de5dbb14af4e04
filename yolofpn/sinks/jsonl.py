"""JSON lines, the format that every run writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from yolofpn.files import AppendFile, StandardOutput
from yolofpn.sinks.records import record

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


class JsonLinesSink:
    """``detections.jsonl``: one line per image or frame, written before the next one begins.

    Args:
        output: the run's output folder; None for standard output.
    """

    key: ClassVar[str] = "jsonl"
    help: ClassVar[str] = "detections.jsonl, a line for each image or frame (always written)"
    folder: ClassVar[str | None] = None

    def __init__(self, output: Path | None) -> None:
        self._output = StandardOutput() if output is None else AppendFile(output / "detections.jsonl")
        self._ensure_ascii = output is None  # the encoding of standard output depends on the terminal

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Add the line of one frame."""
        self._output.append(json.dumps(record(frame, detections), ensure_ascii=self._ensure_ascii) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._output.close()
