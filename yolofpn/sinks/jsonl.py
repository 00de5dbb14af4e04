"""JSON lines, the format that every run writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from yolofpn.errors import UserError
from yolofpn.files import AppendFile, StandardOutput
from yolofpn.sinks.records import record

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


FILE = "detections.jsonl"


class JsonLinesSink:
    """``detections.jsonl``: one line per image or frame, written before the next one begins.

    Args:
        output: the run's output folder; None for standard output.
        keep: so many bytes of the file stay, those of an earlier run.
    """

    key: ClassVar[str] = "jsonl"
    help: ClassVar[str] = "detections.jsonl, a line for each image or frame (always written)"
    folder: ClassVar[str | None] = None
    resumable: ClassVar[bool] = True

    def __init__(self, output: Path | None, keep: int = 0) -> None:
        self._output = StandardOutput() if output is None else AppendFile(output / FILE, keep=keep)
        self._ensure_ascii = output is None  # the encoding of standard output depends on the terminal

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Add the line of one frame."""
        self._output.append(json.dumps(record(frame, detections), ensure_ascii=self._ensure_ascii) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._output.close()


def finished_sources(output: Path) -> tuple[frozenset[str], int]:
    """What ``detections.jsonl`` in a folder holds of a run that ended early.

    The last source counts as unfinished: a video may lack frames.

    Returns:
        The names of the finished sources, and how many bytes their lines take.

    Raises:
        UserError: the file cannot be read, a line is not of this format, or it is of a live source.
    """
    path = output / FILE
    finished: set[str] = set()
    last, start, end = None, 0, 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # it was being written
                source = _source_of(line, f"{path}: line {number}")
                if source != last:
                    if last is not None:
                        finished.add(last)
                    last, start = source, end
                end += len(line)
    except FileNotFoundError:
        return frozenset(), 0
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    return frozenset(finished - {last}), start


def _source_of(line: bytes, place: str) -> str:
    try:
        entry = json.loads(line)
        source, live = entry["source"], "clock" in entry
    except (ValueError, TypeError, KeyError):
        source, live = None, False
    if live:
        raise UserError(f"{place} is of a live source, which cannot be resumed: choose another --output")
    if not isinstance(source, str):
        raise UserError(f"{place} is not one of detect.py: resume with the folder of an earlier run, or choose another")
    return source
