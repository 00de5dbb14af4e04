"""Checkpoints: nothing but tensors and numbers, and no failure that loses the one before."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from tests.full_disk import room_for
from tests.training.small import small_config
from yolofpn.config import Metadata
from yolofpn.config.stored import dump_metadata
from yolofpn.errors import UserError
from yolofpn.training.checkpoint import Progress, read_checkpoint, save_checkpoint
from yolofpn.training.ema import ModelEMA
from yolofpn.training.learner import Learner


@pytest.fixture
def run() -> dict[str, Any]:
    """What a checkpoint says of its run."""
    config = small_config()
    metadata = dump_metadata(Metadata(model=config.model, names=("a",)))
    return {"metadata": metadata, "config": config.model_dump_json(), "overfit": 2, "device": "cpu"}


def make_learner() -> Learner[nn.Linear]:
    model = nn.Linear(200, 200)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Learner(model, model, ModelEMA(model, 0.9, 1), optimizer, GradScaler("cpu"), torch.device("cpu"))


def test_there_and_back(tmp_path: Path, run: dict[str, Any]) -> None:
    learner, progress = make_learner(), Progress(epoch=3, batch=2, loss_sums={"loss": 1.5}, best_ap=0.25)
    save_checkpoint(tmp_path / "last.pt", learner, progress, run)
    content = read_checkpoint(tmp_path / "last.pt")
    assert Progress(**content["progress"]) == progress
    assert (content["overfit"], content["device"]) == (2, "cpu")
    assert torch.equal(content["model"]["weight"], learner.model.get_parameter("weight"))
    assert read_checkpoint(tmp_path / "last.pt", only_look=True)["progress"] == content["progress"]


@pytest.mark.parametrize("room", [0, 100, 100_000])
def test_a_full_disk_loses_no_checkpoint(tmp_path: Path, run: dict[str, Any], room: int) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, make_learner(), Progress(epoch=1), run)
    before = path.read_bytes()
    assert len(before) > 300_000
    with room_for(room), pytest.raises(UserError, match="written"):
        save_checkpoint(path, make_learner(), Progress(epoch=2), run)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.glob("last*")] == ["last.pt"]


def test_a_disk_that_fails_at_the_end_loses_no_checkpoint(
    tmp_path: Path, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, make_learner(), Progress(epoch=1), run)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="output"):
        save_checkpoint(path, make_learner(), Progress(epoch=2), run)
    assert read_checkpoint(path)["progress"]["epoch"] == 1


class RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_no_code_is_run(tmp_path: Path) -> None:
    torch.save({"format_version": 1, "model": RunsCode(tmp_path / "ran")}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(RunsCode(tmp_path / "ran")))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(UserError, match="checkpoint"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 10, 1000, -10])
def test_a_truncated_checkpoint(tmp_path: Path, run: dict[str, Any], keep: int) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, make_learner(), Progress(), run)
    path.write_bytes(path.read_bytes()[:keep])
    for only_look in (False, True):
        with pytest.raises(UserError, match=f"^{path}: is damaged or no checkpoint"):
            read_checkpoint(path, only_look=only_look)


def test_other_files(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="checkpoint"):
        read_checkpoint(tmp_path / "other.pt")
    with pytest.raises(UserError, match="No such file"):
        read_checkpoint(tmp_path / "none.pt")


def test_the_key_of_earlier_versions(tmp_path: Path, run: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "last.pt", make_learner(), Progress(), {**run, "pictures": 7})
    assert read_checkpoint(tmp_path / "last.pt", only_look=True)["images"] == 7
