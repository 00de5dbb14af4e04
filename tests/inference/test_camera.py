"""Cameras: live frames with the time of day, and clear words where there is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from yolofpn.errors import InputError
from yolofpn.inference.camera import read_camera


class FakeCapture:
    """Stands in for cv2.VideoCapture: camera 0 delivers four frames, camera 1 is in use by someone else."""

    released = 0

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0

    def isOpened(self) -> bool:
        return self.number == 0

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        self.count += 1
        return (False, None) if self.count > 4 else (True, np.full((4, 6, 3), self.count, np.uint8))

    def release(self) -> None:
        FakeCapture.released += 1


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.VideoCapture", FakeCapture)
    monkeypatch.setattr("sys.platform", "elsewhere")  # where there is no /dev/video0 to look for
    FakeCapture.released = 0


@pytest.mark.usefixtures("cameras")
def test_frames_until_the_camera_stops() -> None:
    frames = read_camera(0, "camera 0")
    given = list(islice(frames, 4))
    assert [frame.index for frame in given] == [0, 1, 2, 3]
    assert [int(frame.image[0, 0, 0]) for frame in given] == [1, 2, 3, 4]
    assert given[0].time == 0.0
    assert all(before.time <= after.time for before, after in pairwise(given))
    for frame in given:
        assert frame.clock is not None
        assert abs(datetime.now(UTC) - frame.clock) < timedelta(minutes=1)
        assert frame.clock.utcoffset() == timedelta(0)
    with pytest.raises(InputError, match="camera 0: stopped delivering after 4 frames"):
        next(frames)
    assert FakeCapture.released == 1


@pytest.mark.usefixtures("cameras")
def test_stride() -> None:
    frames = read_camera(0, "camera 0", 3)
    assert [frame.index for frame in islice(frames, 2)] == [0, 3]


@pytest.mark.usefixtures("cameras")
def test_camera_in_use() -> None:
    with pytest.raises(InputError, match="camera 1: cannot be opened; close other programs"):
        next(read_camera(1, "camera 1"))
    assert FakeCapture.released == 1


def test_no_such_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert not Path("/dev/video987").exists()
    with pytest.raises(InputError, match=r"camera 987: there is no such camera \(present: "):
        next(read_camera(987, "camera 987"))
