"""Results whose objects are tracked, each source on its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from yolofpn.results import Failure, Result, Results
from yolofpn.sources.kinds import Source
from yolofpn.structures import Detections, Limits
from yolofpn.track_info import ShapeCount
from yolofpn.tracking.source_tracks import SourceTracks, TrackOptions
from yolofpn.view.shown_thresholds import above


@dataclass
class TrackCounts:
    """What was counted over all frames of a source.

    Attributes:
        started: tracks by class name.
        shapes: lines and zones with their counts.
    """

    started: Counter[str] = field(default_factory=Counter)
    shapes: tuple[ShapeCount, ...] = ()


class TrackedResults(Iterator[Result | Failure]):
    """``results`` with ids, trails and counts.

    Images are not tracked: there is no frame before them. A repeated frame of a live source keeps what was found in it.

    Args:
        results: detected with the score thresholds of ``followed(limits)``.
        options: the tracker, lines and zones.
        limits: whose thresholds start a track; weaker detections that continue none are dropped, or become
            ``candidates``.
        keep_candidates: for a window.
    """

    def __init__(
        self, results: Results, options: TrackOptions, limits: Limits, *, keep_candidates: bool = False
    ) -> None:
        self._results = results
        self._options = options
        self._limits = limits
        self._keep_candidates = keep_candidates
        self._tracks: dict[Source, SourceTracks] = {}
        self._last: dict[Source, Detections] = {}
        self._peeked: Result | Failure | None = None
        self.counts: dict[Source, TrackCounts] = {}

    def __next__(self) -> Result | Failure:
        if self._peeked is not None:
            item, self._peeked = self._peeked, None
            return item
        return self._track(next(self._results))

    def peek(self) -> Result | Failure | None:
        """Return the next item without consuming it; None at the end."""
        if self._peeked is None:
            self._peeked = next(self, None)
        return self._peeked

    def stop(self) -> None:
        """Read no more; what is under way still comes out."""
        self._results.stop()

    def close(self) -> None:
        """End at once."""
        self._results.close()

    def _track(self, item: Result | Failure) -> Result | Failure:
        if isinstance(item, Failure):
            return item
        found = item.detections
        if item.source.kind != "image":
            found = self._repeated(item.source) if item.frame.stale else self._updated(item)
        kept = above(found, self._limits.score_thresh)
        return replace(item, detections=kept, candidates=found if self._keep_candidates else None)

    def _tracks_of(self, source: Source) -> SourceTracks:
        if source not in self._tracks:
            if source.kind == "video":  # files come one after the other; streams beside each other
                self._tracks.clear()
                self._last.clear()
            self._tracks[source] = SourceTracks(self._options, self._limits)
        return self._tracks[source]

    def _updated(self, result: Result) -> Detections:
        source = result.source
        own = self._tracks_of(source)
        found = own.update(result.frame, result.detections)
        assert found.tracks is not None
        self.counts[source] = TrackCounts(own.started, found.tracks.shapes)
        self._last[source] = found
        return found

    def _repeated(self, source: Source) -> Detections:
        """What the last frame showed; nothing has moved since."""
        found = self._last[source]
        return replace(found, tracks=found.tracks and found.tracks.without_events())
