"""ByteTrack (arXiv 2110.06864)."""

from __future__ import annotations

from typing import Any, ClassVar

from yolofpn.tracking.library import TWO_ROUNDS, LibraryTracker


class ByteTrack(LibraryTracker):
    """Matches detections above the score threshold first, then weaker ones, by IoU with the predicted boxes."""

    key: ClassVar[str] = "bytetrack"
    help: ClassVar[str] = "IoU in two rounds, detections of low scores last"

    def __init__(self) -> None:
        super().__init__(_make)


def _make() -> Any:  # noqa: ANN401
    from trackers import ByteTrackTracker

    return ByteTrackTracker(**TWO_ROUNDS)
