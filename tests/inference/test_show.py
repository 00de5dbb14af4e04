"""``detect.py --show`` for real: a camera, a window on a virtual display, keys pressed, a screenshot looked at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.tiny_detector import RED, quarters
from tests.videos import write_video

pytestmark = pytest.mark.slow
PATIENCE = 180.0  # seconds for a program to start on a busy machine


def program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (Debian package {package})")
    return found


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


class Desk:
    """Somebody who sits before the virtual display, at a camera that sees a red square."""

    def __init__(self, display: str, graph: Path, folder: Path) -> None:
        kept = ("PATH", "HOME", "TMPDIR", "YOLOFPN_CACHE")  # not what libraries in this process have set for windows
        self._env = {name: os.environ[name] for name in kept if name in os.environ} | {
            "DISPLAY": display,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "OMP_NUM_THREADS": "1",
        }
        self._xdotool = program("xdotool", "xdotool")
        self._import = program("import", "imagemagick")
        self._folder = folder
        self.output = folder / "out"
        clip = write_video(folder / "clip.mp4", [quarters(RED)] * 10)
        flags = ["--weights", str(graph), "--output", str(self.output), "--show"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.inference.clip_camera", str(clip), "0", *flags],
            env=self._env,
            stdout=(folder / "printed.txt").open("w"),
            stderr=subprocess.STDOUT,
        )

    def focus(self) -> None:
        wait_for(lambda: self._windows() or self.process.poll() is not None, "the window")
        window = self._windows()[0]
        # Now and then OpenCV's Qt misses the news that its window is on the screen, and never paints it: told again.
        self._run(self._xdotool, "windowunmap", "--sync", window, "windowmap", "--sync", window)
        self._run(self._xdotool, "windowfocus", "--sync", window)

    def press(self, key: str) -> None:
        self._run(self._xdotool, "key", key)

    def printed(self) -> str:
        return (self._folder / "printed.txt").read_text()

    def lines(self) -> int:
        path = self.output / "detections.jsonl"
        return path.read_text().count("\n") if path.exists() else 0

    def screenshot(self) -> np.ndarray:
        path = self._folder / "screen.png"
        self._run(self._import, "-window", "root", str(path))
        image = cv2.imread(str(path))
        assert image is not None
        return image

    def red_pixels(self) -> int:
        screen = self.screenshot().astype(int)
        return int(((screen[:, :, 2] > 200) & (screen[:, :, :2].max(axis=2) < 60)).sum())

    def _windows(self) -> list[str]:
        return self._run(self._xdotool, "search", "--onlyvisible", "--name", "^yolofpn: camera 0$", check=False).split()

    def _run(self, *command: str, check: bool = True) -> str:
        return subprocess.run(
            command, env=self._env, capture_output=True, text=True, check=check, timeout=PATIENCE
        ).stdout


@pytest.fixture
def desk(virtual_display: str, tiny_graph: Path, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(virtual_display, tiny_graph, tmp_path)
    yield desk
    desk.process.kill()
    desk.process.wait()


def test_a_camera_in_a_window_with_its_keys(desk: Desk) -> None:
    desk.focus()
    wait_for(lambda: desk.lines() >= 3, "detections")
    wait_for(lambda: desk.red_pixels() > 64 * 96 // 2 or desk.process.poll() is not None, "the red quarter to be seen")
    assert desk.process.poll() is None, desk.printed()
    desk.press("s")
    wait_for((desk.output / "snapshots" / "1.png").exists, "the snapshot")
    saved = cv2.imread(str(desk.output / "snapshots" / "1.png"))
    assert saved is not None
    assert saved.shape == (128, 192, 3)
    desk.press("space")
    time.sleep(0.3)
    before = desk.lines()
    time.sleep(0.6)
    assert desk.lines() <= before + 2, "what was under way when it paused"
    desk.press("space")
    wait_for(lambda: desk.lines() > before + 5, "detections after the pause")
    desk.press("q")
    assert desk.process.wait(timeout=PATIENCE) == 0, desk.printed()
    printed = desk.printed()
    assert f"snapshot: {desk.output / 'snapshots' / '1.png'}\n" in printed
    assert "camera 0: " in printed and " dropped, 0 reconnects, stale for " in printed
