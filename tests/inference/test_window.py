from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.doors import call
from tests.tiny_detector import RED, quarters, write_tiny
from tests.videos import write_video
from yolofpn.cli import detect as door
from yolofpn.errors import UserError
from yolofpn.inference import window as window_module
from yolofpn.inference.window import Window

PICTURE = np.zeros((100, 50, 3), np.uint8)


class Screen:
    """In place of OpenCV's windows: remembers what it was told, and has keys pressed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: list[int]) -> None:
        self.keys = keys  # what waitKey answers; -1 is no key
        self.closed_after = 10**9  # calls of waitKey
        self.waits: list[int] = []
        self.opened: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self.shown = 0
        self.destroyed = 0
        monkeypatch.setattr(window_module, "_check_display", lambda: None)
        monkeypatch.setattr(cv2, "namedWindow", lambda title, flags: self.opened.append(title))
        monkeypatch.setattr(cv2, "resizeWindow", lambda title, width, height: self.sizes.append((width, height)))
        monkeypatch.setattr(cv2, "imshow", self._imshow)
        monkeypatch.setattr(cv2, "waitKey", self._wait)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: float(len(self.waits) <= self.closed_after))
        monkeypatch.setattr(cv2, "destroyAllWindows", self._destroy)

    def _imshow(self, title: str, image: object) -> None:
        self.shown += 1

    def _wait(self, milliseconds: int) -> int:
        assert milliseconds > 0, "waiting without end could not be interrupted"
        self.waits.append(milliseconds)
        return self.keys.pop(0)

    def _destroy(self) -> None:
        self.destroyed += 1


def test_picture_stays_until_a_key_is_pressed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, [-1, -1, ord("x"), -1, ord("q")])
    with Window("x") as window:
        assert window.show(PICTURE, wait_for_key=True)
        assert len(screen.waits) == 3
        assert not window.show(PICTURE, wait_for_key=True)
    assert (screen.opened, screen.shown, screen.destroyed) == (["x"], 2, 1)


def test_video_goes_on_until_q_or_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, [-1, -1, ord("x"), 27])
    window = Window("x")
    assert [window.show(PICTURE) for _ in range(4)] == [True, True, True, False]
    assert screen.waits == [1] * 4


def test_closing_the_window_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, [-1] * 9)
    screen.closed_after = 2
    assert not Window("x").show(PICTURE, wait_for_key=True)
    assert len(screen.waits) == 3


@pytest.mark.parametrize(
    ("shape", "size"), [((100, 50), (50, 100)), ((1440, 1280), (640, 720)), ((10, 20_000), (1280, 1)), ((1, 1), (1, 1))]
)
def test_window_opens_no_larger_than_a_screen(
    shape: tuple[int, int], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen(monkeypatch, [-1, -1])
    window = Window("x")
    for _ in range(2):
        window.show(np.zeros((*shape, 3), np.uint8))
    assert screen.sizes == [size]


def test_nothing_opens_where_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, [])
    with Window("x"):
        pass
    assert (screen.opened, screen.destroyed) == ([], 0)


def test_quitting_ends_the_run_and_keeps_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen(monkeypatch, [-1, -1, ord("q")])
    video = write_video(tmp_path / "clip.mp4", [quarters(RED)] * 6)
    output = tmp_path / "out"
    words = ["--weights", write_tiny(tmp_path / "w"), "--output", output, "--view-img"]
    outcome = call(door.main, capsys, video, *words)
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 frames: found 3 red" in outcome.out
    assert len((output / "detections.jsonl").read_text().splitlines()) == 3
    assert (screen.shown, screen.destroyed) == (3, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
@pytest.mark.parametrize(("display", "message"), [("", "there is no display here"), (":987", "display :987 does not")])
def test_no_display_is_one_line_and_exit_2(
    display: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    outcome = call(door.main, capsys, "x.jpg", "--weights", write_tiny(tmp_path / "w"), "--show")
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_opencv_without_windows_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  Media:\n  GUI:                           NONE\n")
    with pytest.raises(UserError, match="this OpenCV has no windows"):
        Window("x")


@pytest.fixture
def virtual_display() -> Iterator[str]:
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("needs Xvfb (Debian package xvfb)")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writer), "-screen", "0", "640x480x24", "-nolisten", "tcp"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(reader) as chosen:
        number = chosen.readline().strip()
    if not number:
        server.wait()
        pytest.skip("Xvfb does not start here")
    yield f":{number}"
    server.terminate()
    server.wait()


def test_window_on_a_real_display(virtual_display: str) -> None:
    script = """
import cv2, numpy as np
from yolofpn.inference.window import Window
with Window("x") as window:
    for shape in ((100, 200, 3), (1, 1, 3), (10, 20000, 3)):
        assert window.show(np.full(shape, 255, np.uint8)), shape
    wait = cv2.waitKey
    cv2.waitKey = lambda milliseconds: (cv2.destroyWindow("x"), wait(milliseconds))[1]
    assert not window.show(np.zeros((9, 9, 3), np.uint8), wait_for_key=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"DISPLAY": virtual_display, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
