"""Cuts between scenes, and what is none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from yolofpn.tracking.cuts import CutFinder
from yolofpn.types import Image


def scene(seed: int, size: tuple[int, int] = (240, 320)) -> Image:
    """Large coloured areas."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), rng.integers(256, size=3), np.uint8)
    for _ in range(12):
        centre = tuple(int(side) for side in rng.integers(0, size[::-1]))
        cv2.circle(image, centre, int(rng.integers(20, 90)), rng.integers(256, size=3).tolist(), cv2.FILLED)
    return image


def cuts(*images: Image) -> list[bool]:
    finder = CutFinder()
    return [finder.is_cut(image) for image in images]


def test_another_scene_or_size_is_a_cut() -> None:
    first, second = scene(1), scene(2)
    assert cuts(first, first, second, second, first) == [False, False, True, False, True]
    assert cuts(first, scene(1, (120, 160))) == [False, True]


def test_motion_light_and_noise_are_no_cuts() -> None:
    image = scene(3)
    moved = np.roll(image, 60, axis=1)
    dark = (image // 3).astype(np.uint8)
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 25, image.shape), 0, 255).astype(np.uint8)
    black, gray = np.zeros_like(image), np.full_like(image, 10)
    assert not any(cuts(image, moved, image, dark, image, noisy))
    assert not any(cuts(black, gray, black))


@pytest.mark.slow
def test_real_videos_have_cuts_where_they_are_joined(data_dir: Path) -> None:
    clips = []
    for name, step in (("library1.mp4", 6), ("one-by-one-person-detection.mp4", 20)):
        video = cv2.VideoCapture(str(data_dir / "videos" / name))
        frames = [frame for index in range(4 * step) if (frame := video.read()[1]) is not None and index % step == 0]
        clips.append([np.asarray(cv2.resize(frame, (320, 240)), np.uint8) for frame in frames])
    found = cuts(*clips[0], *clips[1])
    assert [index for index, cut in enumerate(found) if cut] == [len(clips[0])]
