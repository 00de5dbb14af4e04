from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from yolofpn.data.image_inputs import as_bgr
from yolofpn.data.images import read_image


def test_gray_and_transparent_arrays_are_laid_out_as_read_from_files(tmp_path: Path) -> None:
    gray = np.array([[0, 100, 255]], np.uint8)
    for array in (gray, gray[:, :, None]):
        np.testing.assert_array_equal(as_bgr(array), np.repeat(gray[:, :, None], 3, axis=2))
    bgra = np.array([[[255, 0, 0, 255], [255, 0, 0, 128], [255, 0, 0, 0]]], np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), bgra)
    expected = read_image(tmp_path / "x.png")
    assert expected[0, 2].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(as_bgr(bgra), expected)
    np.testing.assert_array_equal(as_bgr(bgra[:, :, [2, 1, 0, 3]], rgb=True), expected)
