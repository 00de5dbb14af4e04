"""OC-SORT (arXiv 2203.14360)."""

from __future__ import annotations

from typing import Any, ClassVar

from yolofpn.tracking.library import FRAME_RATE, HALF, LibraryTracker
from yolofpn.tracking.tracker import LOST_SECONDS


class OCSORT(LibraryTracker):
    """Matches by IoU and direction of motion; detections of low scores are not used."""

    key: ClassVar[str] = "ocsort"
    help: ClassVar[str] = "IoU and direction of motion, for objects that turn while hidden"

    def __init__(self) -> None:
        super().__init__(_make)


def _make() -> Any:  # noqa: ANN401
    from trackers import OCSORTTracker

    return OCSORTTracker(
        lost_track_buffer=round(LOST_SECONDS * FRAME_RATE),
        frame_rate=FRAME_RATE,
        minimum_consecutive_frames=2,
        high_conf_det_threshold=HALF,
    )
