"""C-BIoU (WACV 2023, Yang et al., Hard to Track Objects with Irregular Motions and Similar Appearances?)."""

from __future__ import annotations

from typing import Any, ClassVar

from yolofpn.tracking.library import TWO_ROUNDS, LibraryTracker


class CBIoU(LibraryTracker):
    """Like ByteTrack, but boxes are enlarged before their overlap is measured."""

    key: ClassVar[str] = "cbiou"
    help: ClassVar[str] = "IoU of enlarged boxes, for fast or irregular motion and few frames per second"

    def __init__(self) -> None:
        super().__init__(_make)


def _make() -> Any:  # noqa: ANN401
    from trackers import CBIoUTracker

    return CBIoUTracker(**TWO_ROUNDS, instant_first_frame_activation=False)
