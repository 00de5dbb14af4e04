"""The interface of trackers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolofpn.types import Image

LOST_SECONDS = 2.5  # for which an object may be out of sight; a stream may be reconnected meanwhile


@dataclass(frozen=True)
class Observed:
    """What a tracker sees of a frame.

    Attributes:
        boxes: [D, 4] float32 xyxy, pixels.
        labels: [D] int64; a track has objects of one label only.
        confidences: [D] float32 in [0, 1]: the scores, rescaled so that .5 is the score threshold of the class. Those
            below are for objects that are followed already; they start no track.
        time: seconds, larger than in the frame before; frames that were skipped or lost leave a gap.
        image: [H, W, 3] uint8, BGR.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    confidences: NDArray[np.float32]
    time: float
    image: Image


class Tracker(Protocol):
    """Follows the objects of one source, frame by frame, up to its end or a cut.

    Attributes:
        key: its name in ``--tracker``.
        help: how it works, in a few words.
    """

    key: ClassVar[str]
    help: ClassVar[str]

    def __init__(self) -> None:
        """Set up; raises UserError if a library is missing."""
        ...

    def update(self, observed: Observed) -> NDArray[np.int64]:
        """The track of each detection [D], in the order of the detections.

        Tracks are numbered from 0, and no number is used again; -1: not (yet) part of a track.
        """
        ...
