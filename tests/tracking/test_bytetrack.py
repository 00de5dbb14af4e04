"""ByteTrack in arrays against the class of the library trackers, whose filters are objects of Python."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from yolofpn.tracking.bytetrack import ByteTrack
from yolofpn.tracking.library import TWO_ROUNDS, LibraryTracker
from yolofpn.tracking.tracker import Observed

SIZE, CLASSES = 1000.0, 3
BLANK = np.zeros((1, 1, 3), np.uint8)
# Seconds to the next frame: steady, jittering around it within and beyond the library's 4 ms, skipped frames, and gaps
# that some or all tracks do not survive.
GAPS = {1 / 30: 0.7, 1 / 30 + 0.003: 0.1, 1 / 30 + 0.006: 0.05, 1 / 60: 0.05, 0.1: 0.08, 0.5: 0.017, 3.0: 0.003}


def observations(seed: int, frames: int, objects: int) -> Iterator[Observed]:
    """Objects that wander, are born, end, and hide for up to 100 frames; misses, weak and false detections."""
    rng = np.random.default_rng(seed)
    centres, speeds = rng.uniform(0, SIZE, (objects, 2)), rng.normal(0, 4, (objects, 2))
    sides, labels = rng.uniform(15, 120, (objects, 2)), rng.integers(CLASSES, size=objects)
    born = rng.integers(frames, size=objects) * (rng.random(objects) < 0.5)
    end = born + rng.integers(5, frames, objects)
    hidden = np.zeros((frames, objects), bool)
    for number in np.repeat(np.arange(objects), rng.integers(5, size=objects)):
        start = rng.integers(frames)
        hidden[start : start + rng.integers(1, 100), number] = True
    time = 7.0
    for frame in range(frames):
        gap = rng.choice(list(GAPS), p=list(GAPS.values()))
        time += gap
        centres += speeds * gap * 30
        speeds += rng.normal(0, 0.5, speeds.shape)
        speeds[(centres < 0) | (centres > SIZE)] *= -1
        seen = (born <= frame) & (frame < end) & ~hidden[frame] & (rng.random(objects) < 0.93)
        boxes = around(centres[seen] + rng.normal(0, 2, (seen.sum(), 2)), sides[seen])
        false = int(rng.integers(4))
        boxes = np.concatenate([boxes, around(rng.uniform(0, SIZE, (false, 2)), rng.uniform(10, 80, (false, 2)))])
        own = np.concatenate([labels[seen], rng.integers(CLASSES, size=false)])
        order = rng.permutation(len(boxes))
        confidences = rng.uniform(0.2, 1, len(boxes)).astype(np.float32)
        yield Observed(boxes[order].astype(np.float32), own[order], confidences[order], time, BLANK)


def around(centres: NDArray[np.float64], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "objects"), [(0, 40), (1, 12), (2, 3)])
def test_ids_and_boxes_are_those_of_the_library(seed: int, objects: int) -> None:
    trackers = pytest.importorskip("trackers")
    own, library = ByteTrack(), LibraryTracker(lambda: trackers.ByteTrackTracker(**TWO_ROUNDS))
    followed = set()
    for observed in observations(seed, 250, objects):
        ids = own.update(observed)
        np.testing.assert_array_equal(ids, library.update(observed))
        tracks = library._tracker.tracks
        assert [track.tracker_id for track in tracks] == own.tracks.ids.tolist()
        if tracks:
            boxes = np.array([track.get_state_bbox() for track in tracks])
            np.testing.assert_allclose(own.tracks.boxes, boxes, rtol=0, atol=1e-6)
        followed |= set(ids.tolist())
    assert len(followed) > objects  # some were lost and found anew
