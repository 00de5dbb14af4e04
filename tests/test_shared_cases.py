"""Files of real tools and devices that were once read wrong, each through the command that a user types.

They lie beside the test data, in YOLOFPN_TEST_CASES or ../shared/cases, whose README says what is right.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from tests.commands import call
from tests.inference.live_fakes import until
from tests.training.small import write_cfg
from yolofpn.cli.detect import main as detect
from yolofpn.cli.evaluate import main as evaluate
from yolofpn.cli.train import main as train
from yolofpn.darknet.cfg import parse_cfg
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import write_layers

RED = (200.0, 120.0, 248.0, 216.0)  # the one box of most of them
Boxes = dict[str, list[tuple[float, ...]]]


@pytest.fixture(scope="module")
def cases() -> Path:
    folder = Path(os.environ.get("YOLOFPN_TEST_CASES", Path(__file__).resolve().parents[2] / "shared" / "cases"))
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}: set YOLOFPN_TEST_CASES to the folder that holds them")
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("yolofpn.evaluation.evaluation_run.write_plots", lambda *_: None)


@pytest.fixture
def read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Boxes, str]]:
    """The objects that ``evaluate.py --verify`` writes as the truth of a data set, by image, and what it printed."""

    def run(data: Path, names: Sequence[str], split: str = "train") -> tuple[Boxes, str]:
        weights = write_blank(tmp_path / "blank", names)
        flags = ["--split", split, "--workers", 0, "--backend", "torch", "--output", tmp_path / "out", "--verify"]
        outcome = call(evaluate, capsys, "--weights", weights, "--data", data, *flags)
        assert outcome.code == 0, outcome.err
        tree = json.loads((tmp_path / "out" / "truth.coco.json").read_text())
        files = {image["id"]: Path(image["file_name"]).name for image in tree["images"]}
        boxes: Boxes = {name: [] for name in files.values()}
        for item in tree["annotations"]:
            x, y, width, height = item["bbox"]
            if not item["iscrowd"]:
                boxes[files[item["image_id"]]].append((x, y, x + width, y + height))
        return boxes, outcome.out

    return run


def write_blank(stem: Path, names: Sequence[str]) -> Path:
    """Weights of a detector of these classes that finds nothing."""
    cfg = (
        f"[net]\nwidth=32\nheight=32\n[convolutional]\nfilters={5 + len(names)}\nsize=1\nstride=32\nactivation=linear\n"
        f"[yolo]\nanchors=32,32\nnum=1\nmask=0\nclasses={len(names)}\n"
    )
    network = DarknetNetwork(parse_cfg(cfg, "blank.cfg"))
    bias = network.weight_layers()[0].conv.bias
    assert bias is not None
    bias.fill_(-20.0)
    stem.with_suffix(".cfg").write_text(cfg)
    stem.with_suffix(".names").write_text("\n".join(names) + "\n")
    write_layers(stem.with_suffix(".weights"), network.weight_layers())
    return stem.with_suffix(".weights")


def coco128(data_dir: Path) -> tuple[Boxes, list[str]]:
    """Its objects by image, and its classes."""
    tree = json.loads(next((data_dir / "coco128" / "annotations").glob("*.json")).read_text())
    files = {image["id"]: image["file_name"] for image in tree["images"]}
    boxes: Boxes = {name: [] for name in files.values()}
    for item in tree["annotations"]:
        x, y, width, height = item["bbox"]
        if not item["iscrowd"]:
            boxes[files[item["image_id"]]].append((x, y, x + width, y + height))
    return boxes, [category["name"] for category in tree["categories"]]


def with_images(data_dir: Path, folder: Path, stems: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    for stem in stems:
        (folder / f"{stem}.jpg").symlink_to(data_dir / "coco128" / "images" / "train2017" / f"{stem}.jpg")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("writer", "rounding"),
    [("cvat", 0.02), ("devkit", 1), ("labelimg", 1), ("labelstudio", 2), ("roboflow", 1)],
)
def test_voc_writers(
    writer: str, rounding: float, cases: Path, data_dir: Path, tmp_path: Path, read: Callable[..., tuple[Boxes, str]]
) -> None:
    data = tmp_path / writer  # nothing else tells LabelImg's from the devkit's
    shutil.copytree(cases / "voc-writers" / writer / "Annotations", data / "Annotations")
    stems = [path.stem for path in (data / "Annotations").iterdir()]
    with_images(data_dir, data / "JPEGImages", stems)
    truth, names = coco128(data_dir)
    found, said = read(data, names, "all")
    assert len(found) == len(stems) > 5 and "VOC corners" in said
    for name, boxes in found.items():
        np.testing.assert_allclose(boxes, truth[name], atol=rounding)


@pytest.mark.slow
def test_brush_masks_are_objects(
    cases: Path, data_dir: Path, tmp_path: Path, read: Callable[..., tuple[Boxes, str]]
) -> None:
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    source = cases / "cvat-coco-brush" / "instances_train.json"
    shutil.copy(source, tmp_path / "data" / "annotations")
    tree = json.loads(source.read_text())
    with_images(data_dir, tmp_path / "data" / "images", [Path(image["file_name"]).stem for image in tree["images"]])
    found, _ = read(tmp_path / "data", [category["name"] for category in tree["categories"]], "all")
    assert sum(map(len, found.values())) == 16


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("coco-no-bbox/ds", ["cup"]),
        ("coco-string-ids/category", ["cup"]),
        ("coco-string-ids/hashes", ["cup"]),
        ("coco-string-ids/strings", ["cup"]),
        ("coco-string-ids/via", ["cup"]),
        ("keypoint-labels/kpt17x3", ["person"]),
        ("keypoint-labels/kpt4x3", ["person"]),
        ("keypoint-labels/kpt8x2", ["person"]),
        ("labelme/labelme", ["cup"]),
        ("labelme/labelme2coco", ["cup"]),
        ("labelme/labelme2coco/mine.yaml", ["cup"]),
        ("track-labels/ds", ["person"]),
    ],
)
def test_the_red_box(data: str, names: list[str], cases: Path, read: Callable[..., tuple[Boxes, str]]) -> None:
    found, _ = read(cases / data, names, "train" if data.startswith("keypoint") else "all")
    first = found[min(found)]
    assert len(first) == 1
    np.testing.assert_allclose(first[0], RED, atol=0.05)


def test_a_rotated_rectangle(cases: Path, read: Callable[..., tuple[Boxes, str]]) -> None:
    found, _ = read(cases / "cvat-coco-rotated", ["pen", "leaf"])
    assert any(np.allclose(box, (300, 140, 340, 340), atol=0.05) for box in found["a.png"])


@pytest.mark.slow
def test_images_resized_after_labelling(
    cases: Path, read: Callable[..., tuple[Boxes, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    found, said = read(cases / "voc-resized" / "ds", ["person"])
    np.testing.assert_allclose(found["train0.jpg"], [(100, 60, 124, 108)], atol=0.01)
    assert "resized" in said
    outcome = call(train, capsys, "--cfg", write_cfg(Path()), "--data", cases / "voc-resized" / "ds", "--dry-run")
    assert outcome.code == 0 and "resized" in outcome.out


def test_class_numbers_of_savetxt(cases: Path, read: Callable[..., tuple[Boxes, str]]) -> None:
    found, _ = read(cases / "savetxt-classes" / "ds", ["0", "1"], "all")
    assert all(found.values())
    tree = json.loads(Path("out/truth.coco.json").read_text())
    assert {item["category_id"] for item in tree["annotations"]} == {0, 1}


@pytest.mark.slow
def test_one_image(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--cfg", write_cfg(Path()), "--data", cases / "one-image" / "one", "--output", "run", "--weights", "none"]
    assert call(train, capsys, *flags, "train.epochs=1", "--device", "cpu").code == 0
    assert Path("run/weights.safetensors").is_file()


@pytest.mark.parametrize("stem", ["scaled-yolov4/mini", "scaled-yolov4/greedy", "one-channel/gray"])
def test_cfgs_as_opencv_reads_them(stem: str, cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = cases / f"{stem}.cfg"
    weights = cases / ("one-channel/gray.weights" if "gray" in stem else "scaled-yolov4/mini.weights")
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    if "gray" in stem:
        image = np.repeat(image[:, :, :1], 3, axis=2)
    cv2.imwrite("a.png", image)
    flags = ["--weights", weights, "--cfg", cfg, "--backend", "torch", "--media", "none", "--output", "out"]
    assert call(detect, capsys, "a.png", *flags, "--score-thresh", 0.05, "--nms-thresh", 1, "--max-det", 1000).code == 0
    found = json.loads(Path("out/detections.jsonl").read_text())["detections"]
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    gray = "gray" in stem
    net.setInput(cv2.dnn.blobFromImage(image[:, :, :1] if gray else image, 1 / 255, swapRB=not gray))
    raw = net.forward(net.getLayerNames()[-2]).reshape(-1, 6).astype(np.float64)  # before [yolo], by cell and anchor
    raw = 1 / (1 + np.exp(-raw)) if gray else raw  # new_coords: the cfg's own logistic
    scores = np.sort(raw[:, 4] * raw[:, 5])[::-1]
    assert len(found) == (scores > 0.05).sum() > 20
    np.testing.assert_allclose([item["score"] for item in found], scores[: len(found)], atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames", "seconds", "sound"),
    [
        ("cat_back_to_the_same_time0.ts", 40, 4.0, False),
        ("cat_forward_by_1_h2.ts", 40, 4.0, False),
        ("cam-joined.ts", 60, 4.0, True),
        ("hold.mp4", None, 4.0, True),
        ("pause.gif", None, 2.9, False),
        ("ff60.webp", 60, 1.0, False),
        ("ff60.apng", 60, 1.0, False),
    ],
)
def test_videos_keep_their_length(
    name: str,
    frames: int | None,
    seconds: float,
    sound: bool,
    cases: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines, written = detected(cases / "video" / name, weights, capsys)
    assert frames in (None, len(lines))
    times = [line["time"] for line in lines]
    assert times[0] == 0 and times == sorted(times) and times[-1] < seconds
    assert duration_of(written) == pytest.approx(seconds, abs=0.06)
    with av.open(written) as container:
        assert bool(container.streams.audio) is sound


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hlg.mp4", "pq.mp4"])
def test_hdr_becomes_sdr(name: str, cases: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = cv2.imread(str(cases / "video" / "bars-expected.png"))
    assert expected is not None
    _, written = detected(cases / "video" / name, weights, capsys)
    capture = cv2.VideoCapture(str(written))
    _, frame = capture.read()
    capture.release()
    height, width = expected.shape[:2]
    frame = cv2.resize(frame, (width, height))
    for x in range(width // 16, width, width // 8):
        wanted, got = (bgr[height // 2, x].astype(int) for bgr in (expected, frame))
        assert np.abs(wanted - got).max() < 40, (x, wanted, got)


def test_exif_within_frames(cases: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = detected(cases / "exif-frames" / "timelapse.mov", weights, capsys)
    assert len(lines) == 4


@pytest.mark.slow
def test_a_camera_with_exif_in_its_frames_beside_a_healthy_one(
    cases: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server of the cases: one address sends frames with EXIF, the other the same without."""
    odd, healthy = "http://127.0.0.1:8095/", "http://127.0.0.1:8096/"
    lines = Path("out/detections.jsonl")
    over = threading.Event()

    def frames_of(source: str) -> list[dict[str, Any]]:
        written = lines.read_text().split("\n")[:-1] if lines.exists() else []
        return [line for line in map(json.loads, written) if line["source"] == source and not line["stale"]]

    def user() -> None:
        try:
            until(lambda: over.is_set() or min(len(frames_of(odd)), len(frames_of(healthy))) >= 5, 120)
        finally:
            if not over.is_set():
                os.kill(os.getpid(), signal.SIGINT)

    server = subprocess.Popen([sys.executable, "camera.py"], cwd=cases / "exif-frames", stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(8095) and _answers(8096))
        person = threading.Thread(target=user)
        person.start()
        flags = ["--weights", weights, "--backend", "torch", "--media", "none", "--output", "out"]
        outcome = call(detect, capsys, odd, healthy, *flags)
        over.set()
        person.join()
    finally:
        server.kill()
        server.wait()
    assert (outcome.code, outcome.err) == (1, "interrupted: what was done so far is kept\n")
    assert len(frames_of(odd)) >= 5
    expected = 0
    for line in frames_of(healthy):  # none is missing that no newer one replaced
        assert line["frame"] == expected + line["dropped"]
        expected = line["frame"] + 1
    assert expected >= 5


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def detected(source: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], Path]:
    """The lines of ``detect.py``, and the video that it wrote."""
    outcome = call(
        detect, capsys, source, "--weights", weights, "--backend", "torch", "--output", "out", "--score-thresh", 1
    )
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in Path("out/detections.jsonl").read_text().splitlines()]
    return lines, next(path for path in Path("out").iterdir() if path.suffix == ".mp4")


def duration_of(path: Path) -> float:
    """Of the video stream, to the end of its last frame."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        end = max(packet.pts + (packet.duration or 0) for packet in packets if packet.pts is not None)
        start = min(packet.pts for packet in packets if packet.pts is not None)
        return float((end - start) * Fraction(stream.time_base))
