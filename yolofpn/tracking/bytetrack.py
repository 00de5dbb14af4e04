"""ByteTrack (Zhang et al., arXiv 2110.06864)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from yolofpn.tracking.library import HALF, check_installed, on_planes
from yolofpn.tracking.tracker import LOST_SECONDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolofpn.ops.array_boxes import Floats
    from yolofpn.tracking.tracker import Observed

LEAST_IOU = 0.1  # of a detection and the predicted box of its track


class ByteTrack:
    """Matches detections above the score threshold first, then weaker ones, by IoU with the predicted boxes.

    It gives the tracks of the library's class of that name, which has a Kalman filter in Python for each of them, in
    about a tenth of its time.

    Attributes:
        tracks: those that may go on.
    """

    key: ClassVar[str] = "bytetrack"
    help: ClassVar[str] = "IoU in two rounds, low-scoring detections in the second"

    def __init__(self) -> None:
        check_installed("scipy")
        from yolofpn.tracking.tracks import Tracks

        self.tracks = Tracks()
        self._time: float | None = None
        self._next = 0

    def update(self, observed: Observed) -> NDArray[np.int64]:
        """See ``Tracker``."""
        import numpy as np

        tracks, boxes = self.tracks, on_planes(observed)
        self._move_to(observed.time)
        sure = observed.confidences >= HALF
        rows = np.full(len(boxes), -1, np.int64)  # the track of each detection
        free = np.ones(len(tracks.ids), np.bool_)  # tracks that have none yet
        for asked in (sure, ~sure):
            first, second = _match(tracks.boxes[free], boxes[asked])
            matched = np.flatnonzero(free)[first]
            rows[np.flatnonzero(asked)[second]] = matched
            free[matched] = False
            self._confirm(matched)
        found = np.flatnonzero(rows >= 0)
        tracks.correct(rows[found], boxes[found])
        ids = np.full(len(boxes), -1, np.int64)
        ids[found] = tracks.ids[rows[found]]
        tracks.keep(tracks.ids >= 0)  # who is seen once only is no object
        tracks.add(boxes[sure & (rows < 0)])
        return ids

    def _move_to(self, time: float) -> None:
        """Predict where all tracks are now, and give up those that were not seen for too long."""
        self.tracks.predict(0.0 if self._time is None else time - self._time)
        self.tracks.keep(self.tracks.unseen <= LOST_SECONDS)
        self._time = time

    def _confirm(self, rows: NDArray[np.int64]) -> None:
        """Number those of the matched tracks that are new."""
        new = rows[self.tracks.ids[rows] < 0]
        self.tracks.ids[new] = range(self._next, self._next + len(new))
        self._next += len(new)


def _match(tracks: Floats, boxes: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ``tracks`` [T, 4] and of ``boxes`` [D, 4] that belong together, by the largest sum of all IoUs."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped,unused-ignore]

    from yolofpn.ops.array_boxes import box_iou

    if not len(tracks) or not len(boxes):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    overlap = box_iou(tracks, boxes)
    first, second = linear_sum_assignment(overlap, maximize=True)
    good = overlap[first, second] >= LEAST_IOU
    return first[good], second[good]
