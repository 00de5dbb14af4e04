"""What receives the detections of each picture and writes them somewhere."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from yolofpn.drawing import LabelStyle
from yolofpn.errors import UserError
from yolofpn.output_files import AppendFile, StandardOutput, write_errors
from yolofpn.sinks.coco import CocoSink
from yolofpn.sinks.labels import DatasetSink, YoloSink
from yolofpn.sinks.media import CropSink, MediaChoice, MediaSink
from yolofpn.sinks.names import SourceInfo
from yolofpn.sinks.records import CsvSink, JsonLinesSink
from yolofpn.structures import Detections, Frame

FORMATS = ("jsonl", "coco", "csv", "yolo", "labels", "crops")


class Sink(Protocol):
    """Receives the pictures of a run in their order.

    Both methods raise UserError where nothing can be written; what was written before is complete.
    """

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Take one picture, or one frame of a video or stream, with what was found in it."""
        ...

    def close(self) -> None:
        """Finish everything; called once, also after an error."""
        ...


class Sinks:
    """Several sinks as one; also a context manager, which closes them.

    Args:
        sinks: in the order in which they write.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Hand one frame to each sink."""
        for sink in self._sinks:
            sink.write(source, frame, detections)

    def close(self) -> None:
        """Close all of them, even if one fails; its error is raised at the end."""
        with contextlib.ExitStack() as stack:
            for sink in reversed(self._sinks):
                stack.callback(sink.close)

    def __enter__(self) -> Sinks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FreshFrames(Sinks):
    """Hands on no frame of a live source that only repeats an older one."""

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Hand a new frame to each sink."""
        if not frame.stale:
            super().write(source, frame, detections)


def build_sinks(
    output: Path | None,
    *,
    formats: Collection[str] = ("jsonl",),
    media: MediaChoice = "all",
    labels: LabelStyle = "score",
    image_ids: Mapping[str, int] | None = None,
) -> Sinks:
    """The sinks of a run; the JSON lines are always among them.

    Args:
        output: the folder that receives everything, made if need be; None for JSON lines on standard output, which
            goes without media and other formats.
        formats: of ``FORMATS``.
        media: which annotated pictures and videos are written.
        labels: what stands beside a box in them.
        image_ids: the data set's ids by relative path or file name, for the COCO results.

    Raises:
        UserError: a format is unknown or needs a folder, or the folder cannot be written.
    """
    for unknown in set(formats) - set(FORMATS):
        near = difflib.get_close_matches(unknown, FORMATS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(FORMATS)}"
        raise UserError(f"format {unknown!r} is unknown: {hint}")
    if output is None:
        if others := [name for name in FORMATS[1:] if name in formats]:
            raise UserError(f"format {others[0]!r} needs a folder: give one with --output, - takes JSON lines only")
        return Sinks([JsonLinesSink(StandardOutput())])
    with write_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    lines = JsonLinesSink(AppendFile(output / "detections.jsonl"))
    sinks: list[Sink] = []
    if "coco" in formats:
        sinks.append(CocoSink(output, image_ids))
    if "csv" in formats:
        sinks.append(CsvSink(output))
    if "yolo" in formats:
        sinks.append(YoloSink(output))
    if "labels" in formats:
        sinks.append(DatasetSink(output))
    if "crops" in formats:
        sinks.append(CropSink(output))
    if media != "none":
        sinks.append(MediaSink(output, media, labels))
    return Sinks([lines, FreshFrames(sinks)])
