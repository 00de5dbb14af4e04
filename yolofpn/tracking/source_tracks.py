"""The tracks of one source: their ids, trails and counts."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from yolofpn import tracking
from yolofpn.bands import viewable
from yolofpn.errors import UserError
from yolofpn.structures import Detections, Frame, Limits
from yolofpn.track_info import Point, TrackInfo
from yolofpn.tracking.cuts import CutFinder
from yolofpn.tracking.shapes import Moved, Shape, ShapeCounter
from yolofpn.tracking.tracker import LOST_SECONDS, Observed, Tracker

FOLLOWED = 0.4  # of its score threshold is what an object must exceed that is tracked already
TRAIL_SECONDS = 2.0
LEAST_STEP = 1e-3  # seconds between two frames whose times are equal


@dataclass(frozen=True)
class _Trail:
    """Where a track was, and when in seconds, the newest last."""

    points: deque[Point] = field(default_factory=deque)
    times: deque[float] = field(default_factory=deque)

    def add(self, point: Point, time: float) -> None:
        self.points.append(point)
        self.times.append(time)
        while time - self.times[0] > TRAIL_SECONDS:
            self.points.popleft()
            self.times.popleft()


@dataclass(frozen=True)
class TrackOptions:
    """How objects are tracked.

    Attributes:
        tracker: a key of ``yolofpn.tracking.TRACKERS``; None: the first of them.
        shapes: lines and zones at which tracks are counted.

    Raises:
        UserError: there is no such tracker, or two shapes have the same name.
    """

    tracker: str | None = None
    shapes: tuple[Shape, ...] = ()

    def __post_init__(self) -> None:
        self.tracker_class()
        names = Counter(shape.name for shape in self.shapes)
        if repeated := [name for name, count in names.items() if count > 1]:
            raise UserError(
                f"two lines or zones are called {repeated[0]!r}: give each a name of its own, NAME=x1,y1,..."
            )

    def tracker_class(self) -> type[Tracker]:
        """The class of the tracker."""
        keys = {tracker.key: tracker for tracker in tracking.TRACKERS}
        if self.tracker is not None and self.tracker not in keys:
            raise UserError(f"tracker {self.tracker!r} is unknown: choose from {', '.join(keys)}")
        return tracking.TRACKERS[0] if self.tracker is None else keys[self.tracker]

    def check(self) -> None:
        """See that the tracker can run.

        Raises:
            UserError: its library is missing.
        """
        self.tracker_class()()


def followed(limits: Limits, lowest: float = 0.0) -> Limits:
    """``limits`` with lower score thresholds, for detections that continue tracks; excluded classes stay so.

    Args:
        limits: whose score thresholds start a track.
        lowest: no threshold is lowered beyond it.
    """

    def lower(thresh: float) -> float:
        return max(FOLLOWED * thresh, min(thresh, lowest)) if thresh < 1 else thresh

    thresh = limits.score_thresh
    return replace(limits, score_thresh=tuple(map(lower, thresh)) if isinstance(thresh, tuple) else lower(thresh))


class SourceTracks:
    """Tracks of a source up to now.

    Ids count from 1 and are not used again in the source; after a cut, or where time goes back, all are new.

    Args:
        options: the tracker, lines and zones.
        limits: whose score thresholds start a track.
    """

    def __init__(self, options: TrackOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._tracker = options.tracker_class()()
        self._cuts = CutFinder()
        self._first_id = 1  # of the tracker
        self._next_id = 1  # that nothing has
        self._time: float | None = None
        self._trails: dict[int, _Trail] = {}
        self._counters: list[ShapeCounter] = []
        self._size: tuple[int, int] | None = None  # of the frames that the counters are for
        self.started: Counter[str] = Counter()  # tracks by class name

    def update(self, frame: Frame, detections: Detections) -> Detections:
        """The detections with their ``track_ids`` and ``tracks``.

        Args:
            frame: later than the frames before.
            detections: with scores from those of ``followed`` limits on.
        """
        image = viewable(frame.image)
        restarts = self._cuts.is_cut(image) or (self._time is not None and frame.time < self._time)
        if restarts:
            self._tracker = self._options.tracker_class()()
            self._first_id, self._time = self._next_id, None
            self._trails.clear()
        time = frame.time if self._time is None else max(frame.time, self._time + LEAST_STEP)
        self._time = time
        observed = Observed(detections.boxes, detections.labels, self._confidences(detections), time, image)
        found = self._tracker.update(observed)
        ids = np.where(found < 0, -1, found + self._first_id)
        moved = _moves(detections, ids)
        for each in moved:
            if each.track >= self._next_id:
                self.started[each.name] += 1
        self._next_id = max(self._next_id, int(ids.max(initial=0)) + 1)
        return replace(detections, track_ids=ids, tracks=self._info(frame, moved, time))

    def _confidences(self, detections: Detections) -> NDArray[np.float32]:
        """The scores, rescaled so that each class has its threshold at .5."""
        thresh = self._limits.score_thresh
        own = np.array(thresh, np.float32)[detections.labels] if isinstance(thresh, tuple) else np.float32(thresh)
        own = np.clip(own, 1e-6, 1 - 1e-6)
        scores = detections.scores
        scaled = np.where(scores > own, 0.5 + 0.5 * (scores - own) / (1 - own), 0.5 * scores / own * (1 - 1e-6))
        return scaled.astype(np.float32)

    def _info(self, frame: Frame, moved: Sequence[Moved], time: float) -> TrackInfo:
        if self._size is None:
            self._counters = [ShapeCounter(shape, shape.in_pixels(frame.size)) for shape in self._options.shapes]
        elif self._size != frame.size:
            for counter in self._counters:
                counter.resize(frame.size)
        self._size = frame.size
        for each in moved:
            if each.track not in self._trails:
                self._trails[each.track] = _Trail()
            self._trails[each.track].add(each.point, time)
        if len(self._trails) > 2 * len(moved) + 100:  # the others are seldom worth a look
            self._trails = {id_: own for id_, own in self._trails.items() if time - own.times[-1] <= LOST_SECONDS}
        trails = {each.track: list(self._trails[each.track].points) for each in moved}
        return TrackInfo(trails, tuple(counter.update(moved, time) for counter in self._counters))


def _moves(detections: Detections, ids: NDArray[np.int64]) -> list[Moved]:
    rows = np.flatnonzero(ids >= 0)
    x1, y1, x2, y2 = detections.boxes[rows].astype(np.float64).T
    points = zip(((x1 + x2) / 2).tolist(), y2.tolist(), strict=True)
    sizes = np.sqrt((x2 - x1) * (y2 - y1)).tolist()
    names = [detections.name_of(label) for label in detections.labels[rows].tolist()]
    return [Moved(*each) for each in zip(ids[rows].tolist(), points, sizes, names, strict=True)]
