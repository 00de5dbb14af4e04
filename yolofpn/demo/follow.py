"""Tracks the objects of a live view or video of one user, if wanted."""

from __future__ import annotations

from yolofpn.demo.limits import SettingLimits
from yolofpn.inference.predictor import Predictor
from yolofpn.structures import Detections, Frame
from yolofpn.tracking.source_tracks import SourceTracks, TrackOptions, followed
from yolofpn.view.shown_thresholds import above


class Follower:
    """The tracks of one source up to now.

    Args:
        predictor: that detects.
        limits: of the server: their lowest score threshold holds here, too.
        track: whether objects are tracked; else detections stay as they are.

    Attributes:
        limits: with which the predictor detects; None: its own.

    Raises:
        UserError: the library for tracking is missing.
    """

    def __init__(self, predictor: Predictor, limits: SettingLimits, *, track: bool) -> None:
        self.limits = followed(predictor.limits, limits.score_thresh) if track else None
        self._predictor = predictor
        self._tracks = SourceTracks(TrackOptions(), predictor.limits) if track else None

    def follow(self, frame: Frame, found: Detections) -> Detections:
        """The detections of the next frame with their ids."""
        if self._tracks is None:
            return found
        return above(self._tracks.update(frame, found), self._predictor.limits.score_thresh)
