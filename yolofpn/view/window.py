"""Windows on the screen, if there is a screen."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from yolofpn.errors import UserError
from yolofpn.opencv import cv2
from yolofpn.structures import Image
from yolofpn.text import command

LARGEST = (720, 1280)  # height and width that a window opens with
CLOSED = "closed"  # in place of a key: the window's own button was pressed
_ESCAPE = 27
_POLL_MS = 50  # between looks at whether the window was closed, or Ctrl-C pressed
_PROBE = "import cv2; cv2.namedWindow('probe', cv2.WINDOW_NORMAL); cv2.waitKey(1); cv2.destroyAllWindows()"
_PROBE_SECONDS = 30


class Window:
    """Shows images in a window, which opens with the first image, and returns pressed keys.

    Call ``check_display`` before the first one. All windows belong to the main thread, and to ``close`` together.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._open = False

    def show(self, image: Image) -> None:
        """Show ``image`` ([H, W, 3] uint8, BGR) until the next one comes."""
        if not self._open:
            self._open_for(image)
        cv2.imshow(self.title, image)

    def key(self, seconds: float = 0.0) -> str:
        """The key that is pressed in any window within ``seconds``: a character, '' for none, 'q' for Escape.

        ``CLOSED`` says that the user closed this window.
        """
        deadline = time.monotonic() + seconds
        while True:
            left_ms = round((deadline - time.monotonic()) * 1000)
            code = cv2.waitKey(min(max(left_ms, 1), _POLL_MS))
            if self.was_closed():
                return CLOSED
            if code != -1:
                return "q" if code & 0xFF == _ESCAPE else chr(code & 0xFF)
            if left_ms <= _POLL_MS:
                return ""

    def was_closed(self) -> bool:
        """Return whether the user closed the window."""
        try:
            return cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # Qt answers nothing once its last window is gone
            return True

    def _open_for(self, image: Image) -> None:
        cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        height, width = image.shape[:2]
        scale = min(1.0, LARGEST[0] / height, LARGEST[1] / width)
        cv2.resizeWindow(self.title, max(1, round(width * scale)), max(1, round(height * scale)))
        self._open = True


def close_windows() -> None:
    """Close all windows."""
    cv2.destroyAllWindows()


def check_display() -> None:
    """OpenCV aborts the whole process where it finds no display, so a process of its own tries first.

    Raises:
        UserError: if there is no display, or OpenCV was built without windows.
    """
    if not any("GUI:" in line and "NONE" not in line for line in cv2.getBuildInformation().splitlines()):
        raise UserError(f"--show: this OpenCV has no windows (opencv-python has them): {_hint()}")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError(f"--show: there is no display here (DISPLAY is not set): {_hint()}")
    try:
        subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=True, timeout=_PROBE_SECONDS)
    except subprocess.SubprocessError:
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or "of this computer"
        raise UserError(f"--show: display {display} does not answer: {_hint()}") from None


def _hint() -> str:
    return f"use {command('demo')}, or omit --show"
