"""Frames of a camera at this computer, through OpenCV."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from yolofpn.errors import InputError
from yolofpn.structures import Frame


def read_camera(number: int, name: str, vid_stride: int = 1) -> Iterator[Frame]:
    """Frames of camera ``number`` as they come, with the time of day (UTC) of each.

    Args:
        number: 0 is the first camera.
        name: what frames and error messages call it.
        vid_stride: every n-th frame is given.

    Raises:
        InputError: there is no such camera, another program uses it, or it stops delivering.
    """
    # OpenCV would print warnings of its own for a number that does not exist.
    if sys.platform == "linux" and not Path(f"/dev/video{number}").exists():
        present = ", ".join(sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video[0-9]*")))
        raise InputError(f"{name}: there is no such camera (present: {present or 'none'}); check the number and cable")
    capture = cv2.VideoCapture(number)
    try:
        if not capture.isOpened():
            raise InputError(f"{name}: cannot be opened; close other programs that use it, or try another number")
        index = 0
        start = 0.0
        while True:
            delivered, image = capture.read()
            if not delivered:
                raise InputError(f"{name}: stopped delivering after {index} frames; check its cable")
            now, clock = time.monotonic(), datetime.now(UTC)
            start = start or now
            if index % vid_stride == 0:
                yield Frame(image.astype(np.uint8, copy=False), name, index, now - start, clock=clock)
            index += 1
    finally:
        capture.release()
