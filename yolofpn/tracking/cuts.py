"""Finds where a video cuts from one scene to another."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from yolofpn.opencv import cv2
from yolofpn.types import Image

SIDE = 32  # pixels of the images that are compared
SAMPLES = 4  # pixels along each axis that one of them is the mean of
ALIKE = 0.5  # correlation of the brightness of two images of one scene, at least
BINS = 8  # of each channel
SHARED = 0.5  # part of the colours that two images of one scene share, at least


class CutFinder:
    """Compares each frame with the one before.

    A cut changes both what is bright where and which colours there are; a moving camera keeps the colours, a lamp that
    is switched on keeps the layout.
    """

    def __init__(self) -> None:
        self._size: tuple[int, ...] = ()
        self._small: Image | None = None
        self._layout = np.zeros(SIDE * SIDE)

    def is_cut(self, image: Image) -> bool:
        """Whether ``image`` ([H, W, 3] uint8, BGR) shows another scene than the image before; False for the first."""
        sampled = cv2.resize(image, (SIDE * SAMPLES, SIDE * SAMPLES), interpolation=cv2.INTER_NEAREST)
        small = np.asarray(cv2.resize(sampled, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        layout = small.reshape(-1, 3) @ np.full(3, 1 / 3)
        layout -= layout.mean()
        size, before, layout_before = self._size, self._small, self._layout
        self._size, self._small, self._layout = image.shape, small, layout
        if before is None:
            return False
        if size != image.shape:
            return True
        return _correlation(layout_before, layout) < ALIKE and _shared_colours(before, small) < SHARED


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """In [-1, 1], of values whose mean is 0; two images without any contrast are alike."""
    norms = float(first @ first), float(second @ second)
    flat = max(norms) < len(first)  # a standard deviation below 1
    return 1.0 if flat else float(first @ second) / max(math.sqrt(norms[0] * norms[1]), 1e-9)


def _shared_colours(first: Image, second: Image) -> float:
    """In [0, 1]."""
    counts = [cv2.calcHist([image], [0, 1, 2], None, [BINS] * 3, [0, 256] * 3) for image in (first, second)]
    return float(np.minimum(*counts).sum()) / SIDE**2
