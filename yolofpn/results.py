"""What comes out of detection: the detections of one image or frame after the other, with where they are from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from yolofpn.sources.resolve import Source
from yolofpn.structures import Detections, Frame


@dataclass(frozen=True)
class Result:
    """The detections of an image or frame.

    Attributes:
        seconds: its share of the time that was given to the network, from pixels to boxes.
        candidates: the detections and weaker ones, for a window where the user moves the threshold.
    """

    source: Source
    frame: Frame
    detections: Detections
    seconds: float
    candidates: Detections | None = None


@dataclass(frozen=True)
class Failure:
    """In the place of results: a source, or the rest of one, that could not be used.

    Attributes:
        message: names the source and says why.
    """

    message: str


class Results(Protocol):
    """Results in their order, and what whoever takes them may say: where they come from does not matter further on."""

    def __iter__(self) -> Iterator[Result | Failure]: ...

    def __next__(self) -> Result | Failure: ...

    def peek(self) -> Result | Failure | None:
        """Return the next item without consuming it; None at the end."""
        ...

    def stop(self) -> None:
        """Read no more; what is under way still comes out."""
        ...

    def close(self) -> None:
        """End at once."""
        ...
