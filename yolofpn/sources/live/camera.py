"""Cameras at this computer, through OpenCV."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from yolofpn.errors import InputError
from yolofpn.opencv import cv2
from yolofpn.sources.live.capture import Patience, Shot


def connect_camera(number: int, name: str, patience: Patience) -> Iterator[Shot]:
    """Open camera ``number`` and give what arrives.

    Args:
        number: 0 is the first camera.
        name: what error messages call it.
        patience: its time-outs, as far as the system's camera driver heeds any.

    Raises:
        InputError: if there is no such camera, another program uses it, or it stops delivering.
    """
    # OpenCV would print warnings of its own for a number that does not exist.
    if sys.platform == "linux" and not Path(f"/dev/video{number}").exists():
        present = ", ".join(sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video[0-9]*")))
        raise InputError(f"{name}: there is no such camera (present: {present or 'none'}); check the number and cable")
    capture = cv2.VideoCapture(number)
    try:
        if not capture.isOpened():
            raise InputError(f"{name}: cannot be opened; close other programs that use it, or try another number")
        count = 0
        while True:
            try:
                delivered, image = capture.read()
            except Exception as error:  # whatever a driver's frame does to OpenCV must not end the other cameras
                raise InputError(f"{name}: its frames cannot be read ({error}); try another number") from error
            if not delivered:
                raise InputError(f"{name}: stopped delivering after {count} frames; check its cable")
            yield partial(np.asarray, image, np.uint8)
            count += 1
    finally:
        capture.release()
