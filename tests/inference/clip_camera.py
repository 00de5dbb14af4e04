"""detect.py with a clip in place of camera 0: ``python -m tests.inference.clip_camera CLIP [flags of detect.py]``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import cv2

from yolofpn.cli import detect
from yolofpn.sources.live import camera


class ClipCamera:
    """cv2.VideoCapture of a camera that sees a clip again and again, at its own speed."""

    def __init__(self, clip: str) -> None:
        self._clip = clip
        self._reader = cv2.VideoCapture(clip)
        self._interval = 1 / self._reader.get(cv2.CAP_PROP_FPS)
        self._due = time.monotonic()

    def isOpened(self) -> bool:
        return self._reader.isOpened()

    def read(self) -> tuple[bool, Any]:
        self._due += self._interval
        time.sleep(max(0.0, self._due - time.monotonic()))
        delivered, image = self._reader.read()
        if not delivered:
            self._reader = cv2.VideoCapture(self._clip)
            delivered, image = self._reader.read()
        return delivered, image

    def release(self) -> None:
        self._reader.release()


class _Cv2:
    """What the camera's file uses of cv2."""

    VideoCapture = staticmethod(lambda number: ClipCamera(sys.argv[1]))


if __name__ == "__main__":
    vars(camera).update(cv2=_Cv2, Path=lambda _: Path("/"))  # as if there were a /dev/video0
    raise SystemExit(detect.main(sys.argv[2:]))
