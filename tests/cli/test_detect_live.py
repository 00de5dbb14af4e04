"""``detect.py`` on cameras, by its command: interrupted, never there, and with standard output."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from tests.commands import Outcome, call
from tests.inference.live_fakes import END, FakeCamera, until
from tests.tiny_detector import RED, quarters, write_tiny
from yolofpn.cli import detect as command
from yolofpn.sources import kinds as source_kinds
from yolofpn.sources.live import capture as live
from yolofpn.sources.live.capture import Patience, Shot


@pytest.fixture(autouse=True)
def short_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "JOIN_SECONDS", 0.05)
    monkeypatch.setattr(live, "PATIENCE", Patience(first_pause=0.01, longest_pause=0.02))


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> list[FakeCamera]:
    """Cameras 0 and 1."""
    fakes = [FakeCamera(), FakeCamera()]

    def connect(number: int, name: str, patience: Patience) -> Iterator[Shot]:
        return fakes[number].connect(patience)

    monkeypatch.setattr(source_kinds, "connect_camera", connect)
    return fakes


def detect(capsys: pytest.CaptureFixture[str], tmp_path: Path, *words: object) -> Outcome:
    return call(command.main, capsys, *words, "--weights", write_tiny(tmp_path / "w"))


@pytest.mark.slow
def test_two_cameras_until_ctrl_c(
    cameras: list[FakeCamera], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    interrupted: list[float] = []

    def user() -> None:
        for number in range(4):
            for camera in cameras:
                camera.put(quarters(RED))
            wait_for_lines(output, 2 * number + 2)
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    person = threading.Thread(target=user)
    person.start()
    outcome = detect(capsys, tmp_path, 0, 1, "--output", output)
    assert time.monotonic() - interrupted[0] < 20, "although both cameras have fallen silent"
    person.join()
    assert outcome.code == 1
    assert outcome.err == "interrupted: what was done so far is kept\n"
    assert "camera 0: 4 frames received, 0 dropped, 0 reconnects, stale for " in outcome.out
    assert "camera 1: 4 frames received, 0 dropped, 0 reconnects, stale for " in outcome.out
    assert "8 frames: found 8 red\n" in outcome.out
    for name in ("camera-0.mp4", "camera-1.mp4"):
        with av.open(str(output / name)) as container:
            assert len(list(container.decode(video=0))) == 4


def wait_for_lines(output: Path, count: int) -> None:
    path = output / "detections.jsonl"
    until(lambda: path.exists() and path.read_text().count("\n") >= count, 120)


def test_another_size_goes_on_in_another_video(
    cameras: list[FakeCamera], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"

    def camera() -> None:
        cameras[0].put(quarters(RED))
        wait_for_lines(output, 1)
        cameras[0].put("camera 0: stopped delivering after 1 frames", quarters(RED, height=96, width=64))
        wait_for_lines(output, 2)
        cameras[0].put(END)

    thread = threading.Thread(target=camera)
    thread.start()
    outcome = detect(capsys, tmp_path, 0, "--output", output)
    thread.join()
    assert outcome.code == 0
    lost, back = outcome.err.splitlines()
    assert lost == "camera 0: stopped delivering after 1 frames; trying again"
    assert back.startswith("camera 0: back after ")
    records = [json.loads(line) for line in (output / "detections.jsonl").read_text().splitlines()]
    assert [(record["width"], record["height"], record["frame"]) for record in records] == [(192, 128, 0), (64, 96, 1)]
    sizes = []
    for name in ("camera-0.mp4", "camera-0-2.mp4"):
        with av.open(str(output / name)) as container:
            sizes.append((container.streams.video[0].width, container.streams.video[0].height))
    assert sizes == [(192, 128), (64, 96)]


def test_a_camera_that_never_answers_is_exit_2(
    cameras: list[FakeCamera], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cameras[0].put(*["camera 0: cannot be opened"] * 3)
    outcome = detect(capsys, tmp_path, 0)
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "camera 0: cannot be opened; trying again",
        "failed: camera 0: cannot be opened",
        "error: no input could be read",
    ]
    assert not Path("runs").exists()


def test_lines_on_standard_output(
    cameras: list[FakeCamera], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras[0].put(quarters(RED), END)
    outcome = detect(capsys, tmp_path, 0, "--output", "-")
    assert outcome.code == 0
    (line,) = outcome.out.splitlines()
    record = json.loads(line)
    assert (record["source"], record["stale"], record["dropped"]) == ("camera 0", False, 0)
    assert record["clock"].endswith("Z")
    assert "camera 0: 1 frame received" in outcome.err
