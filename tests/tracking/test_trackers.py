"""The trackers on sequences of known truth, with metrics of two independent implementations."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tracking.toy import Nearest
from tools.track_benchmark import (
    LIMITS,
    NAMES,
    compare,
    follow,
    make_sequence,
    noisy_detections,
    score_by_library,
    score_by_trackeval,
)
from yolofpn import tracking
from yolofpn.errors import UserError
from yolofpn.structures import Detections, Frame, Limits
from yolofpn.tracking import TRACKERS, library
from yolofpn.tracking.shapes import Shape
from yolofpn.tracking.source_tracks import SourceTracks, TrackOptions, followed

KEYS = [tracker.key for tracker in TRACKERS]


def boxes_at(*corners: tuple[float, float], label: int = 0, score: float = 0.9) -> Detections:
    boxes = np.array([(x, y, x + 20, y + 40) for x, y in corners], np.float32).reshape(-1, 4)
    return Detections(boxes, np.full(len(boxes), score), np.full(len(boxes), label), NAMES)


def both(first: Detections, second: Detections) -> Detections:
    boxes, scores, labels = (
        np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("boxes", "scores", "labels")
    )
    return Detections(boxes, scores, labels, NAMES)


def ids_of(*steps: tuple[float, Detections], tracker: str = "bytetrack") -> list[list[int]]:
    """Ids at each time."""
    tracks = SourceTracks(TrackOptions(tracker), LIMITS)
    blank = np.zeros((120, 160, 3), np.uint8)
    found = [tracks.update(Frame(blank, "clip", time=time), detections) for time, detections in steps]
    return [[] if each.track_ids is None else each.track_ids.tolist() for each in found]


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_objects_keep_their_ids_behind_pillars_and_each_other(key: str) -> None:
    pytest.importorskip("trackers")
    scene = make_sequence(3, objects=6, seconds=2)
    pair = compare(scene, follow(scene, noisy_detections(scene, 3), key))
    own = score_by_library(pair)
    assert own["HOTA"] > 0.75
    assert own["IDF1"] > 0.85
    assert own["MOTA"] > 0.8
    pytest.importorskip("trackeval")
    assert score_by_trackeval(pair) == pytest.approx(own, abs=1e-9)


@pytest.mark.parametrize("key", KEYS)
def test_ids_are_given_in_the_order_of_the_detections(key: str) -> None:
    pytest.importorskip("trackers")
    first, second = (10.0, 10.0), (100.0, 60.0)
    steps = [(i / 30, boxes_at(*((first, second) if i % 2 else (second, first)))) for i in range(6)]
    ids = ids_of(*steps, tracker=key)
    assert sorted(ids[-1]) == [1, 2]
    assert ids[-1] == ids[-2][::-1] == ids[-3]


@pytest.mark.parametrize("key", KEYS)
def test_a_track_has_one_class(key: str) -> None:
    """Two objects of different classes in the same place."""
    pytest.importorskip("trackers")
    person, car = boxes_at((50, 50)), boxes_at((50, 50), label=1, score=0.8)
    ids = ids_of(*((i / 30, both(person, car) if i > 2 else person) for i in range(8)), tracker=key)
    assert [row[0] for row in ids[1:]] == [1] * 7
    assert [row[1] for row in ids[6:]] == [2] * 2


def test_weak_detections_continue_tracks_and_start_none() -> None:
    pytest.importorskip("trackers")
    strong, weak = boxes_at((10, 10)), boxes_at((10, 10), score=0.15)
    lonely = boxes_at((90, 10), score=0.15)
    ids = ids_of((0.0, strong), *((i / 30, both(weak if i > 1 else strong, lonely)) for i in range(1, 6)))
    assert ids[-1] == [1, -1]


@pytest.mark.parametrize(("gap", "same"), [(1.9, True), (3.0, False)])
def test_an_interruption_of_two_seconds_keeps_ids(gap: float, *, same: bool) -> None:
    pytest.importorskip("trackers")
    steps = [(i / 30, boxes_at((20 + i, 30))) for i in range(30)]
    back = 29 / 30 + gap
    later = [(back + i / 30, boxes_at((20 + 30 * (back + i / 30), 30))) for i in range(3)]
    assert (ids_of(*steps, *later)[-1] == [1]) is same


def test_time_tells_the_tracker_what_was_skipped() -> None:
    """An object that moves by half of its width per frame is found again after three skipped frames by its time."""
    pytest.importorskip("trackers")
    times = [*range(12), 15, 16, 20, 21]
    ids = ids_of(*((i / 30, boxes_at((4.0 * i, 30))) for i in times))
    assert {row[0] for row in ids[1:]} == {1}


def test_time_that_goes_back_starts_new_ids_and_equal_times_do_not() -> None:
    pytest.importorskip("trackers")
    still = boxes_at((10, 10))
    ids = ids_of(*((time, still) for time in (0, 0.1, 0.1, 0.2, 0.0, 0.1)))
    assert ids == [[-1], [1], [1], [1], [-1], [2]]


def test_an_empty_frame_has_no_ids() -> None:
    pytest.importorskip("trackers")
    assert ids_of((0, Detections.empty()), (0.1, boxes_at((1, 1))), (0.2, Detections.empty())) == [[], [-1], []]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "is_installed", lambda _: False)
    for tracker, name in (("bytetrack", "scipy"), ("cbiou", "trackers"), ("ocsort", "trackers")):
        with pytest.raises(UserError, match=name):
            TrackOptions(tracker).check()


def test_unknown_trackers_are_refused() -> None:
    with pytest.raises(UserError, match="bytetrack"):
        TrackOptions("sorted")


def test_another_frame_size_moves_relative_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is at half of the height, 50 and then 200: an object crosses each of them once."""
    monkeypatch.setattr(tracking, "TRACKERS", (Nearest,))
    tracks = SourceTracks(TrackOptions(shapes=(Shape("line", ((0, 0.5), (1, 0.5))),)), Limits(0.1))
    rng = np.random.default_rng(0)
    counts: list[tuple[float, int]] = []
    for height, bottoms in ((100, (20, 45, 70)), (400, (150, 170, 190, 220))):
        image = rng.integers(0, 256, (height, 100, 3), dtype=np.uint8)
        for bottom in bottoms:
            time = len(counts) / 10
            found = Detections(
                np.array([[30, bottom - 20, 60, bottom]], np.float32), np.ones(1), np.zeros(1, int), ("a",)
            )
            info = tracks.update(Frame(image, "clip", len(counts), time), found).tracks
            assert info is not None
            counts.append((info.shapes[0].points[0][1], info.shapes[0].entered + info.shapes[0].left))
    assert counts == [(50, 0), (50, 0), (50, 1), (200, 1), (200, 1), (200, 1), (200, 2)]


def test_the_thresholds_of_followed_objects_have_a_floor() -> None:
    assert followed(Limits((0.5, 0.01, 0.002, 1.0)), lowest=0.01).score_thresh == (0.2, 0.01, 0.002, 1.0)
