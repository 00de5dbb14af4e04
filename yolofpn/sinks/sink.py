"""The interface of sinks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


class Sink(Protocol):
    """Receives the images of a run in their order.

    Both methods raise UserError where nothing can be written; what was written before is complete.
    """

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Write the detections of an image, or of a frame of a video or stream."""
        ...

    def close(self) -> None:
        """Finish everything; called once, also after an error."""
        ...


class FormatSink(Sink, Protocol):
    """A sink that ``detect.py --format`` offers.

    Attributes:
        key: its name in ``--format``.
        help: what it writes, in a few words.
        folder: the folder within the output that it fills, which results of other sinks keep out of; None for files.

    A sink with a class attribute ``resumable = True`` can go on in the folder of a run that ended early, because it
    writes whole files for each image.
    """

    key: ClassVar[str]
    help: ClassVar[str]
    folder: ClassVar[str | None]

    def __init__(self, output: Path) -> None: ...
