"""What ``--show`` shows, on a screen that only remembers."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.commands import Outcome, call
from tests.inference.fakes import two_found
from tests.inference.live_fakes import shade
from tests.inference.screens import Screen
from tests.tiny_detector import RED, quarters, write_tiny
from tests.videos import write_video
from yolofpn.cli import detect as command
from yolofpn.results import Result
from yolofpn.sources.kinds import Source
from yolofpn.structures import Detections, Frame, Limits
from yolofpn.view import viewer as viewer_module
from yolofpn.view.viewer import Viewer, draw_caption


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    return Screen(monkeypatch)


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(viewer_module, "draw_caption", lambda image, text, alarm: texts.append(text))
    return texts


def viewer(said: list[str] | None = None) -> Viewer:
    return Viewer("score", Limits(score_thresh=0.5), (said if said is not None else []).append)


def result_of(kind: str, *, name: str = "x", time: float = 0.0, live: dict[str, object] | None = None) -> Result:
    source = Source(name, kind, Path(name), lambda: iter(()))  # type: ignore[arg-type]
    frame = Frame(shade(200, 60, 80), name, time=time, **live or {})  # type: ignore[arg-type]
    found = two_found()
    return Result(source, frame, found.filter(score_thresh=0.5), 0.031, found)


def seen_objects(screen: Screen) -> int:
    """How many of the two objects (scores .9 and .25) can be seen in the last image."""
    image = screen.shown[-1][1]
    return int(not np.array_equal(image[30, 10], (200,) * 3)) + int(not np.array_equal(image[30, 79], (200,) * 3))


def test_an_image_stays_until_a_key_that_does_nothing_else(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # "s" saves a snapshot
    screen.press("", "+", "s", "", "x")
    shown = viewer()
    assert shown.show(result_of("image"))
    assert screen.codes == []


def test_space_goes_on_from_an_image_and_q_quits(screen: Screen) -> None:
    screen.press("", " ", "", "q")
    shown = viewer()
    assert shown.show(result_of("image"))
    assert not shown.show(result_of("image"))
    assert screen.opened == ["yolofpn"]


@pytest.mark.parametrize("kind", ["video", "stream"])
def test_frames_go_on_by_themselves_until_q(screen: Screen, kind: str) -> None:
    screen.press("", "x", "q")
    shown = viewer()
    assert [shown.show(result_of(kind)) for _ in range(3)] == [True, True, False]


def test_closing_the_window_quits(screen: Screen) -> None:
    screen.closed_after = 0
    assert not viewer().show(result_of("video"))


def test_closing_any_of_several_windows_quits(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: set[str] = set()
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, _: float(title not in closed))
    shown = viewer()
    assert all(shown.show(result_of("stream", name=name)) for name in "ab")
    closed.add("yolofpn: a")
    assert not shown.idle()


def test_space_stops_and_goes_on(screen: Screen, captions: list[str]) -> None:
    screen.press(" ", "", "x", "+", " ")
    assert viewer().show(result_of("video"))
    assert screen.codes == []
    assert [text.startswith("paused   ") for text in captions] == [False, True, True]
    screen.press(" ", "", "q")
    assert not viewer().show(result_of("video"))


def test_keys_move_what_is_seen(screen: Screen) -> None:
    shown = viewer()
    screen.press(*"------")
    counts = []
    for _ in range(6):
        shown.show(result_of("stream"))
        counts.append(seen_objects(screen))
    assert counts == [1, 1, 1, 1, 1, 2], "from .5 down to .2, where the object of .25 is seen"
    screen.press(" ", *"+++++++++++++", " ")
    assert shown.show(result_of("stream"))
    assert (seen_objects(screen), screen.codes) == (1, [])
    screen.press("+")
    shown.show(result_of("stream"))
    assert seen_objects(screen) == 0


def test_idle_looks_at_the_keyboard(screen: Screen) -> None:
    shown = viewer()
    assert shown.idle()
    assert screen.waits == []
    shown.show(result_of("stream"))
    screen.press("x", "q")
    assert shown.idle()
    assert not shown.idle()


def test_snapshots_are_numbered_and_named(screen: Screen, tmp_path: Path) -> None:
    said: list[str] = []
    shown = viewer(said)
    shown.snapshots = tmp_path / "out" / "snapshots"
    screen.press("s", "s")
    for _ in range(2):
        shown.show(result_of("stream"))
    assert said == [f"snapshot: {shown.snapshots / f'{number}.png'}" for number in (1, 2)]
    saved = cv2.imread(str(shown.snapshots / "1.png"))
    result = result_of("stream")
    assert saved is not None
    assert np.array_equal(saved, result.detections.draw(result.frame.image)), "the boxes, without the caption"


def test_a_snapshot_that_cannot_be_written_does_not_end_the_run(screen: Screen, tmp_path: Path) -> None:
    said: list[str] = []
    shown = viewer(said)
    (tmp_path / "file").touch()
    shown.snapshots = tmp_path / "file" / "snapshots"
    screen.press("s")
    assert shown.show(result_of("stream"))
    assert said[0].startswith("no snapshot: ")


def test_the_caption_of_a_live_source(screen: Screen, captions: list[str]) -> None:
    shown = viewer()
    clock = datetime.now(UTC) - timedelta(seconds=0.25)
    for dropped in (0, 3, 4):
        shown.show(result_of("stream", live={"clock": clock, "dropped": dropped}))
    fps, latency, dropped_text, threshold = captions[-1].split("   ")
    assert fps.endswith(" FPS")
    assert 250 <= int(latency.removeprefix("latency ").removesuffix(" ms")) < 2000
    assert (dropped_text, threshold) == ("7 dropped", "threshold .50")
    shown.show(result_of("stream", live={"clock": clock, "stale": True}))
    assert captions[-1] == f"no signal since {clock.astimezone():%H:%M:%S}   7 dropped   threshold .50"


def test_the_caption_of_files(screen: Screen, captions: list[str]) -> None:
    shown = viewer()
    screen.press("", "")
    for moment in (0.0, 0.01):
        shown.show(result_of("video", time=moment))
    assert captions[-1].split("   ")[1:] == ["network 31 ms", "threshold .50"]
    assert captions[-1].split("   ")[0].endswith(" FPS")
    screen.press("x")
    shown.show(result_of("image"))
    assert captions[-1] == "network 31 ms   threshold .50"


def test_each_live_source_has_its_window(screen: Screen) -> None:
    shown = viewer()
    for name in ("rtsp://a", "rtsp://b", "rtsp://a"):
        shown.show(result_of("stream", name=name))
    assert screen.opened == ["yolofpn: rtsp://a", "yolofpn: rtsp://b"]


def test_a_video_never_runs_faster_than_its_own_speed(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after it was held up: the frames behind the slow one keep their distance from it."""
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: pass_time(milliseconds / 1000))

    def pass_time(seconds: float) -> int:
        nonlocal clock
        clock += seconds
        return -1

    shown, shown_at = viewer(), []
    for index, work in enumerate([0.0, 0.02, 0.5, 0.0, 0.0]):
        pass_time(work)
        shown.show(result_of("video", time=index * 0.1))
        shown_at.append(round(clock - 100, 2))
    assert shown_at == pytest.approx([0.0, 0.1, 0.6, 0.7, 0.8], abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 30), (48, 64), (480, 640), (1080, 1920), (10, 5000)])
def test_the_caption_fits_any_image(height: int, width: int) -> None:
    image = shade(90, height, width)
    draw_caption(image, "24.8 FPS   latency 1083 ms   12 dropped   threshold .25", alarm=True)
    assert image.shape == (height, width, 3)
    if height >= 20:
        assert (image[: height // 2] == 90).all(), "only the bottom is covered"
        assert (image == (0, 0, 200)).all(axis=2).any()


def test_taking_windows_off_the_screen(screen: Screen) -> None:
    with viewer():
        pass
    assert screen.destroyed == 0
    with viewer() as shown:
        shown.show(result_of("video"))
    assert screen.destroyed == 1


def run_viewer(capsys: pytest.CaptureFixture[str], tmp_path: Path, *words: object) -> Outcome:
    output = ["--weights", write_tiny(tmp_path / "w"), "--output", tmp_path / "out"]
    return call(command.main, capsys, *words, *output, "--show")


def test_quitting_ends_the_run_and_keeps_what_was_done(
    screen: Screen, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Result] = []
    original = Viewer.show

    def show(self: Viewer, result: Result) -> bool:
        calls.append(result)
        if len(calls) == 3:
            screen.press("q")
        return original(self, result)

    monkeypatch.setattr(Viewer, "show", show)
    outcome = run_viewer(capsys, tmp_path, write_video(tmp_path / "clip.mp4", [quarters(RED)] * 30))
    assert (outcome.code, outcome.err) == (0, "")
    count = len((tmp_path / "out" / "detections.jsonl").read_text().splitlines())
    assert 3 <= count < 30
    assert f"{count} frames: found {count} red" in outcome.out
    assert screen.destroyed == 1


def test_files_keep_the_threshold_of_the_run(
    screen: Screen, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = (0, 0, 140)  # sigmoid(20 * 140 / 255 - 10) ** 2 = .53
    cv2.imwrite(str(tmp_path / "x.png"), quarters(RED, weak))
    seen: list[Detections] = []
    original = Viewer.show

    def show(self: Viewer, result: Result) -> bool:
        assert result.candidates is not None
        seen.append(result.candidates)
        return original(self, result)

    monkeypatch.setattr(Viewer, "show", show)
    screen.press("-", "-", "x")
    outcome = run_viewer(capsys, tmp_path, tmp_path / "x.png", "--score-thresh", 0.6)
    assert (outcome.code, outcome.err) == (0, "")
    (line,) = (tmp_path / "out" / "detections.jsonl").read_text().splitlines()
    assert [found["score"] for found in json.loads(line)["detections"]] == pytest.approx([1.0], abs=0.001)
    assert "found 1 red" in outcome.out
    assert seen[0].scores.tolist() == pytest.approx([1.0, 0.53], abs=0.02)
