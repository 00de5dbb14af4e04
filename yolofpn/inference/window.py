"""A window on the screen, if there is a screen."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2

from yolofpn.errors import UserError
from yolofpn.structures import Image

_PROBE = "import cv2; cv2.namedWindow('probe', cv2.WINDOW_NORMAL); cv2.waitKey(1); cv2.destroyAllWindows()"


class Window:
    """Shows pictures as they come; q, Escape or the window's own button closes it.

    Raises:
        UserError: there is no display, or OpenCV was built without windows.
    """

    def __init__(self, title: str) -> None:
        _check_display()
        self.title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        self._sized = False

    def show(self, image: Image, wait_ms: int = 1) -> bool:
        """Show ``image`` ([H, W, 3] uint8, BGR) for at least ``wait_ms``; False once the user has had enough."""
        if not self._sized:
            scale = min(1.0, 1280 / image.shape[1], 720 / image.shape[0])
            cv2.resizeWindow(self.title, round(image.shape[1] * scale), round(image.shape[0] * scale))
            self._sized = True
        cv2.imshow(self.title, image)
        key = cv2.waitKey(wait_ms) & 0xFF
        return key not in (ord("q"), 27) and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Take the window off the screen."""
        cv2.destroyAllWindows()


def _check_display() -> None:
    """OpenCV aborts the whole process where it finds no display, so a process of its own tries first."""
    if not any("GUI:" in line and "NONE" not in line for line in cv2.getBuildInformation().splitlines()):
        raise UserError("--show: this OpenCV has no windows: pip install --force-reinstall --no-deps opencv-python")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError("--show: there is no display here (DISPLAY is not set): leave --show away and look in --output")
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False, timeout=60)
    if probe.returncode != 0:
        raise UserError(f"--show: display {os.environ.get('DISPLAY', '')} does not answer: leave --show away")
