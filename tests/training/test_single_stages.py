"""One stage of Faster R-CNN from train.py to evaluate.py: proposals are made, saved, learned from and detected in."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import call
from tests.training.small import write_images
from yolofpn.cli.detect import main as detect
from yolofpn.cli.evaluate import main as evaluate
from yolofpn.cli.train import main as train
from yolofpn.config import load_config
from yolofpn.inference.load_detector import load_detector
from yolofpn.structures import Detections

pytestmark = pytest.mark.slow

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


DATA = ("--data", "data/data.yaml")
MEASURE = ("--workers", "0", "--output", "measured", "--json", "numbers.json")


@dataclass(frozen=True)
class Runs:
    """A folder with the finished runs ``rpn`` and ``fast``, and what their trainings printed."""

    folder: Path
    rpn: str
    fast: str


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """An RPN is trained, its proposals are saved, and Fast R-CNN is trained on them."""
    folder = tmp_path_factory.mktemp("stages")
    write_images(folder / "data", count=4)
    (folder / "rpn.yaml").write_text(CFG.replace("HEAD", RPN))
    (folder / "fast.yaml").write_text(CFG.replace("HEAD", FAST))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        without_plots(patch)
        first = run(train, "--cfg", "rpn.yaml", *DATA, "--output", "rpn")
        for split in ("train", "val"):
            saving = ("--split", split, "--save-proposals", f"{split}.json")
            run(evaluate, "--weights", "rpn", *DATA, *saving, *MEASURE)
        second = run(train, "--cfg", "fast.yaml", *DATA, "--weights", "rpn", FILES, "--output", "fast")
    return Runs(folder, first, second)


def without_plots(patch: pytest.MonkeyPatch) -> None:
    for module in ("yolofpn.evaluation.evaluation_run", "yolofpn.training.training_run"):
        patch.setattr(f"{module}.write_plots", lambda *_: None)


def run(main: Callable[[Sequence[str]], int], *words: str) -> str:
    with redirect_stdout(io.StringIO()) as out:
        assert main(words) == 0
    return out.getvalue()


@pytest.fixture(autouse=True)
def here(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.folder)
    without_plots(monkeypatch)


def boxes_of_all(split: str, count: int) -> str:
    return json.dumps([{"file_name": f"{split}{i}.png", "bbox": [4, 4, 30, 30 + i]} for i in range(count)])


def test_proposals_are_the_detections_of_an_rpn(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert "(objectness 0." in runs.rpn and "rpn_box 0." in runs.rpn
    for split, images in (("train", 4), ("val", 5)):
        items = json.loads(Path(f"{split}.json").read_text())
        assert {item["image_id"] for item in items} == set(range(images))
        assert max(sum(item["image_id"] == i for item in items) for i in range(images)) <= 30
    outcome = call(evaluate, capsys, "--weights", "rpn", *DATA, *MEASURE)
    assert outcome.code == 0 and "AR1000" in outcome.out
    numbers = json.loads(Path("numbers.json").read_text())
    assert numbers["images"] == 5 and [each["name"] for each in numbers["per_class"]] == ["object"]
    # The recall of proposals without classes is that of the detections, which are the proposals.
    assert numbers["AR100"] == pytest.approx(numbers["proposals"]["AR100"], abs=1e-6)
    assert set(numbers["proposals"]) >= {"AR100", "AR1000", "AR1000s", "AR1000m", "AR1000l"}

    found = load_detector("rpn", score_thresh=0.0, detections_per_img=9)("data/images/val/val0.png")
    assert isinstance(found, Detections) and found.counts() == {"object": 9}
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_fast_rcnn_learns_from_proposals_of_its_file(runs: Runs) -> None:
    assert "fresh: head.box" in runs.fast and "class 1." in runs.fast
    assert "rpn" not in next(line for line in runs.fast.splitlines() if line.startswith("epoch"))
    assert "train.json: " in runs.fast and "for each of the 5 images of val" in runs.fast
    config = load_config("fast/config.yaml")
    assert config.data is not None and config.data.proposals is not None
    assert config.data.proposals.train == str(Path("train.json").resolve())
    best, command, resume = runs.fast.splitlines()[-3:]
    assert best.startswith("best: AP") and "train --resume" in resume
    assert "evaluate --weights" in command and command.endswith(f"--proposals {Path('val.json').resolve()}")


def test_fast_rcnn_detects_in_proposals_of_a_file_only(capsys: pytest.CaptureFixture[str]) -> None:
    Path("few.json").write_text(boxes_of_all("val", 5))
    words = ("--weights", "fast", *DATA, "--proposals", "few.json", *MEASURE, "--score-thresh", "0")
    assert call(evaluate, capsys, *words, "--backend", "torch").code == 0
    found = json.loads(Path("measured/detections.coco.json").read_text())
    # One proposal gives one box of each class.
    assert sorted((item["image_id"], item["category_id"]) for item in found) == [
        (i, c) for i in range(5) for c in (0, 1)
    ]
    numbers = json.loads(Path("numbers.json").read_text())
    assert [each["name"] for each in numbers["per_class"]] == ["bright", "dark"] and "proposals" not in numbers

    refused = call(detect, capsys, "data/images/val", "--weights", "fast", "--output", "out")
    assert refused.code == 2
    assert refused.err.count("\n") == 1 and "detecting needs an RPN" in refused.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cfg", "fast.yaml", *DATA), "a head of type fast_rcnn finds no proposals itself: name files"),
        (("--cfg", "rpn.yaml", *DATA, FILES), "data.proposals: a head of type rpn takes none"),
        (("--cfg", "fast.yaml", *DATA, "data.proposals={train: train.json}"), "data.proposals.val: is missing"),
        (("--cfg", "fast.yaml", *DATA, FILES.replace("train.json", "two.json")), "has no proposals for 2 of the 4"),
        (("--cfg", "fast.yaml", *DATA, "data.proposals={train: a, val: b}"), "No such file or directory"),
    ],
)
def test_trainings_that_cannot_be(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.json").write_text(boxes_of_all("train", 2))
    outcome = call(train, capsys, *words, "--output", "run")
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.count("\n") <= 2
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fast",), "fast: Fast R-CNN finds no proposals itself: name a file with --proposals FILE"),
        (("fast", "--proposals", "two.json"), "two.json: has no proposals for 5 of the 5 images of val"),
        (("rpn", "--proposals", "val.json"), "--proposals: only Fast R-CNN"),
        (("fast", "--proposals", "val.json", "--save-proposals", "p.json"), "Fast R-CNN makes no proposals"),
    ],
)
def test_evaluations_that_cannot_be(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.json").write_text(boxes_of_all("train", 2))
    outcome = call(evaluate, capsys, "--weights", *words, *DATA, *MEASURE)
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.count("\n") <= 2
