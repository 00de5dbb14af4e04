"""``detect.py`` by its command: what goes in, what is printed, what lies in the folder afterwards."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, get_args

import av
import cv2
import numpy as np
import pytest

import yolofpn.__main__
from tests.commands import Outcome, call
from tests.tiny_detector import BLACK, GREEN, RED, quarters, write_tiny
from tests.videos import write_video
from yolofpn.cli import detect as command
from yolofpn.config import ResizeMode
from yolofpn.drawing import LabelStyle
from yolofpn.inference.detection_run import _run_name
from yolofpn.shipped import sample_images
from yolofpn.sinks.media import MediaChoice
from yolofpn.sources.kinds import camera_source, url_source

pytestmark = pytest.mark.usefixtures("in_own_folder")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images, one of them in a folder of its own."""
    (tmp_path / "images" / "more").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images" / "a.png"), quarters(RED, GREEN, RED))
    cv2.imwrite(str(tmp_path / "images" / "more" / "b.png"), quarters(height=64, width=64))
    return tmp_path / "images"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Six frames; a red quarter shows in the first three."""
    frames = [quarters(RED if index < 3 else BLACK) for index in range(6)]
    return write_video(tmp_path / "clip.mp4", frames)


def detect(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    return call(command.main, capsys, *words)


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def names_of(record: dict[str, Any]) -> list[str]:
    return [found["name"] for found in record["detections"]]


def test_flags_offer_what_there_is() -> None:
    choices = {action.dest: action.choices for action in command.build_parser()._actions}
    assert choices["resize"] == ("auto", *get_args(ResizeMode))
    assert choices["media"] == get_args(MediaChoice)
    assert choices["labels"] == get_args(LabelStyle)


def test_a_folder(images: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = detect(capsys, images, "--weights", weights)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    cfg, names = weights.with_suffix(".cfg"), weights.with_suffix(".names")
    assert lines[:2] == [f"cfg: {cfg} (found by its name)", f"names: {names} (found)"]
    assert lines.pop(2).startswith("resize: ") and lines.pop(2).startswith("backend: ")
    assert re.fullmatch(rf"{images}/a\.png 192x128: 2 red 1\.00, 1 potted plant 1\.00 \(\d+ ms\)", lines[2])
    assert re.fullmatch(rf"{images}/more/b\.png 64x64: nothing \(\d+ ms\)", lines[3])
    assert lines[4] == "2 images: found 2 red, 1 potted plant"
    assert re.fullmatch(r"[\d.]+ FPS network, [\d.]+ FPS end to end", lines[5])
    assert lines[6:] == ["results: runs/detect/images-1"]
    output = Path("runs/detect/images-1")
    written = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    assert written == ["a.png", "detections.jsonl", "more/b.png"]
    first, second = records((output / "detections.jsonl").read_text())
    assert first["detections"][0] == {"box": [0, 0, 96, 64], "score": 0.9999, "label": 0, "name": "red"}
    assert (second["width"], second["height"], second["detections"]) == (64, 64, [])


def test_runs_never_overwrite_each_other_unless_named(
    images: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        outcome = detect(capsys, images / "a.png", "--weights", weights)
        assert outcome.out.endswith(f"results: runs/detect/a-{number}\n")
    for name in ("a.png", "more/b.png"):
        outcome = detect(capsys, images / name, "--weights", weights, "--output", "named")
        assert outcome.out.endswith("results: named\n")
    assert len(records(Path("named/detections.jsonl").read_text())) == 1


def test_a_video(video: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = detect(capsys, "--source", video, "--weights", weights, "--batch-size", 4)
    assert outcome.code == 0
    assert outcome.out.splitlines()[4:6] == [f"{video}: 6 frames", "6 frames: found 3 red"]
    output = Path("runs/detect/clip-1")
    found = records((output / "detections.jsonl").read_text())
    assert [(record["frame"], record["time"]) for record in found] == [(i, i / 10) for i in range(6)]
    assert [names_of(record) for record in found] == [["red"]] * 3 + [[]] * 3
    with av.open(str(output / "clip.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(128, 192, 3)] * 6
    # The frame is drawn: something other than red and black stands along the box of the first frames only.
    assert (np.ptp(frames[5].astype(int), axis=2) < 40).all()
    assert (np.ptp(frames[0].astype(int), axis=2) > 40).any()


def test_images_and_videos_are_counted_apart(
    images: Path, video: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = detect(capsys, images, video, "--weights", weights, "--vid-stride", 2, "--batch-size", 3)
    assert "2 images and 3 frames: found 4 red, 1 potted plant\n" in outcome.out


def test_more_than_twenty_images(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "many").mkdir()
    for number in range(23):
        cv2.imwrite(str(tmp_path / "many" / f"{number:02}.png"), quarters(RED, height=64, width=64))
    outcome = detect(capsys, "many", "--weights", weights, "--media", "none")
    lines = outcome.out.splitlines()[4:]  # behind cfg, names, resize and backend
    assert [line.split()[0] for line in lines[:20]] == [f"many/{number:02}.png" for number in range(20)]
    assert lines[20:22] == ["more images: 3 images", "23 images: found 23 red"]


def test_bar_on_a_terminal(
    video: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert detect(capsys, video, "--weights", weights, "--media", "none").code == 0
    assert re.search(rf"{video}: 100%.*6/6", terminal.getvalue())
    assert "6 frames: found 3 red" in terminal.getvalue()


def test_json_lines_on_standard_output_stand_there_alone(
    images: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = detect(capsys, images, "--weights", weights, "--output", "-")
    assert outcome.code == 0
    assert [sorted(names_of(record)) for record in records(outcome.out)] == [["potted plant", "red", "red"], []]
    assert "2 images: found 2 red, 1 potted plant" in outcome.err
    assert not Path("runs").exists()


def test_list_on_standard_input(
    images: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"# two\n{images}/a.png\n{images}/more\n"))
    outcome = detect(capsys, "-", "--weights", weights)
    assert outcome.code == 0
    assert outcome.out.endswith("results: runs/detect/stdin-1\n")
    assert "2 images: found" in outcome.out


def test_thresholds_and_classes(images: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("faint.png", quarters((0, 0, 153), GREEN))  # red .776, green .9999

    def found(*words: object) -> list[str]:
        return names_of(records(detect(capsys, "faint.png", "--weights", weights, "--output", "-", *words).out)[0])

    assert found() == ["potted plant", "red"]
    assert found("--score-thresh", 0.8) == ["potted plant"]
    assert found("--conf", 0.7) == ["potted plant", "red"]
    assert found("--classes", "RED") == ["red"]
    assert found("--classes", "Potted-Plant", "0") == ["potted plant", "red"]
    assert found("--classes", "PottedPlant") == ["potted plant"]
    outcome = detect(capsys, "--weights", weights, "--output", "-", "--classes", "red", images / "a.png")
    assert {each["name"] for each in records(outcome.out)[0]["detections"]} == {"red"}
    assert found("--max-det", 1) == ["potted plant"]
    # A box that covers others of its class by less than the threshold stays beside them: none do here, at any.
    assert found("--iou", 0) == ["potted plant", "red"]


def test_size_and_resize(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("wide.png", np.full((32, 64, 3), RED, np.uint8))

    def boxes(*words: object) -> list[list[float]]:
        outcome = detect(capsys, "wide.png", "--weights", weights, "--output", "-", *words)
        return sorted(found["box"] for found in records(outcome.out)[0]["detections"])

    quarter_boxes = [[0, 0, 32, 16], [0, 16, 32, 32], [32, 0, 64, 16], [32, 16, 64, 32]]
    assert boxes() == boxes("--resize", "stretch") == quarter_boxes
    assert boxes("--img-size", "32x64") == [[0, 0, 32, 32], [32, 0, 64, 32]]
    assert boxes("--imgsz=32x64", "--resize", "letterbox") == [[0, 0, 32, 32], [32, 0, 64, 32]]
    # In 64 x 64 the image fills rows 16..47, so only the lower cells begin in it.
    assert boxes("--resize", "letterbox") == [[0, 16, 32, 32], [32, 16, 64, 32]]
    assert boxes("--resize", "shortest-edge", "--img-size", "16x64") == [[0, 0, 64, 32]]


def test_formats_and_media(images: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--format", "jsonl,coco,csv,yolo,labels,crops", "--media", "hits", "--labels", "none", "--output", "out"]
    assert detect(capsys, images, "--weights", weights, *words).code == 0
    output = Path("out")
    assert {path.name for path in output.iterdir()} == {
        *("a.png", "crops", "dataset", "detections.coco.json", "detections.csv", "detections.jsonl"),
        *("images.json", "labels"),
    }
    results = json.loads((output / "detections.coco.json").read_text())
    assert results[0]["bbox"] == [0, 0, 96, 64]
    assert (output / "labels" / "a.txt").read_text().startswith("0 0.250000 0.250000 0.500000 0.500000 0.9999")
    assert len(list((output / "crops" / "red").iterdir())) == 2


def test_media_none_writes_only_numbers(images: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detect(capsys, images, "--weights", weights, "--nosave", "--output", "out")
    assert [path.name for path in Path("out").iterdir()] == ["detections.jsonl"]


def test_the_installed_command_opens_the_same_command(
    images: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = call(yolofpn.__main__.main, capsys, "detect", images / "a.png", "--weights", weights, "--output", "-")
    assert (outcome.code, len(records(outcome.out))) == (0, 1)


def test_without_source_and_weights_what_ships_with_the_project_is_used(
    images: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "clone" / "weights"
    monkeypatch.setattr("yolofpn.shipped._WEIGHTS_FOLDERS", (own,))
    outcome = detect(capsys)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 2)
    assert "the default weights are missing" in outcome.err
    assert "yolov3-tiny, which is downloaded" in outcome.err

    digest = hashlib.sha256(write_tiny(own).read_bytes()).hexdigest()
    (own / "SHA256SUMS").write_text(f"{digest}  tiny.weights\n")
    outcome = detect(capsys)
    assert outcome.code == 0
    assert f"weights: {own / 'tiny.weights'} (the default weights; sha256 verified)" in outcome.out
    assert outcome.out.endswith("results: runs/detect/sample_images-1\n")
    written = records(Path("runs/detect/sample_images-1/detections.jsonl").read_text())
    assert [Path(each["source"]) for each in written] == sample_images()


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("photos", "photos"),
        ("photos/", "photos"),
        ("a/photos/**/*.jpg", "photos"),
        ("-", "stdin"),
        ("dog.jpg", "dog.jpg"),
    ],
)
def test_runs_are_called_after_their_first_source(spec: str, name: str) -> None:
    assert _run_name(spec, camera_source(0)) == name


def test_run_of_the_folder_one_is_in_is_called_after_it(tmp_path: Path) -> None:
    assert _run_name(".", camera_source(0)) == _run_name("*.jpg", camera_source(0)) == tmp_path.name


def test_passwords_never_name_a_folder() -> None:
    for url in ("rtsp://admin:secret@10.0.0.5:554", "rtsp://admin:secret@10.0.0.5/live?password=secret"):
        name = _run_name(url, url_source(url))
        assert name
        assert "secret" not in name
        assert "admin" not in name
    assert _run_name("0", camera_source(0)) == "camera-0"


def test_odd_file_names(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkdir("odd")  # noqa: PTH102
    _, encoded = cv2.imencode(".png", quarters(RED))
    for name in (b"odd/\xff.png", "odd/größe [1] %d.png".encode()):
        Path(os.fsdecode(name)).write_bytes(encoded.tobytes())
    outcome = detect(capsys, "odd", "--weights", weights)
    assert outcome.code == 0
    assert "2 images: found 2 red" in outcome.out
    assert "größe [1] %d.png 192x128" in outcome.out
    assert "\\udcff.png 192x128" in outcome.out
    assert len(list(Path("runs/detect/odd-1").iterdir())) == 3
