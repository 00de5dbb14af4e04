"""A window on the screen, if there is a screen."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2

from yolofpn.errors import UserError
from yolofpn.structures import Image

LARGEST = (720, 1280)  # height and width that a window opens with
QUIT_KEYS = (ord("q"), 27)  # 27 is Escape
_POLL_MS = 50  # between looks at whether the window was closed, or Ctrl-C pressed
_PROBE = "import cv2; cv2.namedWindow('probe', cv2.WINDOW_NORMAL); cv2.waitKey(1); cv2.destroyAllWindows()"
_PROBE_SECONDS = 30


class Window:
    """Shows pictures as they come; q, Escape or the window's own button ends that. It opens with the first picture.

    A context manager, which takes it off the screen.

    Raises:
        UserError: there is no display, or OpenCV was built without windows.
    """

    def __init__(self, title: str) -> None:
        _check_display()
        self.title = title
        self._open = False

    def show(self, image: Image, *, wait_for_key: bool = False) -> bool:
        """Show ``image`` ([H, W, 3] uint8, BGR) until the next one, or a key, comes; False to stop showing more."""
        if not self._open:
            self._open_for(image)
        cv2.imshow(self.title, image)
        while True:
            key = cv2.waitKey(_POLL_MS if wait_for_key else 1)
            if (key != -1 and key & 0xFF in QUIT_KEYS) or self._was_closed():
                return False
            if key != -1 or not wait_for_key:
                return True

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            cv2.destroyAllWindows()

    def _was_closed(self) -> bool:
        try:
            return cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # Qt answers nothing once its last window is gone
            return True

    def _open_for(self, image: Image) -> None:
        cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        height, width = image.shape[:2]
        scale = min(1.0, LARGEST[0] / height, LARGEST[1] / width)
        cv2.resizeWindow(self.title, max(1, round(width * scale)), max(1, round(height * scale)))
        self._open = True


def _check_display() -> None:
    """OpenCV aborts the whole process where it finds no display, so a process of its own tries first."""
    if not any("GUI:" in line and "NONE" not in line for line in cv2.getBuildInformation().splitlines()):
        raise UserError("--show: this OpenCV has no windows: pip install --force-reinstall --no-deps opencv-python")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError("--show: there is no display here (DISPLAY is not set): leave --show away and look in --output")
    try:
        subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=True, timeout=_PROBE_SECONDS)
    except subprocess.SubprocessError:
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or "of this computer"
        raise UserError(f"--show: display {display} does not answer: leave --show away and look in --output") from None
