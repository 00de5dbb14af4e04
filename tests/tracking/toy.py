"""A tracker that needs no library: the worked example of docs/extending.md."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from yolofpn.tracking.tracker import Observed


class Nearest:
    """An object is the nearest one of its class in the frame before."""

    key: ClassVar[str] = "nearest"
    help: ClassVar[str] = "the nearest object of the frame before"

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, NDArray[np.float32]]] = {}  # label and centre by track
        self._next = 0

    def update(self, observed: Observed) -> NDArray[np.int64]:
        """The tracks of the frame before are given away one by one, to the best detections first."""
        tracks = np.full(len(observed.boxes), -1, np.int64)
        left, self._seen = self._seen, {}
        centres = (observed.boxes[:, :2] + observed.boxes[:, 2:]) / 2
        for row, (label, centre) in enumerate(zip(observed.labels.tolist(), centres, strict=True)):
            side = float((observed.boxes[row, 2:] - observed.boxes[row, :2]).max())
            near = {track: float(np.hypot(*(centre - c))) for track, (own, c) in left.items() if own == label}
            track = min(near, key=lambda each: near[each], default=-1)
            if track >= 0 and near[track] < 1.5 * side:
                del left[track]
            elif observed.confidences[row] > 0.5:  # above the score threshold
                track, self._next = self._next, self._next + 1
            else:
                continue
            tracks[row] = track
            self._seen[track] = label, centre
        return tracks
