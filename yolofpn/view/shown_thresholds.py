"""Score thresholds of the window, which keys change, independent of those of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from yolofpn.structures import Detections, Limits
from yolofpn.tracking.source_tracks import FOLLOWED

LOWEST = 0.05  # what the network is asked for while a window is open, so that weaker boxes can be shown
HIGHEST = 0.95
STEP = 0.05


def lowered(limits: Limits) -> Limits:
    """``limits`` with scores from ``LOWEST`` on; classes that are not wanted (threshold 1) stay out.

    Filtering afterwards gives what the higher thresholds would have given: weaker boxes suppress no stronger ones.
    """
    return replace(limits, score_thresh=_each(limits, lambda thresh: min(thresh, LOWEST) if thresh < 1 else thresh))


def above(detections: Detections, score_thresh: float | tuple[float, ...]) -> Detections:
    """The detections whose score is above a threshold, one for all classes or one per class.

    Those that continue a track need a part of it only (``FOLLOWED``).
    """
    of_classes = np.array(score_thresh, np.float32)
    thresholds = of_classes[detections.labels] if isinstance(score_thresh, tuple) else of_classes
    keep = detections.scores > thresholds
    if detections.track_ids is not None:
        keep |= (detections.track_ids >= 0) & (detections.scores > FOLLOWED * thresholds)
    return detections[keep]


class ShownThresholds:
    """The thresholds of a run with a common offset.

    Args:
        limits: of the run.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._steps = 0

    def move(self, steps: int) -> None:
        """Move the thresholds by this many steps of ``STEP``, within their range."""
        before = self._moved(self._steps)
        if self._moved(self._steps + steps) != before:
            self._steps += steps

    def filter(self, detections: Detections) -> Detections:
        """Return the detections above the thresholds."""
        return above(detections, self._moved(self._steps))

    def __str__(self) -> str:
        thresh = self._moved(self._steps)
        if isinstance(thresh, float):
            return f"{thresh:.2f}".removeprefix("0")
        return f"{self._steps * STEP:+.2f}"

    def _moved(self, steps: int) -> float | tuple[float, ...]:
        def move(thresh: float) -> float:
            if thresh == 1 or not steps:
                return thresh
            return min(max(thresh + steps * STEP, min(thresh, LOWEST)), max(thresh, HIGHEST))

        return _each(self._limits, move)


def _each(limits: Limits, change: Callable[[float], float]) -> float | tuple[float, ...]:
    thresh = limits.score_thresh
    return tuple(change(value) for value in thresh) if isinstance(thresh, tuple) else change(thresh)
