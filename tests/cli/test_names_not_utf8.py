"""Folders and images whose names are not UTF-8 go through every command, and what is written is read back."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.commands import call
from tests.training.small import write_cfg, write_images
from yolofpn.cli import check, detect, evaluate, train

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows' names are always Unicode")
STRANGE = os.fsdecode(b"caf\xe9")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set without a validation split in a folder ``caf\\xe9``, each image called ``caf\\xe9 NAME``."""
    plain = tmp_path / "plain"
    plain.mkdir()
    write_images(plain, count=4)
    root = plain.rename(tmp_path / STRANGE)
    shutil.rmtree(root / "images" / "val")
    for image in sorted((root / "images" / "train").iterdir()):
        label = root / "labels" / "train" / f"{image.stem}.txt"
        label.rename(label.with_stem(f"{STRANGE} {image.stem}"))
        image.rename(image.with_stem(f"{STRANGE} {image.stem}"))
    path = root / "data.yaml"
    path.write_text("format: yolo\nsplits:\n  train: {images: images/train}\nnames: [bright, dark]\n")
    return path


@pytest.mark.slow
def test_train_resume_evaluate_and_detect(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, run = data.parent, data.parent / "run"
    images = sorted((root / "images" / "train").iterdir())
    cfg = write_cfg(root)
    begun = call(train.main, capsys, "--cfg", cfg, "--data", data, "--output", run, "--epochs", 1, "--device", "cpu")
    assert begun.code == 0, begun.err
    assert call(train.main, capsys, "--resume", run, "--epochs", 2).code == 0
    held_out = (run / "val.txt").read_bytes().splitlines()
    assert [os.fsdecode(line) for line in held_out] == [
        str(image) for image in images if os.fsencode(image) in held_out
    ]
    assert len(held_out) == 1

    words = ("--weights", run, "--data", data, "--device", "cpu", "--output", root / "measured")
    assert call(evaluate.main, capsys, *words).code == 0
    settings = json.loads((root / "measured" / "results.json").read_text())["settings"]
    assert settings["data"] == str(data)

    listed = root / "train.txt"
    listed.write_bytes(b"".join(os.fsencode(image) + b"\n" for image in images))
    flags = ("--weights", run, "--device", "cpu", "--score-thresh", 0, "--max-det", 1, "--media", "none")
    found = call(detect.main, capsys, listed, *flags, "--output", root / "found", "--format", "jsonl,coco,csv,labels")
    assert found.code == 0, found.err
    assert len(found.out.splitlines()) > 4
    lines = (root / "found" / "detections.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"] for line in lines] == [str(image) for image in images]
    assert [each["file_name"] for each in json.loads((root / "found" / "images.json").read_text())] == [
        str(image) for image in images
    ]
    with (root / "found" / "detections.csv").open(errors="surrogateescape", newline="") as file:
        assert {row["source"] for row in csv.DictReader(file)} == {str(image) for image in images}
    assert call(check.main, capsys, root / "found" / "dataset").code == 0


@pytest.mark.slow
def test_a_name_with_a_line_break_is_one_line_of_every_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What training holds out is written to ``val.txt``, which check and detect read."""
    data = write_images(tmp_path, count=3)
    shutil.rmtree(tmp_path / "images" / "val")
    for image in sorted((tmp_path / "images" / "train").iterdir()):
        label = tmp_path / "labels" / "train" / f"{image.stem}.txt"
        label.rename(label.with_stem(f"#{image.stem}\r\n\x1b[2J b"))
        image.rename(image.with_stem(f"#{image.stem}\r\n\x1b[2J b"))
    data.write_text("format: yolo\nsplits:\n  train: {images: images/train}\nnames: [bright, dark]\n")
    run = tmp_path / "run"
    words = ("--cfg", write_cfg(tmp_path), "--data", data, "--output", run, "--epochs", 1, "--device", "cpu")
    begun = call(train.main, capsys, *words)
    assert begun.code == 0, begun.err
    assert "\x1b" not in begun.out + begun.err and "\r" not in begun.out + begun.err
    listed = (run / "val.txt").read_bytes()
    assert listed.count(b"\n") == 1 and b"\x1b" not in listed and b"\r" not in listed

    data.write_text(f"format: yolo\nsplits:\n  val: {{images: {run}/val.txt}}\nnames: [bright, dark]\n")
    checked = call(check.main, capsys, data, "--split", "val")
    assert checked.code == 0, checked.out
    assert "1 images" in checked.out and "2 boxes" in checked.out
    flags = ("--weights", run, "--device", "cpu", "--media", "none", "--output", tmp_path / "found")
    found = call(detect.main, capsys, run / "val.txt", *flags)
    assert found.code == 0, found.err
    (line,) = (tmp_path / "found" / "detections.jsonl").read_text().splitlines()
    assert Path(json.loads(line)["source"]).parent == tmp_path / "images" / "train"
