"""Detections as text: JSON lines and a CSV table."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from yolofpn.output_files import AppendFile, StandardOutput
from yolofpn.sinks.names import SourceInfo
from yolofpn.structures import Detections, Frame

CSV_COLUMNS = ("source", "frame", "time", "width", "height", "x1", "y1", "x2", "y2", "score", "label", "name")


def record(frame: Frame, detections: Detections) -> dict[str, Any]:
    """One picture or frame as the project writes it in JSON.

    Boxes are rounded to 0.01 pixels, scores to 0.0001, times to a microsecond. Live frames also tell when they were
    captured, whether they repeat an older picture, and how many were skipped before them.
    """
    height, width = frame.size
    line: dict[str, Any] = {
        "source": frame.source,
        "frame": frame.index,
        "time": round(frame.time, 6),
        "width": width,
        "height": height,
    }
    if frame.clock is not None:
        line |= {"clock": utc_text(frame.clock), "stale": frame.stale, "dropped": frame.dropped}
    line["detections"] = [
        {"box": [round(side, 2) for side in box], "score": round(score, 4), "label": label, "name": name}
        for box, score, label, name in rows(detections)
    ]
    return line


def rows(detections: Detections) -> list[tuple[list[float], float, int, str]]:
    """Box, score, label and class name of each detection as plain values."""
    labels = detections.labels.tolist()
    names = [detections.name_of(label) for label in labels]
    return list(zip(detections.boxes.tolist(), detections.scores.tolist(), labels, names, strict=True))


def utc_text(clock: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, such as ``2025-01-31T12:00:00.250Z``; a naive time is taken as UTC."""
    aware = clock.replace(tzinfo=UTC) if clock.tzinfo is None else clock.astimezone(UTC)
    return aware.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonLinesSink:
    """``detections.jsonl``: one line per picture or frame, written before the next one begins.

    Args:
        output: where lines go.
    """

    def __init__(self, output: AppendFile | StandardOutput) -> None:
        self._output = output
        self._ensure_ascii = isinstance(output, StandardOutput)  # whose encoding depends on the terminal

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Add the line of one frame."""
        self._output.append(json.dumps(record(frame, detections), ensure_ascii=self._ensure_ascii) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._output.close()


class CsvSink:
    """``detections.csv``: one row per detection.

    Args:
        folder: the run's output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = AppendFile(folder / "detections.csv", head=",".join(CSV_COLUMNS) + "\n", errors="surrogateescape")

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Add the rows of one frame."""
        line = record(frame, detections)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for found in line["detections"]:
            frame_columns = [line[key] for key in CSV_COLUMNS[:5]]
            writer.writerow([*frame_columns, *found["box"], found["score"], found["label"], found["name"]])
        self._file.append(text.getvalue())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
