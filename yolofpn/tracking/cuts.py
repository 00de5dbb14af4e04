"""Finds where a video cuts from one scene to another."""

from __future__ import annotations

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
        self._layout: NDArray[np.float64] | None = None
        self._colours: NDArray[np.float64] | None = None

    def is_cut(self, image: Image) -> bool:
        """Whether ``image`` ([H, W, 3] uint8, BGR) shows another scene than the image before; False for the first."""
        height, width = image.shape[:2]
        sampled = image[:: max(height // (SIDE * SAMPLES), 1), :: max(width // (SIDE * SAMPLES), 1)]
        small = cv2.resize(sampled, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        layout = small.mean(axis=2).ravel()
        bins = (small.reshape(-1, 3) // (256 // BINS)).astype(np.int64) @ np.array([1, BINS, BINS * BINS])
        colours = np.bincount(bins, minlength=BINS**3) / len(bins)
        before = self._size, self._layout, self._colours
        self._size, self._layout, self._colours = image.shape, layout, colours
        if before[1] is None or before[2] is None:
            return False
        if before[0] != image.shape:
            return True
        return _correlation(before[1], layout) < ALIKE and float(np.minimum(before[2], colours).sum()) < SHARED


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """In [-1, 1]; two images without any contrast are alike."""
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first @ first) * (second @ second)))
    flat = max(float(first.std()), float(second.std())) < 1
    return 1.0 if flat else float(first @ second) / max(norm, 1e-9)
