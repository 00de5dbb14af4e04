"""In place of OpenCV's windows: remembers what it was told, and has keys pressed."""

from __future__ import annotations

import cv2
import pytest

from yolofpn.inference import detection_run
from yolofpn.structures import Image


class Screen:
    """Every window of the test.

    Attributes:
        codes: what waitKey answers, one by one; then -1, no key.
        closed_after: calls of waitKey after which the user closes the window.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.codes: list[int] = []
        self.closed_after = 10**9
        self.waits: list[int] = []
        self.opened: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self.shown: list[tuple[str, Image]] = []
        self.destroyed = 0
        monkeypatch.setattr(detection_run, "check_display", lambda: None)
        monkeypatch.setattr(cv2, "namedWindow", lambda title, flags: self.opened.append(title))
        monkeypatch.setattr(cv2, "resizeWindow", lambda title, width, height: self.sizes.append((width, height)))
        monkeypatch.setattr(cv2, "imshow", lambda title, image: self.shown.append((title, image)))
        monkeypatch.setattr(cv2, "waitKey", self._wait)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: float(len(self.waits) <= self.closed_after))
        monkeypatch.setattr(cv2, "destroyAllWindows", self._destroy)

    def press(self, *keys: str) -> None:
        """These keys are pressed one after the other; '' is a look at the keyboard without one."""
        self.codes += [ord(key) if key else -1 for key in keys]

    def _wait(self, milliseconds: int) -> int:
        assert milliseconds > 0, "waiting without end could not be interrupted"
        self.waits.append(milliseconds)
        return self.codes.pop(0) if self.codes else -1

    def _destroy(self) -> None:
        self.destroyed += 1
