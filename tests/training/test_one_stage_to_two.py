"""``train.py`` from a one-stage run to Faster R-CNN on images of several sizes, in a batch of unequal shapes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from torch import Tensor

from tests.commands import call
from tests.training.small import write_images
from yolofpn.cli.train import main as train
from yolofpn.models.build import NativeDetector
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.structures import Target
from yolofpn.training.start import take_over
from yolofpn.weights import load_weights

pytestmark = pytest.mark.slow

ONE_STAGE = """
model:
  backbone: {type: darknet, width: 0.0625, depth: 0.1}
  neck: {type: concat, levels: [3, 4, 5]}
  head: {type: yolo, anchors: [[[8, 8]], [[16, 16]], [[32, 32]]]}
input: {size: [64, 64], resize: letterbox}
augment: {mosaic: 0, close_epochs: 0}
train: {epochs: 1, batch_size: 2, nominal_batch_size: 2, ema_decay: 0, precision: fp32, workers: 0,
        optimizer: {type: adamw, lr: 1e-3}, warmup_steps: 0}
"""
TWO_STAGE_HEAD = """
  head:
    type: rcnn
    channels: 8
    anchors: {sizes: [[8], [16], [32], [64], [128]]}
    rpn: {post_nms_top_n: [50, 30]}
    roi: {width: 16, batch_size_per_img: 16}
input: {size: [64, 112], resize: shortest-edge}
augment: {flip: 0.5, scale: [1, 1], translate: 0, crop: 0, mosaic: 0, close_epochs: 0}
"""
SHARED = ("backbone.", "neck.p3.", "neck.p4.", "neck.p5.")
SIZES = ((64, 64), (96, 48), (40, 80), (48, 56))  # width, height


def two_stage() -> str:
    before, after = ONE_STAGE.split("  head:")
    return (
        before.replace("[3, 4, 5]", "[2, 3, 4, 5]") + TWO_STAGE_HEAD.lstrip("\n") + "train:" + after.split("train:")[1]
    )


def write_unequal_images(folder: Path) -> None:
    """Labels are parts of the image's sides, and stay true when it is stretched."""
    write_images(folder, count=4)
    for index, path in enumerate(sorted(folder.glob("images/*/*.png"))):
        image = cv2.imread(str(path))
        assert image is not None
        cv2.imwrite(str(path), cv2.resize(image, SIZES[index % len(SIZES)]))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_unequal_images(tmp_path / "data")
    (tmp_path / "one.yaml").write_text(ONE_STAGE)
    (tmp_path / "two.yaml").write_text(two_stage())
    monkeypatch.chdir(tmp_path)
    for module in ("yolofpn.evaluation.evaluation_run", "yolofpn.training.training_run"):
        monkeypatch.setattr(f"{module}.write_plots", lambda *_: None)


def numbers_of(run: str) -> dict[str, float]:
    with (Path(run) / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    return {name: float(value) for name, value in row.items() if value}


def state_of(run: str) -> dict[str, Tensor]:
    return load_weights(Path(run)).detector.state_dict()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """What each model holds when it has taken over its initial weights, before it learns."""
    states: list[dict[str, Tensor]] = []

    def watching(model: NativeDetector, *rest: Any) -> str:
        line = take_over(model, *rest)
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return line

    monkeypatch.setattr("yolofpn.training.setup.take_over", watching)
    return states


@pytest.fixture
def padded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each batch that a two-stage detector learns from: whether its images differ in size."""
    seen: list[bool] = []
    losses = FasterRCNN.losses

    def watching(model: FasterRCNN, dense: dict[str, Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        seen.append(len({target.image_size for target in targets}) > 1)
        return losses(model, dense, targets)

    monkeypatch.setattr(FasterRCNN, "losses", watching)
    return seen


@pytest.mark.usefixtures("files")
def test_backbone_and_neck_go_on_under_the_other_head(
    taken: list[dict[str, Tensor]], padded: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", "data/data.yaml", "--seed", "0")
    assert call(train, capsys, "--cfg", "one.yaml", *words, "--weights", "none", "--output", "one").code == 0
    outcome = call(train, capsys, "--cfg", "two.yaml", *words, "--weights", "one", "--output", "two")
    assert outcome.code == 0, outcome.err
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("weights: "))
    assert line.endswith("tensors taken from one; 52 fresh: neck.p2, head.project, head.rpn, head.box")
    one, two = state_of("one"), state_of("two")
    shared = [name for name in one if name.startswith(SHARED) and not name.endswith("num_batches_tracked")]
    assert f"weights: {len(shared)} of {len(shared) + 52} tensors" in line
    (started,) = taken
    assert all(torch.equal(started[name], one[name]) for name in shared)
    assert any(not torch.equal(two[name], one[name]) for name in shared)  # and it goes on learning

    assert any(padded)
    numbers = numbers_of("two")
    parts = {name: numbers[f"loss_{name}"] for name in ("objectness", "rpn_box", "class", "box")}
    assert all(0 < value < 3 for value in parts.values()), parts
    assert sum(parts.values()) == pytest.approx(numbers["loss"], rel=1e-4)
