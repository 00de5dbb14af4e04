"""Cameras: what arrives, and clear words where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from yolofpn.errors import InputError
from yolofpn.sources.live.camera import connect_camera
from yolofpn.sources.live.capture import Patience, Shot
from yolofpn.sources.resolve import resolve_sources


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


def connect(number: int) -> Iterator[Shot]:
    return connect_camera(number, f"camera {number}", Patience())


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.VideoCapture", FakeCapture)
    monkeypatch.setattr("sys.platform", "elsewhere")  # where there is no /dev/video0 to look for
    FakeCapture.released = 0


@pytest.mark.usefixtures("cameras")
def test_frames_until_the_camera_stops() -> None:
    shots = connect(0)
    assert [int(next(shots)()[0, 0, 0]) for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(InputError, match="camera 0: stopped delivering after 4 frames"):
        next(shots)
    assert FakeCapture.released == 1


@pytest.mark.usefixtures("cameras")
def test_a_camera_is_released_when_it_is_no_longer_wanted() -> None:
    (source,) = resolve_sources(["0"])
    assert (source.kind, source.name, source.relative_path) == ("stream", "camera 0", Path("camera-0"))
    with source.open_live() as capture:
        capture.wait(5)
        frame = capture.take()
    assert frame is not None
    assert (frame.source, frame.image.shape) == ("camera 0", (4, 6, 3))
    assert FakeCapture.released >= 1


@pytest.mark.usefixtures("cameras")
def test_camera_in_use() -> None:
    with pytest.raises(InputError, match="camera 1: cannot be opened"):
        next(connect(1))
    assert FakeCapture.released == 1


def test_no_such_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert not Path("/dev/video987").exists()
    with pytest.raises(InputError, match=r"camera 987: there is no such camera \(present: "):
        next(connect(987))
