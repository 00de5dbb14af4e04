"""``train.py --minutes`` and epochs that depend on the number of images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from yolofpn.cli.train import main
from yolofpn.config import load_config
from yolofpn.training import rehearsal, training_run
from yolofpn.training.checkpoint import read_checkpoint
from yolofpn.training.run_plan import TrainOptions, make_plan, with_epochs_for

from .small import write_cfg, write_images

pytestmark = pytest.mark.slow

MINUTES = "0.03"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is measured, and nothing kept for the end."""
    monkeypatch.setattr(training_run, "rehearse", partial(rehearsal.rehearse, seconds=0.2))
    monkeypatch.setattr(rehearsal, "CLOSING_SECONDS", 0.5)


def test_a_run_takes_the_time_that_it_was_given(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_images(tmp_path / "data")
    run, cfg = tmp_path / "run", write_cfg(tmp_path)
    cfg.write_text(cfg.read_text().replace("epochs: 2", "epochs: 9999"))
    command = ["--cfg", str(cfg), "--data", str(data), "--output", str(run), "--minutes", MINUTES]
    assert main(command) == 0
    assert "images/s" in capsys.readouterr().out
    content = read_checkpoint(run / "last.pt")
    progress = content["progress"]
    config = load_config(run / "config.yaml")
    assert config.train.minutes == float(MINUTES)
    assert progress["finished"] and 0 < progress["epoch"] < 9999
    assert main(["--resume", str(run)]) == 2  # as any run that is finished


def test_the_batches_of_an_epoch_that_the_user_set_stay(tmp_path: Path, quick: None) -> None:
    data, run = write_images(tmp_path / "data"), tmp_path / "run"
    command = ["--cfg", str(write_cfg(tmp_path)), "--data", str(data), "--output", str(run), "--minutes", MINUTES]
    assert main([*command, "train.epoch_batches=1"]) == 0
    progress = read_checkpoint(run / "last.pt")["progress"]
    assert load_config(run / "config.yaml").train.epoch_batches == 1
    assert progress["step"] == progress["epoch"]


@pytest.mark.parametrize(("images", "epochs"), [(200, 75), (10, 390), (50, 161), (2000, 21), (100_000, 20), (1, 600)])
def test_epochs_depend_on_the_number_of_images(tmp_path: Path, images: int, epochs: int) -> None:
    cfg = Path(__file__).parents[2] / "cfg" / "yolofpn-lite.yaml"
    config = with_epochs_for(load_config(cfg), images)
    assert config.train.epochs == epochs
    assert config.augment.close_epochs == round(epochs / 5)
    assert with_epochs_for(config, images) == config  # a resumed run keeps its number


@pytest.mark.parametrize("options", [{"epochs": 5}, {"overrides": ("train.epochs=5",)}])
def test_epochs_that_are_asked_for_stay(tmp_path: Path, options: dict[str, object]) -> None:
    cfg = Path(__file__).parents[2] / "cfg" / "yolofpn-lite.yaml"
    plan = make_plan(TrainOptions(cfg=cfg, **options))  # type: ignore[arg-type]
    assert with_epochs_for(plan.config, 10).train.epochs == 5
