"""The newest frame of a source that is slow, silent, lost and back, without any real source."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.inference.live_fakes import END, QUICK, FakeCamera, shade, shades_of, until
from yolofpn.errors import InputError
from yolofpn.sources.live import capture as live
from yolofpn.sources.live.capture import Counters, Patience
from yolofpn.structures import Frame


@pytest.fixture(autouse=True)
def short_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "JOIN_SECONDS", 0.05)  # the fake camera does not notice when it is no longer wanted


def value(frame: Frame | None) -> int:
    assert frame is not None
    return int(frame.image[0, 0, 0])


def test_a_slow_taker_gets_the_newest_frame_and_the_number_of_dropped_ones() -> None:
    camera = FakeCamera(*shades_of(5))
    with camera.capture() as capture:
        until(lambda: capture.counters.received == 5)
        frame = capture.take()
        assert (value(frame), frame and frame.index, frame and frame.dropped) == (5, 4, 4)
        assert capture.take() is None
        camera.put(shade(6))
        until(lambda: capture.ready)
        frame = capture.take()
        assert (value(frame), frame and frame.index, frame and frame.dropped) == (6, 5, 0)
        assert replace(capture.counters, stale_seconds=0) == Counters(received=6, dropped=4)
    assert camera.converted == 2, "dropped frames cost no conversion"


def test_frames_tell_when_they_came() -> None:
    camera = FakeCamera(shade(1))
    with camera.capture() as capture:
        until(lambda: capture.ready)
        first = capture.take()
        camera.put(shade(2))
        until(lambda: capture.ready)
        second = capture.take()
    assert first is not None and second is not None
    assert first.time == 0.0 < second.time
    assert first.clock is not None and second.clock is not None
    assert abs((second.clock - first.clock).total_seconds() - second.time) < 0.1
    assert datetime.now(UTC) - first.clock < timedelta(minutes=1)
    assert (first.source, first.stale) == ("cam", False)


def test_stride_is_no_loss() -> None:
    camera = FakeCamera(*shades_of(7))
    with camera.capture(vid_stride=3) as capture:
        until(lambda: capture.counters.received == 3)
        frame = capture.take()
        assert (value(frame), frame and frame.index, frame and frame.dropped) == (7, 6, 2)


@pytest.mark.slow
def test_a_silent_source_repeats_its_last_frame_marked_as_stale() -> None:
    camera = FakeCamera()
    with camera.capture() as capture:
        capture.wait(0.1)
        assert capture.take() is None, "nothing can be repeated before the first frame"
        camera.put(shade(1))
        until(lambda: capture.ready)
        fresh = capture.take()
        assert capture.take() is None, "not stale yet"
        stale: list[Frame] = []
        while len(stale) < 3:
            capture.wait(0.01)
            stale += [frame for frame in [capture.take()] if frame]
        assert fresh is not None
        assert all(frame.stale and frame.image is fresh.image for frame in stale)
        assert {(frame.index, frame.clock, frame.dropped) for frame in stale} == {(0, fresh.clock, 0)}
        times = [frame.time for frame in stale]
        assert times[0] >= QUICK.stale_after
        assert times[2] - times[0] >= 2 * QUICK.stale_every
        silent = capture.counters.stale_seconds
        assert silent > 0
        camera.put(shade(2))
        until(lambda: capture.ready)
        frame = capture.take()
        assert (value(frame), frame and frame.stale, frame and frame.index) == (2, False, 1)
        assert capture.counters.stale_seconds >= silent
        ended = capture.counters.stale_seconds
        assert capture.counters.stale_seconds == ended


def test_a_lost_source_is_opened_again() -> None:
    camera = FakeCamera(shade(1), "cam: lost after 1 frames (gone)")
    with camera.capture() as capture:
        until(lambda: camera.opened == 2)
        assert value(capture.take()) == 1
        camera.put("cam: refused", "cam: refused", shade(2, 8, 10))
        until(lambda: capture.ready)
        frame = capture.take()
        assert frame is not None
        assert (value(frame), frame.index, frame.size) == (2, 1, (8, 10))
        assert (camera.opened, capture.counters.reconnects) == (4, 1)
        lost, back = capture.news()
        assert lost == "cam: lost after 1 frames (gone); trying again"
        assert back.startswith("cam: back after ")
        assert capture.news() == []
        camera.put(END)
        until(lambda: camera.closed == camera.opened)


def test_pauses_grow_to_a_bound() -> None:
    patience = Patience(first_pause=0.5, longest_pause=30.0)
    pauses = [patience.pause(failures) for failures in (1, 2, 3, 6, 7, 8, 10_000)]
    assert pauses == [0.5, 1.0, 2.0, 16.0, 30.0, 30.0, 30.0]


def test_a_source_that_never_answers_fails_after_its_attempts() -> None:
    camera = FakeCamera("cam: refused", "cam: refused", "cam: still refused")
    with camera.capture() as capture, pytest.raises(InputError, match="refused"):
        list(capture)
    assert camera.opened >= 3


def test_a_failed_source_may_answer_after_all() -> None:
    camera = FakeCamera(*["cam: refused"] * 3)
    with camera.capture() as capture:
        until(lambda: capture.failure == "cam: refused")
        assert not capture.ended
        camera.put(shade(1))
        until(lambda: capture.ready)
        assert value(capture.take()) == 1
        assert capture.failure == ""
        assert capture.counters.reconnects == 0, "it had never been there before"
        assert [line.partition(" s")[0].rpartition(" ")[0] for line in capture.news()[1:]] == ["cam: back after"]


def test_an_end_is_no_loss() -> None:
    camera = FakeCamera(shade(1), shade(2), END)
    with camera.capture() as capture:
        until(lambda: camera.closed == 1)
        assert [value(frame) for frame in capture] == [2]
        assert capture.ended
    assert (camera.opened, capture.news()) == (1, [])


def test_closing_ends_whoever_waits() -> None:
    camera = FakeCamera()
    taken: list[Frame] = []
    with camera.capture() as capture:
        taker = threading.Thread(target=lambda: taken.extend(capture))
        taker.start()
        camera.put(shade(1))
        until(lambda: taken)
        capture.close()
        taker.join(5)
        assert not taker.is_alive()


def test_closing_ends_a_long_pause_at_once() -> None:
    camera = FakeCamera("cam: refused")
    before = set(threading.enumerate())
    with camera.capture(patience=Patience(first_pause=3600.0, longest_pause=3600.0)) as capture:
        until(lambda: capture.news())
        assert set(threading.enumerate()) != before
    until(lambda: set(threading.enumerate()) <= before)


def test_a_fault_in_the_program_reaches_the_taker() -> None:
    camera = FakeCamera(ZeroDivisionError("a bug"))
    with camera.capture() as capture, pytest.raises(ZeroDivisionError, match="a bug"):
        list(capture)
