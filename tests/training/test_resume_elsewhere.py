"""A run is resumed with its data, its folder or its workers elsewhere, and ends as the one that never moved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.commands import Fault, train
from tests.training.small import write_cfg, write_images
from tests.training.test_resume import BATCH, OFTEN, assert_equal, load, rows, scalars

DAMAGE: dict[str, Callable[[Path], object]] = {
    "an image less": lambda data: (data / "images" / "train" / "train3.png").unlink(),
    "another image": lambda data: shutil.copy(data / "images/train/train2.png", data / "images/train/train3.png"),
    "another box": lambda data: _edit(data / "labels" / "train" / "train3.txt", "0 0.5 0.5 0.25 0.25\n"),
    "another box to measure on": lambda data: _edit(data / "labels" / "val" / "val0.txt", "0 0.5 0.5 0.25 0.25\n"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbs (``whole``), and one that was killed in its second epoch (``killed``)."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_images(folder / "data", 8)
    write_cfg(folder)
    for name, fault in (("whole", None), ("killed", Fault(BATCH, 6))):
        flags = ["--cfg", "small.yaml", "--data", "data/data.yaml", "--output", name, "--device", "cpu", OFTEN]
        outcome = train(flags, folder, fault)
        assert (outcome.code == 0) is (fault is None), outcome.output
    return folder


@pytest.mark.slow
def test_everything_that_may_change(files: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(files / "data", moved / "data")
    shutil.copytree(files / "killed", moved / "killed")
    other = ["--data", "data", "--workers", "1", "--device", "cpu", "--output", "deep/other"]
    (moved / "data" / "data.yaml").rename(moved / "own.yaml")  # taken from the folder alone
    (moved / "data" / "classes.txt").write_text("bright\ndark\n")
    outcome = train(["--resume", "killed", *other], moved)
    assert outcome.code == 0, outcome.output
    run = moved / "deep" / "other"
    config = _config(run)
    assert config["data"]["source"] == str(moved / "data") and config["train"]["workers"] == 1
    assert_same_weights(files / "whole", run)
    assert _config(moved / "killed")["data"]["source"] == str(files / "data" / "data.yaml")  # as it was
    assert outcome.output.splitlines()[-1] == "python train.py --resume deep/other --epochs 4"


@pytest.mark.slow
def test_a_root_that_has_moved_and_a_checkpoint_that_knows_no_content(files: Path, tmp_path: Path) -> None:
    shutil.copytree(files / "killed", tmp_path / "run")
    shutil.copytree(files / "data", tmp_path / "images-are-here")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    del state["content"]  # as older ones
    torch.save(state, tmp_path / "run" / "last.pt")
    outcome = train(["--resume", "run", "data.root=images-are-here"], tmp_path)
    assert outcome.code == 0, outcome.output
    assert_same_weights(files / "whole", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_other_data_are_refused(damage: str, files: Path, tmp_path: Path) -> None:
    shutil.copytree(files / "killed", tmp_path / "run")
    shutil.copytree(files / "data", tmp_path / "data")
    DAMAGE[damage](tmp_path / "data")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    outcome = train(["--resume", "run", "--data", "data/data.yaml", "--output", "other"], tmp_path)
    assert outcome.code == 2
    error, hint = outcome.output.splitlines()[-2:]
    assert error.startswith("error: run: its data have changed") and "--weights run" in hint
    assert ("val" in error) is ("measure" in damage)
    assert (tmp_path / "run" / "last.pt").read_bytes() == before and not (tmp_path / "other").exists()


@pytest.mark.slow
def test_another_run_is_not_overwritten(files: Path, tmp_path: Path) -> None:
    shutil.copytree(files / "killed", tmp_path / "run")
    shutil.copytree(files / "whole", tmp_path / "other")
    outcome = train(["--resume", "run", "--output", "other"], tmp_path)
    assert outcome.code == 2 and "other: is not empty" in outcome.output.splitlines()[-1]
    assert rows(tmp_path / "other") == rows(files / "whole")


def assert_same_weights(one: Path, other: Path) -> None:
    """All but the places of data and the number of workers."""
    for name in ("last.pt", "best.pt"):
        first, second = load(one / name), load(other / name)
        first.pop("config"), second.pop("config")
        assert_equal(first, second)
    assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    assert rows(one) == rows(other) and scalars(one) == scalars(other)


def _config(run: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(torch.load(run / "last.pt", weights_only=True)["config"])
    return tree


def _edit(path: Path, text: str) -> None:
    path.write_text(text)
