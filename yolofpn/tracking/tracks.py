"""The tracks of a tracker in arrays, so that a frame costs a few NumPy calls and not many for each track."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from yolofpn.ops.array_boxes import Floats
from yolofpn.tracking.library import FRAME_RATE

# Variances in pixels and frames, as the library trackers 2.6.1 has them for ByteTrack.
MEASUREMENT_NOISE = 0.1
POSITION_NOISE = 0.01
SPEED_NOISE = 0.01
FIRST_SPREAD = (1.0, 0.0, 1.0)
NEARLY_A_FRAME = 0.12  # frames by which a step may miss a frame and still has the noise of one: 4 ms


def _none(*shape: int) -> Floats:
    return np.zeros(shape)


@dataclass
class Tracks:
    """N objects, each followed by a Kalman filter: its box moves at a constant velocity that noise disturbs.

    Coordinates are independent of each other and have the same noise, so the covariance matrix of a track (8x8) is
    four times the same one of position and speed, which is kept once.

    Attributes:
        boxes: [N, 4] xyxy, pixels.
        speeds: [N, 4], pixels in a frame.
        spread: [3, N]: variance of the position, covariance, variance of the speed.
        ids: [N]; -1: seen once only.
        unseen: [N], seconds since a detection was matched.
    """

    boxes: Floats = field(default_factory=lambda: _none(0, 4))
    speeds: Floats = field(default_factory=lambda: _none(0, 4))
    spread: Floats = field(default_factory=lambda: _none(3, 0))
    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    unseen: Floats = field(default_factory=lambda: _none(0))

    def predict(self, seconds: float) -> None:
        """Move all tracks on by so many seconds."""
        step = seconds * FRAME_RATE
        position, both, speed = self.spread
        noise = (POSITION_NOISE, 0.0, SPEED_NOISE)
        if abs(step - 1) > NEARLY_A_FRAME:  # that of an acceleration that is constant meanwhile
            noise = (SPEED_NOISE * step**4 / 4, SPEED_NOISE * step**3 / 2, SPEED_NOISE * step**2)
        self.boxes += step * self.speeds
        position += step * (2 * both + step * speed) + noise[0]
        both += step * speed + noise[1]
        speed += noise[2]
        self.unseen += seconds

    def correct(self, rows: NDArray[np.int64], boxes: Floats) -> None:
        """Take in the boxes [M, 4] that were detected of the tracks of ``rows`` [M]."""
        position, both, speed = self.spread[:, rows]
        gain, speed_gain = position / (position + MEASUREMENT_NOISE), both / (position + MEASUREMENT_NOISE)
        error = boxes - self.boxes[rows]
        self.boxes[rows] += gain[:, None] * error
        self.speeds[rows] += speed_gain[:, None] * error
        self.spread[:, rows] = (1 - gain) * position, (1 - gain) * both, speed - speed_gain * both
        self.unseen[rows] = 0

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Drop the tracks that are not ``kept`` [N]."""
        if not kept.all():
            self.boxes, self.speeds, self.spread = self.boxes[kept], self.speeds[kept], self.spread[:, kept]
            self.ids, self.unseen = self.ids[kept], self.unseen[kept]

    def add(self, boxes: Floats) -> None:
        """Start tracks at boxes [M, 4]."""
        count = len(boxes)
        if count:
            self.boxes = np.concatenate([self.boxes, boxes])
            self.speeds = np.concatenate([self.speeds, _none(count, 4)])
            self.spread = np.concatenate([self.spread, np.repeat(np.array(FIRST_SPREAD)[:, None], count, axis=1)], 1)
            self.ids = np.concatenate([self.ids, np.full(count, -1)])
            self.unseen = np.concatenate([self.unseen, _none(count)])
