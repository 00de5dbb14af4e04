"""One stage of Faster R-CNN from train.py to evaluate.py: proposals are made, saved, learnt from and detected in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.doors import call
from tests.training.small import write_pictures
from yolofpn.cli.detect import main as detect
from yolofpn.cli.evaluate import main as evaluate
from yolofpn.cli.train import main as train
from yolofpn.config import load_config
from yolofpn.inference.predictor import load_detector
from yolofpn.structures import Detections

CFG = """
model:
  backbone: {type: strided, width: 4}
  neck: {type: add, levels: [3, 4, 5], channels: 8}
  head: HEAD
input: {size: [64, 64], resize: letterbox}
augment: {flip: 0.5, scale: [0.8, 1.2], mosaic: 0.5, close_epochs: 0}
train: {epochs: 1, batch_size: 2, nominal_batch_size: 2, ema_decay: 0, precision: fp32, workers: 0,
        optimizer: {type: adamw, lr: 1e-3}}
"""
RPN = "{type: rpn, channels: 8, anchors: {sizes: [[8], [16], [32]]}, rpn: {post_nms_top_n: [50, 30]}}"
FAST = "{type: fast_rcnn, channels: 8, roi: {width: 8, batch_size_per_img: 16}}"
FILES = "data.proposals={train: train.json, val: val.json}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data", count=4)
    (tmp_path / "rpn.yaml").write_text(CFG.replace("HEAD", RPN))
    (tmp_path / "fast.yaml").write_text(CFG.replace("HEAD", FAST))
    for module in ("yolofpn.evaluation.run", "yolofpn.training.run"):
        monkeypatch.setattr(f"{module}.write_plots", lambda *_: None)
    return tmp_path


def write_boxes(path: Path, items: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(items))


def boxes_of_all(split: str, count: int) -> list[dict[str, Any]]:
    return [{"file_name": f"{split}{i}.png", "bbox": [4, 4, 30, 30 + i]} for i in range(count)]


DATA = ("--data", "data/data.yaml")
MEASURE = ("--workers", "0", "--output", "measured", "--json", "numbers.json")


@pytest.mark.usefixtures("here")
def test_from_proposals_to_detections_on_them(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(train, capsys, "--cfg", "rpn.yaml", *DATA, "--output", "rpn")
    assert outcome.code == 0, outcome.err
    assert "(objectness 0." in outcome.out and "rpn_box 0." in outcome.out
    saved: dict[str, list[dict[str, Any]]] = {}
    for split, pictures in (("train", 4), ("val", 5)):
        words = ("--weights", "rpn", *DATA, "--split", split, "--save-proposals", f"{split}.json", *MEASURE)
        assert call(evaluate, capsys, *words).code == 0
        saved[split] = json.loads(Path(f"{split}.json").read_text())
        assert len({item["image_id"] for item in saved[split]}) == pictures
        assert max(sum(item["image_id"] == i for item in saved[split]) for i in range(pictures)) <= 30
    numbers = json.loads(Path("numbers.json").read_text())
    assert numbers["images"] == 5 and [each["name"] for each in numbers["per_class"]] == ["object"]
    # The recall of proposals without classes is that of the detections, which are the proposals.
    assert numbers["AR100"] == pytest.approx(numbers["proposals"]["AR100"], abs=1e-6)

    weights = ("--weights", "rpn", FILES)
    outcome = call(train, capsys, "--cfg", "fast.yaml", *DATA, *weights, "--output", "fast")
    assert outcome.code == 0, outcome.err
    assert "fresh: head.box" in outcome.out and "class 1." in outcome.out
    assert "rpn" not in next(line for line in outcome.out.splitlines() if line.startswith("epoch"))
    assert "train.json: " in outcome.out and "for each of the 5 pictures of val" in outcome.out
    config = load_config("fast/config.yaml")
    assert config.data is not None and config.data.proposals is not None
    assert config.data.proposals.train == str(Path("train.json").resolve())

    words = ("--weights", "fast", *DATA, "--proposals", "val.json", *MEASURE, "--score-thresh", "0")
    assert call(evaluate, capsys, *words).code == 0
    found = json.loads(Path("measured/detections.coco.json").read_text())
    assert {item["image_id"] for item in found} == {0, 1, 2, 3, 4}
    assert {item["category_id"] for item in found} == {0, 1}
    numbers = json.loads(Path("numbers.json").read_text())
    assert [each["name"] for each in numbers["per_class"]] == ["bright", "dark"] and "proposals" not in numbers
    write_boxes(Path("val.json"), boxes_of_all("val", 5))
    assert call(evaluate, capsys, *words).code == 0
    # One proposal gives one box of each class.
    assert len(json.loads(Path("measured/detections.coco.json").read_text())) == 2 * 5

    refused = call(detect, capsys, "data/images/val", "--weights", "fast", "--output", "out")
    assert refused.code == 2
    assert refused.err.count("\n") == 1 and "detecting needs an RPN" in refused.err
    assert not Path("out").exists()


@pytest.mark.usefixtures("here")
def test_detecting_objects_of_any_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(train, capsys, "--cfg", "rpn.yaml", *DATA, "--output", "rpn").code == 0
    detector = load_detector("rpn", score_thresh=0.0, detections_per_img=9)
    found = detector("data/images/val/val0.png")
    assert isinstance(found, Detections) and found.counts() == {"object": 9}
    assert torch.equal(found.scores, found.scores.sort(descending=True).values)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cfg", "fast.yaml", *DATA), "a head of type fast_rcnn finds no proposals itself: name files"),
        (("--cfg", "rpn.yaml", *DATA, FILES), "data.proposals: a head of type rpn takes none"),
        (("--cfg", "fast.yaml", *DATA, "data.proposals={train: train.json}"), "data.proposals.val: is missing"),
        (("--cfg", "fast.yaml", *DATA, FILES), "train.json: has no proposals for 2 of the 4 pictures of train"),
        (
            ("--cfg", "fast.yaml", *DATA, "data.proposals={train: a, val: b}"),
            "No such file or directory",
        ),
    ],
)
def test_trainings_that_cannot_be(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_boxes(Path("train.json"), boxes_of_all("train", 2))
    write_boxes(Path("val.json"), boxes_of_all("val", 5))
    outcome = call(train, capsys, *words, "--output", "run")
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.count("\n") <= 2
    assert not Path("run").exists()


@pytest.mark.usefixtures("here")
def test_evaluations_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    write_boxes(Path("train.json"), boxes_of_all("train", 4))
    write_boxes(Path("val.json"), boxes_of_all("val", 5))
    for name, extra in (("fast", (FILES,)), ("rpn", ())):
        assert call(train, capsys, "--cfg", f"{name}.yaml", *DATA, *extra, "--output", name).code == 0
    for words, message in (
        (("fast",), "fast: Fast R-CNN finds no proposals itself: name a file with --proposals FILE"),
        (("fast", "--proposals", "train.json"), "train.json: has no proposals for 5 of the 5 pictures of val"),
        (("rpn", "--proposals", "val.json"), "--proposals: only Fast R-CNN"),
        (("fast", "--proposals", "val.json", "--save-proposals", "p.json"), "Fast R-CNN makes no proposals"),
    ):
        outcome = call(evaluate, capsys, "--weights", *words, *DATA, *MEASURE)
        assert outcome.code == 2
        assert message in outcome.err and outcome.err.count("\n") <= 2
