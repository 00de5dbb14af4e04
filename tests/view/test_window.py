from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.commands import call
from tests.inference.screens import Screen
from tests.tiny_detector import write_tiny
from yolofpn.cli import detect as command
from yolofpn.errors import UserError
from yolofpn.view.window import CLOSED, Window, check_display

IMAGE = np.zeros((100, 50, 3), np.uint8)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    return Screen(monkeypatch)


def test_a_window_opens_with_its_first_image(screen: Screen) -> None:
    window = Window("x")
    assert screen.opened == []
    for _ in range(2):
        window.show(IMAGE)
    assert (screen.opened, len(screen.shown)) == (["x"], 2)


@pytest.mark.parametrize(
    ("codes", "key"), [([-1], ""), ([ord("x")], "x"), ([27], "q"), ([0x100000 + ord("+")], "+"), ([ord(" ")], " ")]
)
def test_keys(screen: Screen, codes: list[int], key: str) -> None:
    screen.codes = codes
    window = Window("x")
    window.show(IMAGE)
    assert window.key() == key
    assert screen.waits == [1]


def test_waiting_for_a_key_ends_with_it(screen: Screen) -> None:
    screen.codes = [-1, -1, ord("x"), ord("y")]
    window = Window("x")
    window.show(IMAGE)
    assert window.key(60) == "x"
    assert screen.codes == [ord("y")]
    assert max(screen.waits) <= 50, "so that Ctrl-C and closing are noticed"


def test_waiting_for_a_key_ends_in_time(screen: Screen) -> None:
    window = Window("x")
    window.show(IMAGE)
    assert window.key(0.03) == ""
    assert 1 <= sum(screen.waits) <= 31


def test_closing_the_window_is_told(screen: Screen) -> None:
    screen.codes = [-1, -1]
    screen.closed_after = 2
    window = Window("x")
    window.show(IMAGE)
    assert window.key(60) == CLOSED
    assert len(screen.waits) == 3


@pytest.mark.parametrize(
    ("shape", "size"), [((100, 50), (50, 100)), ((1440, 1280), (640, 720)), ((10, 20_000), (1280, 1)), ((1, 1), (1, 1))]
)
def test_window_opens_no_larger_than_a_screen(shape: tuple[int, int], size: tuple[int, int], screen: Screen) -> None:
    window = Window("x")
    for _ in range(2):
        window.show(np.zeros((*shape, 3), np.uint8))
    assert screen.sizes == [size]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
@pytest.mark.parametrize(("display", "message"), [("", "there is no display here"), (":987", "display :987 does not")])
def test_no_display_is_one_line_and_exit_2(
    display: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    outcome = call(command.main, capsys, "x.jpg", "--weights", write_tiny(tmp_path / "w"), "--show")
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "demo" in outcome.err
    assert outcome.err.count("\n") == 1


def test_opencv_without_windows_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  Media:\n  GUI:                           NONE\n")
    with pytest.raises(UserError, match="windows") as error:
        check_display()
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_window_on_a_real_display(virtual_display: str) -> None:
    script = """
import cv2, numpy as np
from yolofpn.view.window import Window, check_display, close_windows
check_display()
window = Window("x")
for shape in ((100, 200, 3), (1, 1, 3), (10, 20000, 3)):
    window.show(np.full(shape, 255, np.uint8))
    assert window.key() == "", shape
wait = cv2.waitKey
cv2.waitKey = lambda milliseconds: (cv2.destroyWindow("x"), wait(milliseconds))[1]
assert window.key(10) == "closed"
close_windows()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"DISPLAY": virtual_display, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
