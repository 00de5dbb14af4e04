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


def check_installed(module: str) -> None:
    """See that a library of the extra 'track' is installed.

    Raises:
        UserError: it is not.
    """
    if not is_installed(module):
        raise UserError(f"tracking needs the library {module}: pip install 'yolofpn[track]'")


def on_planes(observed: Observed) -> NDArray[np.float64]:
    """The boxes [D, 4], those of each class moved to a place of their own, where they overlap with no other class.

    So one assignment serves all classes.
    """
    import numpy as np

    boxes: NDArray[np.float64] = observed.boxes + observed.labels[:, None] * np.array([APART, 0, APART, 0])
    return boxes


class LibraryTracker:
    """One tracker of the library for all classes.

    Args:
        make: builds the library's tracker.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        check_installed("trackers")
        self._tracker = make()

    def update(self, observed: Observed) -> NDArray[np.int64]:
        """See ``Tracker``."""
        import numpy as np
        import supervision

        count = len(observed.boxes)
        detections = supervision.Detections(
            xyxy=on_planes(observed),
            confidence=observed.confidences,
            data={"row": np.arange(count)},  # the library returns the detections in another order
        )
        result = self._tracker.update(detections, timestamp=observed.time)
        tracks = np.full(count, -1, np.int64)
        if len(result):
            tracks[result.data["row"]] = result.tracker_id
        return tracks
