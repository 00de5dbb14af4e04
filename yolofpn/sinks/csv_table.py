"""Detections as a CSV table."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from yolofpn.files import AppendFile
from yolofpn.sinks.records import record

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame

CSV_COLUMNS = (
    "source",
    "frame",
    "time",
    "width",
    "height",
    "x1",
    "y1",
    "x2",
    "y2",
    "score",
    "label",
    "name",
    "track_id",
)


class CsvSink:
    """``detections.csv``: one row per detection.

    Args:
        output: the run's output folder.
    """

    key: ClassVar[str] = "csv"
    help: ClassVar[str] = "detections.csv, a row for each detection"
    folder: ClassVar[str | None] = None

    def __init__(self, output: Path) -> None:
        self._file = AppendFile(output / "detections.csv", head=",".join(CSV_COLUMNS) + "\n", errors="surrogateescape")

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Add the rows of one frame."""
        line = record(frame, detections)
        rows = io.StringIO()
        for found in line["detections"]:
            frame_columns = [line[key] for key in CSV_COLUMNS[:5]]
            row = io.StringIO()  # csv puts quotes only around those line breaks that end its rows: here both kinds
            csv.writer(row, lineterminator="\r\n").writerow(
                [*frame_columns, *found["box"], found["score"], found["label"], found["name"], found.get("track_id")]
            )
            rows.write(row.getvalue().removesuffix("\r\n") + "\n")
        self._file.append(rows.getvalue())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
