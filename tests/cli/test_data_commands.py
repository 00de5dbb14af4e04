"""The commands check, show and anchors on a small data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.trees import coco_json, write, write_image
from yolofpn.__main__ import main
from yolofpn.config import load_config
from yolofpn.data.images import read_image

BOXES = [(1, 1, [5, 5, 20, 20]), (2, 2, [10, 10, 30, 10]), (3, 1, [0, 0, 12, 24]), (4, 2, [1, 1, 40, 30])]
TINY = Path(__file__).parents[2] / "cfg" / "yolofpn-tiny.yaml"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two splits of two images each."""
    for number in range(4):
        write_image(tmp_path / "images" / f"{number}.png", seed=number)
    for split, first in (("train", 0), ("val", 2)):
        names = [f"{first}.png", f"{first + 1}.png"]
        boxes = [(image - first, label, box) for image, label, box in BOXES if 0 < image - first <= 2]
        write(tmp_path / f"{split}.json", coco_json(names, boxes))
    lines = [f"  {split}: {{images: images, annotations: {split}.json}}" for split in ("train", "val")]
    return write(tmp_path / "data.yaml", "\n".join(["format: coco", "splits:", *lines, ""]))


def test_check(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no problems found"
    (data.parent / "images" / "1.png").write_bytes(b"no image")
    (data.parent / "images" / "3.png").write_bytes(b"no image")
    assert main(["check", "--data", str(data), "--split", "train"]) == 1
    printed = capsys.readouterr().out
    assert "unreadable image (1)" in printed
    assert printed.count("1.png") == 1
    assert printed.splitlines()[-1] == "problems: 1"
    assert main(["check", str(data), "--no-decode"]) == 0


def test_check_names_every_file_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "images" / "0.png")
    names = [f"{number}.png" for number in range(13)]
    write(tmp_path / "train.json", coco_json(names, [(1, 1, [5, 5, 20, 20])]))
    data = write(tmp_path / "data.yaml", "format: coco\nsplits:\n  train: {images: images, annotations: train.json}\n")
    assert main(["check", str(data), "--split", "train"]) == 1
    assert "12.png" not in capsys.readouterr().out
    assert main(["check", str(data), "--split", "train", "--all"]) == 1
    assert "12.png" in capsys.readouterr().out


def test_show(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.png"
    assert main(["show", str(data), "--split", "val", "--count", "2", "--output", str(page)]) == 0
    assert f"2 images of val with their boxes: {page}" in capsys.readouterr().out
    assert read_image(page).std() > 5
    assert main(["show", str(data), "--output", str(tmp_path / "page.xyz")]) == 2
    assert "use .png or .jpg" in capsys.readouterr().err


def test_anchors(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["anchors", str(data), "--num-anchors", "2", "--num-levels", "2", "--img-size", "80x60"]) == 0
    # the images are 40 x 60 and stay so: letterbox to 80 x 60 only pads
    assert capsys.readouterr().out.splitlines()[-1] == "anchors: [[[30, 10]], [[20, 20]]]"
    assert main(["anchors", str(data), "--num-anchors", "4"]) == 2
    assert "4 anchors cannot be divided equally among 3 levels" in capsys.readouterr().err


def test_anchors_beside_those_of_a_cfg(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["anchors", str(data), "--cfg", str(TINY)]) == 0
    *_, current, fitted, line = capsys.readouterr().out.splitlines()
    size = load_config(TINY).input.size
    assert current.startswith("current anchors: best possible recall")
    assert fitted.startswith(f"fitted to 2 boxes at {size[0]}x{size[1]}: best possible recall 1.000")
    assert line.count("[") == 1 + 3 + 9


@pytest.mark.parametrize("command", ["check", "show", "anchors"])
def test_bad_input(command: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        ([], "give one with --data"),
        ([str(tmp_path / "nothing")], "no such file or folder"),
        ([str(data), "--data", str(data)], "only one data set is possible"),
        ([str(data), f"data.root={tmp_path / 'elsewhere'}"], str(tmp_path / "elsewhere")),
        ([str(data), "train.epochs=3"], "only data.root=DIR and"),
    ):
        assert main([command, *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) <= 2
