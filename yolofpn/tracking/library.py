"""Trackers of the library ``trackers`` (Roboflow, Apache-2.0): clean-room implementations of published trackers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from yolofpn.errors import UserError
from yolofpn.extras import is_installed
from yolofpn.tracking.tracker import LOST_SECONDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolofpn.tracking.tracker import Observed

FRAME_RATE = 30.0  # frames per second that the library's noise models are made for; real gaps are told by time
APART = 1e5  # pixels between the planes of two classes, on which no box reaches another
HALF = 0.5  # the score threshold, see ``Observed.confidences``
TWO_ROUNDS: Final[dict[str, Any]] = {  # of the trackers that match detections of low scores last
    "lost_track_buffer": round(LOST_SECONDS * FRAME_RATE),
    "frame_rate": FRAME_RATE,
    "track_activation_threshold": HALF,
    "high_conf_det_threshold": HALF,
}


def check_library() -> None:
    """See that the library is installed.

    Raises:
        UserError: it is not.
    """
    if not is_installed("trackers"):
        raise UserError("tracking needs the library trackers: pip install trackers==2.6.1 (the extra 'track')")


class LibraryTracker:
    """One tracker of the library for all classes.

    Boxes of each class are moved to a place of their own, so that tracks of two classes never overlap, in one
    assignment for all of them.

    Args:
        make: builds the library's tracker.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        check_library()
        self._tracker = make()

    def update(self, observed: Observed) -> NDArray[np.int64]:
        """See ``Tracker``."""
        import numpy as np
        import supervision

        count = len(observed.boxes)
        shift = observed.labels[:, None] * np.array([APART, 0, APART, 0])
        detections = supervision.Detections(
            xyxy=observed.boxes.astype(np.float64) + shift,
            confidence=observed.confidences,
            data={"row": np.arange(count)},  # the library returns the detections in another order
        )
        result = self._tracker.update(detections, timestamp=observed.time)
        tracks = np.full(count, -1, np.int64)
        if len(result):
            tracks[result.data["row"]] = result.tracker_id
        return tracks
