import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from ruamel.yaml import YAML

from tests.inference.fakes import NAMES, frame_of, image_source, noise, nothing_found, two_found, video
from yolofpn.data.layouts import open_data
from yolofpn.sinks.labelled import DatasetSink
from yolofpn.sinks.yolo_results import YoloSink, yolo_lines
from yolofpn.structures import Detections, Image


def test_lengths_are_shares_of_the_image() -> None:
    """(10, 20, 30, 50) in 80 x 60: centre (20, 35), size 20 x 30."""
    assert yolo_lines(two_found(), (60, 80), scores=True).splitlines() == [
        "2 0.250000 0.583333 0.250000 0.500000 0.900000",
        "0 0.500000 0.500000 1.000000 1.000000 0.250000",
    ]
    assert yolo_lines(two_found(), (60, 80), scores=False).splitlines()[1] == "0 0.500000 0.500000 1.000000 1.000000"


def test_boxes_that_reach_out_are_cut_off() -> None:
    outside = Detections(torch.tensor([[-40.0, 30.0, 40.0, 90.0]]), torch.tensor([1.0]), torch.tensor([0]))
    assert yolo_lines(outside, (60, 80), scores=False) == "0 0.250000 0.750000 0.500000 0.500000\n"


def test_boxes_of_no_area_are_no_labels() -> None:
    flat = Detections(torch.tensor([[10.0, 30.0, 10.0, 40.0]]), torch.tensor([1.0]), torch.tensor([0]))
    assert yolo_lines(flat, (60, 80), scores=False) == ""
    assert yolo_lines(flat, (60, 80), scores=True) == "0 0.125000 0.583333 0.000000 0.166667 1.000000\n"


def test_yolo_writes_a_file_per_image_and_frame(tmp_path: Path) -> None:
    sink = YoloSink(tmp_path)
    for name in ("a/dog.jpg", "b/dog.jpg"):
        sink.write(image_source(name), frame_of(image_source(name)), two_found())
    sink.write(image_source("empty.v2.png"), frame_of(image_source("empty.v2.png")), nothing_found())
    clip = video("clip.mp4")
    for index in (0, 5):
        sink.write(clip, frame_of(clip, index=index), two_found()[:1])
    sink.close()
    written = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.txt")}
    lines = yolo_lines(two_found(), (60, 80), scores=True)
    assert written == {
        "labels/a/dog.txt": lines,
        "labels/b/dog.txt": lines,
        "labels/empty.v2.txt": "",
        "labels/clip_000000.txt": lines.splitlines(keepends=True)[0],
        "labels/clip_000005.txt": lines.splitlines(keepends=True)[0],
    }


def test_a_data_set_as_cvat_and_label_studio_expect_it(tmp_path: Path) -> None:
    sink = DatasetSink(tmp_path)
    sink.write(image_source("a/dog.png"), frame_of(image_source("a/dog.png"), noise(seed=1)), two_found())
    sink.write(image_source("cat.bmp"), frame_of(image_source("cat.bmp"), noise(seed=2)), nothing_found())
    clip = video("clip.mp4")
    sink.write(clip, frame_of(clip, index=3), two_found()[:1])
    sink.close()
    root = tmp_path / "dataset"
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()) == [
        "data.yaml",
        "train/classes.txt",
        "train/images/a__dog.png",
        "train/images/cat.png",
        "train/images/clip_000003.jpg",
        "train/labels/a__dog.txt",
        "train/labels/cat.txt",
        "train/labels/clip_000003.txt",
    ]
    assert (root / "train/labels/a__dog.txt").read_text() == yolo_lines(two_found(), (60, 80), scores=False)
    assert (root / "train/labels/cat.txt").read_text() == ""
    assert (root / "train/classes.txt").read_text() == "person\nbicycle\ndog\n"
    assert read_yaml(root / "data.yaml") == {
        "path": ".",
        "train": "train/images",
        "nc": 3,
        "names": {0: "person", 1: "bicycle", 2: "dog"},
    }
    assert np.array_equal(read(root / "train/images/a__dog.png"), noise(seed=1))


@pytest.mark.parametrize("place", ["data.yaml", "", "train"])
def test_training_reads_the_data_set_back(tmp_path: Path, place: str) -> None:
    sink = DatasetSink(tmp_path)
    sink.write(image_source("a/dog.png"), frame_of(image_source("a/dog.png"), noise(seed=1)), two_found())
    sink.write(image_source("empty.png"), frame_of(image_source("empty.png"), noise(seed=2)), nothing_found())
    sink.close()
    dataset = open_data(tmp_path / "dataset" / place).load("all")
    assert dataset.names == NAMES
    assert dataset.labelled.all()
    by_name = {Path(dataset.paths[index]).name: dataset[index] for index in range(len(dataset))}
    image, target = by_name["a__dog.png"]
    assert np.array_equal(image.numpy(), noise(seed=1)[:, :, ::-1].transpose(2, 0, 1))
    order = target.labels.argsort(descending=True)
    assert target.labels[order].tolist() == [2, 0]
    assert target.boxes[order].numpy() == pytest.approx(two_found().boxes, abs=1e-3)
    assert len(by_name["empty.png"][1]) == 0


def read(path: Path) -> Image:
    image = cv2.imread(str(path))
    assert image is not None
    return image.astype(np.uint8)


def read_yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["no", "12", "a: b # c", 'a "b"', "犬", "- x", "1e-3", "null"])
def test_every_name_survives_the_yaml(tmp_path: Path, name: str) -> None:
    sink = DatasetSink(tmp_path)
    sink.write(image_source("dog.jpg"), frame_of(image_source("dog.jpg")), two_found((name, *NAMES[1:])))
    assert read_yaml(tmp_path / "dataset" / "data.yaml")["names"][0] == name
    assert (tmp_path / "dataset" / "train" / "classes.txt").read_text(encoding="utf-8").splitlines()[0] == name


def test_without_names_classes_are_called_by_their_numbers(tmp_path: Path) -> None:
    sink = DatasetSink(tmp_path)
    sink.write(image_source("a.jpg"), frame_of(image_source("a.jpg")), nothing_found(()))
    assert read_yaml(tmp_path / "dataset" / "data.yaml")["nc"] == 0
    sink.write(image_source("b.jpg"), frame_of(image_source("b.jpg")), two_found(()))
    sink.write(image_source("c.jpg"), frame_of(image_source("c.jpg")), two_found(())[1:])
    assert read_yaml(tmp_path / "dataset" / "data.yaml")["names"] == {0: "0", 1: "1", 2: "2"}


def test_an_image_that_every_tool_reads_is_copied_bit_for_bit(tmp_path: Path) -> None:
    original = tmp_path / "dog.JPG"
    cv2.imwrite(str(original), noise())
    sink = DatasetSink(tmp_path / "out")
    sink.write(image_source("dog.JPG", original), frame_of(image_source("dog.JPG")), two_found())
    assert (tmp_path / "out/dataset/train/images/dog.jpg").read_bytes() == original.read_bytes()
    assert len(list((tmp_path / "out/dataset/train/images").iterdir())) == 1


def test_damaged_exif_data_are_passed_over_in_silence(tmp_path: Path) -> None:
    original = tmp_path / "dog.jpg"
    PillowImage.fromarray(noise()).save(original, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sink = DatasetSink(tmp_path / "out")
        sink.write(image_source("dog.jpg", original), frame_of(image_source("dog.jpg")), two_found())
    assert (tmp_path / "out/dataset/train/images/dog.jpg").read_bytes() == original.read_bytes()


def test_a_turned_image_is_written_upright(tmp_path: Path) -> None:
    """Its boxes belong to the upright image, and not every tool looks at EXIF."""
    original = tmp_path / "dog.jpg"
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.fromarray(np.zeros((80, 60, 3), np.uint8)).save(original, exif=exif)
    upright = noise(60, 80)
    sink = DatasetSink(tmp_path / "out")
    sink.write(image_source("dog.jpg", original), frame_of(image_source("dog.jpg"), upright), two_found())
    assert np.array_equal(read(tmp_path / "out/dataset/train/images/dog.png"), upright)


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "P"])
def test_unusual_kinds_of_pixels_are_written_anew(tmp_path: Path, mode: str) -> None:
    suffix = ".jpg" if mode == "CMYK" else ".png"
    original = tmp_path / f"dog{suffix}"
    PillowImage.new(mode, (80, 60)).save(original)
    sink = DatasetSink(tmp_path / "out")
    sink.write(image_source(original.name, original), frame_of(image_source(original.name)), two_found())
    assert np.array_equal(read(tmp_path / "out/dataset/train/images/dog.png"), noise())
