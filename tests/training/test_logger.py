"""metrics.csv and the events of TensorBoard."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

from yolofpn.errors import UserError
from yolofpn.training.logger import RunLog, read_metrics


def row(epoch: int, **more: float) -> dict[str, float | int]:
    base: dict[str, float | int] = {"epoch": epoch, "step": 10 * epoch, "seconds": 1.5, "lr": 0.1, "loss": 1 / epoch}
    return base | {"loss_box": 0.5} | more


def scalars(run: Path) -> dict[str, list[Any]]:
    events: Any = event_accumulator.EventAccumulator(str(run / "events"))
    events.Reload()
    return {tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_rows_and_events_say_the_same(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    log.add(row(1))
    log.add(row(2, AP=0.25, AP50=0.5))
    log.close()
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "epoch,step,seconds,lr,loss,loss_box,AP,AP50,AP75,APs,APm,APl,AR100",
        "1,10,1.5,0.1,1,0.5,,,,,,,",
        "2,20,1.5,0.1,0.5,0.5,0.25,0.5,,,,,",
    ]
    assert scalars(tmp_path) == {
        "train/lr": [(1, 0.1), (2, 0.1)],
        "train/loss": [(1, 1.0), (2, 0.5)],
        "train/loss_box": [(1, 0.5), (2, 0.5)],
        "val/AP": [(2, 0.25)],
        "val/AP50": [(2, 0.5)],
    }


def test_a_run_that_goes_on_is_cut_back(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for epoch in (1, 2, 3):
        log.add(row(epoch, AP=epoch / 10))
    log.close()
    log = RunLog(tmp_path, 1)
    assert [each["epoch"] for each in read_metrics(tmp_path)] == ["1"]
    assert scalars(tmp_path)["val/AP"] == [(1, 0.1)]
    log.add(row(2, AP=0.7))
    log.close()
    assert [each["AP"] for each in read_metrics(tmp_path)] == ["0.1", "0.7"]
    assert scalars(tmp_path)["val/AP"] == [(1, 0.1), (2, 0.7)]
    assert scalars(tmp_path)["train/loss"] == [(1, 1.0), (2, 0.5)]


def test_a_full_disk_is_said_and_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunLog(tmp_path, 0)
    log.add(row(1))
    before = (tmp_path / "metrics.csv").read_text()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UserError, match="metrics"):
        log.add(row(2))
    assert (tmp_path / "metrics.csv").read_text() == before
