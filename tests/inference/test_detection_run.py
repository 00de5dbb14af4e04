"""``detect.py`` on bad input, by its command: it is named, the rest goes on, and nothing that was done is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from tests.commands import Outcome, call
from tests.tiny_detector import GREEN, RED, quarters
from tests.videos import noise, write_video
from yolofpn.cli import detect as command
from yolofpn.errors import InputError, UserError
from yolofpn.inference.detection_report import Report
from yolofpn.inference.predictor import InFlight, Predictor
from yolofpn.regular_files import open_regular_file
from yolofpn.sinks import image_files
from yolofpn.sinks.opened import Sinks
from yolofpn.structures import Image, Limits
from yolofpn.video.writer import VideoWriter

pytestmark = pytest.mark.usefixtures("good_image")


def detect(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    return call(command.main, capsys, *words)


def records(folder: str | Path) -> list[dict[str, Any]]:
    """What was written, if anything was; every line is whole."""
    path = Path(folder) / "detections.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_png(path: Path, width: int, height: int, rows: bytes) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def truncated(path: Path) -> None:
    _, data = cv2.imencode(".jpg", noise(1)[0])
    path.write_bytes(data.tobytes()[: len(data) // 2])


def corrupt(path: Path) -> None:
    _, data = cv2.imencode(".png", noise(1)[0])
    damaged = bytearray(data.tobytes())
    damaged[len(damaged) // 2 :][:64] = bytes(64)
    damaged[len(damaged) // 2 : len(damaged) // 2 + 64] = bytes(64)
    path.write_bytes(damaged)


def folder_without_images(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("no image")


def folder_of_that_name(path: Path) -> None:
    path.mkdir()


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("x.jpg", lambda path: None, "no such file"),
    "missing pattern": ("*.jpg", lambda path: None, "nothing matches this pattern"),
    "missing list": ("x.txt", lambda path: None, "no such file"),
    "empty list": ("x.txt", lambda path: path.write_text("# nothing\n"), "the list names no source"),
    "empty folder": ("x", folder_of_that_name, "no images or videos in this folder"),
    "folder without images": ("x", folder_without_images, "no images or videos in this folder"),
    "folder named as an image": ("x.jpg", folder_of_that_name, "no images or videos in this folder"),
    "truncated": ("x.jpg", truncated, "damaged or cut off"),
    "corrupt": ("x.png", corrupt, "damaged or cut off"),
    "zero bytes": ("x.jpg", lambda path: path.write_bytes(b""), "the file is empty"),
    "zero bytes of video": ("x.mp4", lambda path: path.write_bytes(b""), "cannot be opened as a video"),
    "text named as an image": ("x.jpg", lambda path: path.write_text("hello"), "not an image of a known format"),
    "text named as a video": ("x.mp4", lambda path: path.write_text("hello" * 99), "cannot be opened as a video"),
    "decompression bomb": ("x.png", lambda path: write_png(path, 60_000, 60_000, b""), "more pixels than the limit"),
    "address of nobody": ("http://127.0.0.1:9/x.jpg", lambda path: None, "127.0.0.1:9/x.jpg"),
    "unknown address": ("gopher://127.0.0.1/x", lambda path: None, "addresses of this kind are not known"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_alone_is_exit_2_and_leaves_nothing_behind(
    kind: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, make, message = BAD[kind]
    make(Path(name))
    before = sorted(Path().rglob("*"))
    outcome = detect(capsys, name, "--weights", weights)
    assert outcome.code == 2
    assert message in outcome.err
    assert name.removeprefix("http://") in outcome.err
    assert outcome.err.count("\n") <= 2
    assert "found by its name" in outcome.out
    assert "results" not in outcome.out
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_among_good_is_exit_1_and_the_rest_goes_on(
    kind: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, make, message = BAD[kind]
    make(Path(name))
    outcome = detect(capsys, name, "good.png", "--weights", weights, "--output", "out", "--batch-size", 2)
    assert outcome.code == 1
    assert outcome.err.startswith("failed: ")
    assert message in outcome.err
    assert outcome.err.count("failed: ") == 1
    assert "1 image, 1 failed: found 1 red\n" in outcome.out
    assert [record["source"] for record in records("out")] == ["good.png"]


def test_unreadable_files_are_named(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("secret.jpg").write_bytes(b"x")
    Path("secret.jpg").chmod(0)
    if os.access("secret.jpg", os.R_OK):  # root may read everything

        def refuse(path: Path) -> Any:
            if path.name == "secret.jpg":
                raise PermissionError(13, "Permission denied")
            return open_regular_file(path)

        monkeypatch.setattr("yolofpn.data.images.open_regular_file", refuse)
    outcome = detect(capsys, "secret.jpg", "good.png", "--weights", weights)
    assert outcome.code == 1
    assert outcome.err == "failed: secret.jpg: permission denied; make the file readable, e.g. with chmod a+r\n"


def test_standard_input_that_is_no_text(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stdin:
        def __iter__(self) -> Any:
            yield "good.png\n"
            b"\xff".decode("utf-8")

    monkeypatch.setattr(sys, "stdin", Stdin())
    outcome = detect(capsys, "-", "--weights", weights)
    assert outcome.code == 1
    assert outcome.err == "failed: standard input: not a list of sources; send one path per line\n"
    assert "1 image, 1 failed: found 1 red" in outcome.out


@pytest.mark.parametrize(("height", "width"), [(1, 1), (10, 20_000), (20_000, 10), (1, 65_600)])
@pytest.mark.parametrize("resize", ["stretch", "letterbox", "shortest-edge"])
def test_extreme_shapes_are_images_like_others(
    height: int, width: int, resize: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite("x.png", np.full((height, width, 3), GREEN, np.uint8))
    outcome = detect(capsys, "x.png", "--weights", weights, "--output", "out", "--resize", resize, "--format", "crops")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"x.png {width}x{height}: " in outcome.out
    for found in records("out")[0]["detections"]:
        left, top, right, bottom = found["box"]
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    drawn = cv2.imread("out/x.png")
    assert drawn is not None
    assert drawn.shape == (height, width, 3)


@pytest.mark.slow
def test_video_cut_in_the_middle_gives_all_frames_before(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_video(Path("whole.mkv"), noise(20))
    Path("cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    outcome = detect(capsys, "cut.mkv", "--weights", weights, "--output", "out", "--batch-size", 5)
    assert outcome.code == 1
    assert outcome.err.startswith("failed: cut.mkv: damaged or cut off")
    count = len(records("out"))
    assert 2 <= count < 20
    assert f"{count} frames could be read" in outcome.err
    assert f"cut.mkv: {count} frames\n{count} frames, 1 failed: found " in outcome.out
    with av.open("out/cut.mp4") as container:
        assert len(list(container.decode(video=0))) == count


def test_output_folder_that_cannot_be_made(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("in the way")
    for output in ("file", "file/out", "/proc/out"):
        outcome = detect(capsys, "good.png", "--weights", weights, "--output", output)
        assert outcome.code == 2
        assert outcome.err.startswith(f"error: {output}: cannot be written: ")
        assert "results" not in outcome.out
    Path("runs").write_text("in the way")
    outcome = detect(capsys, "good.png", "--weights", weights)
    assert (outcome.code, "runs/detect: cannot be written" in outcome.err) == (2, True)


def test_full_disk_keeps_what_was_written(
    small_disk: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "many").mkdir()
    for number, image in enumerate(noise(20)):
        cv2.imwrite(f"many/{number:02}.png", image)
    output = small_disk / "out"
    outcome = detect(capsys, "many", "--weights", weights, "--output", output, "--score-thresh", 0)
    assert outcome.code == 2
    assert "No space left on device: free some space" in outcome.err
    assert outcome.out.endswith(f"results: {output}\n")
    done = records(output)
    written = sorted(path for path in output.glob("*.png"))
    assert 1 <= len(written) <= len(done) < 20
    for path in written:
        assert cv2.imread(str(path)) is not None


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_runs_keep_what_was_done(
    how: signal.Signals, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(Path("clip.mp4"), [quarters(RED)] * 50)
    original, calls = Predictor.start, []

    def start(self: Predictor, images: Sequence[Image], limits: Limits | None = None) -> InFlight:
        calls.append(len(images))
        if len(calls) == 4:
            while len(records("out")) < 2:  # three are on their way
                time.sleep(0.01)
            os.kill(os.getpid(), how)
        if len(calls) >= 4:
            time.sleep(0.05)
        return original(self, images, limits)

    monkeypatch.setattr(Predictor, "start", start)
    outcome = detect(capsys, "clip.mp4", "--weights", weights, "--output", "out", "--format", "coco")
    assert outcome.code == 1
    assert outcome.err == "interrupted: what was done so far is kept\n"
    assert outcome.out.endswith("results: out\n")
    done = len(records("out"))
    assert 3 <= done < 50
    assert f"\n{done} frames: found {done} red\n" in outcome.out
    assert len(json.loads(Path("out/detections.coco.json").read_text())) == done
    with av.open("out/clip.mp4") as container:
        assert len(list(container.decode(video=0))) == done


def test_a_result_that_left_the_queue_is_counted(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(Path("clip.mp4"), [quarters(RED)] * 20)
    original, added = Report.take, []

    def take(self: Report, *result: Any) -> None:
        added.append(result)
        if len(added) == 2:
            signal.raise_signal(signal.SIGINT)  # the result is in no queue any more, and not yet counted
        original(self, *result)

    monkeypatch.setattr(Report, "take", take)
    outcome = detect(capsys, "clip.mp4", "--weights", weights, "--output", "out")
    assert (outcome.code, outcome.err) == (1, "interrupted: what was done so far is kept\n")
    done = len(records("out"))
    assert 2 <= done < 20
    assert f"\n{done} frames: found {done} red\n" in outcome.out


@pytest.mark.slow
def test_interrupted_twice_nothing_is_written_to_closed_files(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(Path("clip.mp4"), [quarters(RED)] * 8)
    events: list[str] = []
    write, close = Sinks.write, Sinks.close

    def slow_write(self: Sinks, *result: Any) -> None:
        time.sleep(0.05)
        write(self, *result)
        events.append("write")

    def noted_close(self: Sinks) -> None:
        close(self)
        events.append("close")

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Sinks, "write", slow_write)
    monkeypatch.setattr(Sinks, "close", noted_close)
    monkeypatch.setattr(Report, "take", interrupt)
    outcome = detect(capsys, "clip.mp4", "--weights", weights, "--output", "out", "--media", "none")
    assert (outcome.code, outcome.err) == (1, "interrupted: what was done so far is kept\ninterrupted\n")
    time.sleep(0.2)
    assert events.index("close") >= 2 and "write" not in events[events.index("close") :]
    assert records("out")


def test_interrupted_twice_while_waiting_ends_at_once(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(Path("clip.mp4"), [quarters(RED)] * 8)
    write = Sinks.write

    def slow_write(self: Sinks, *result: Any) -> None:
        time.sleep(0.05)
        write(self, *result)

    def wait(*_: object) -> bool:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second signal must raise")

    monkeypatch.setattr(Sinks, "write", slow_write)
    monkeypatch.setattr("yolofpn.concurrency.Background.wait", wait)
    outcome = detect(capsys, "clip.mp4", "--weights", weights, "--output", "out", "--media", "none")
    assert (outcome.code, outcome.err) == (1, "interrupted\n")
    assert len(records("out")) < 8


def test_interrupted_before_anything_was_done(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Predictor, images: Sequence[Image], limits: Limits | None = None) -> InFlight:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "start", start)
    outcome = detect(capsys, "good.png", "--weights", weights)
    assert (outcome.code, outcome.err) == (1, "interrupted\n")
    assert not Path("runs").exists()


def test_image_that_no_format_takes_is_a_failure_of_its_own(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy("good.png", "other.png")
    cv2.imwrite("huge.png", quarters(RED, height=50, width=50))
    original = image_files.encode_image

    def encode(image: Image, suffix: str) -> tuple[bytes, str]:
        if image.shape[0] == 50:
            raise InputError("an image of 50x50 pixels cannot be written as .png or .png")
        return original(image, suffix)

    monkeypatch.setattr("yolofpn.sinks.media.encode_image", encode)
    outcome = detect(capsys, "good.png", "huge.png", "other.png", "--weights", weights, "--output", "out")
    assert outcome.code == 1
    assert outcome.err == "failed: huge.png: an image of 50x50 pixels cannot be written as .png or .png\n"
    assert "3 images, 1 failed: found 3 red" in outcome.out
    assert [record["source"] for record in records("out")] == ["good.png", "huge.png", "other.png"]
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["good.png", "other.png"]


def test_video_that_cannot_be_finished_is_said_after_all_else_was_done(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(Path("clip.mp4"), [quarters(RED)] * 3)

    def close(self: VideoWriter) -> None:
        raise UserError("out/clip.mp4: cannot be written: no room")

    monkeypatch.setattr(VideoWriter, "close", close)
    outcome = detect(capsys, "clip.mp4", "--weights", weights, "--output", "out")
    assert outcome.code == 2
    assert outcome.err == "error: out/clip.mp4: cannot be written: no room\n"
    assert "3 frames: found 3 red" in outcome.out
    assert outcome.out.endswith("results: out\n")
    assert len(records("out")) == 3


def test_network_that_breaks_in_the_middle_keeps_what_was_done(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = Predictor.start, []

    def start(self: Predictor, images: Sequence[Image], limits: Limits | None = None) -> InFlight:
        calls.append(len(images))
        if len(calls) == 2:
            raise UserError("cuda:0 is out of memory")
        return original(self, images, limits)

    monkeypatch.setattr(Predictor, "start", start)
    outcome = detect(capsys, "good.png", "good.png", "--weights", weights, "--output", "out")
    assert (outcome.code, outcome.err) == (2, "error: cuda:0 is out of memory\n")
    assert outcome.out.endswith("results: out\n")
    assert len(records("out")) == 1
