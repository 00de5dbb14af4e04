"""metrics.csv, the events of TensorBoard, and loggers from outside the package."""

from __future__ import annotations

import errno
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

from tests.training.small import write_cfg, write_images
from yolofpn import EpochResult, Logger, RunInfo, TrainOptions, train
from yolofpn.errors import UserError
from yolofpn.training.checkpoint import read_checkpoint
from yolofpn.training.logger import CsvLogger, TensorBoardLogger, logging_run, read_metrics


def row(epoch: int, **more: float) -> dict[str, float]:
    base: dict[str, float] = {"epoch": epoch, "step": 10 * epoch, "seconds": 1.5, "lr": 0.1, "loss": 1 / epoch}
    return base | {"loss_box": 0.5} | more


def write(run_dir: Path, *rows: dict[str, float], epochs_done: int = 0) -> None:
    """What a run with the default loggers writes."""
    loggers: list[Logger] = [CsvLogger(), TensorBoardLogger()]
    for logger in loggers:
        logger.start(RunInfo(run_dir, {}, epochs_done))
    for each in rows:
        for logger in loggers:
            logger.log_step(int(each["step"]), {"lr": 0.5, "loss": 9.0})
            logger.log_epoch(int(each["epoch"]), each)
    for logger in loggers:
        logger.end(True)


def scalars(run: Path) -> dict[str, list[Any]]:
    events: Any = event_accumulator.EventAccumulator(str(run / "events"))
    events.Reload()
    return {tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_rows_and_events_say_the_same(tmp_path: Path) -> None:
    write(tmp_path, row(1), row(2, AP=0.25, AP50=0.5))
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


def test_a_run_that_is_resumed_is_cut_back(tmp_path: Path) -> None:
    write(tmp_path, *(row(epoch, AP=epoch / 10) for epoch in (1, 2, 3)))
    write(tmp_path, epochs_done=1)
    assert [each["epoch"] for each in read_metrics(tmp_path)] == ["1"]
    assert scalars(tmp_path)["val/AP"] == [(1, 0.1)]
    write(tmp_path, row(2, AP=0.7), epochs_done=1)
    assert [each["AP"] for each in read_metrics(tmp_path)] == ["0.1", "0.7"]
    assert scalars(tmp_path)["val/AP"] == [(1, 0.1), (2, 0.7)]
    assert scalars(tmp_path)["train/loss"] == [(1, 1.0), (2, 0.5)]


def test_a_full_disk_is_said_and_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = CsvLogger()
    logger.start(RunInfo(tmp_path, {}))
    logger.log_epoch(1, row(1))
    before = (tmp_path / "metrics.csv").read_text()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UserError, match="metrics"):
        logger.log_epoch(2, row(2))
    assert (tmp_path / "metrics.csv").read_text() == before


class Notebook:
    """A logger as someone else might write it: it inherits from nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, run: RunInfo) -> None:
        self.calls.append(("start", run.run_dir, run.settings["train"]["epochs"], run.steps_done, run.epochs_done))

    def log_step(self, step: int, scalars: Mapping[str, float]) -> None:
        self.calls.append(("step", step, dict(scalars)))

    def log_epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        self.calls.append(("epoch", epoch, dict(scalars)))

    def end(self, finished: bool) -> None:
        self.calls.append(("end", finished))


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainOptions:
    """Two epochs of three steps of two batches of one image."""
    data, cfg = write_images(tmp_path / "data", 6), write_cfg(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = {"weights": "none", "device": "cpu", "overrides": ("train.batch_size=1", "train.nominal_batch_size=2")}
    return TrainOptions(cfg=str(cfg), data=data, epochs=2, output=tmp_path / "run", **words)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_logger_from_outside_sees_the_run(options: TrainOptions, tmp_path: Path) -> None:
    logger = Notebook()
    result = train(options, loggers=[logger])
    run = tmp_path / "run"
    assert (result.run_dir, result.finished) == (run, True)
    kinds = [call[0] for call in logger.calls]
    assert kinds == ["start", "step", "step", "step", "epoch", "step", "step", "step", "epoch", "end"]
    assert logger.calls[0] == ("start", run, 2, 0, 0)
    assert logger.calls[-1] == ("end", True)
    steps = [call for call in logger.calls if call[0] == "step"]
    assert [step for _, step, _ in steps] == [1, 2, 3, 4, 5, 6]
    for _, _, values in steps:
        parts = [value for name, value in values.items() if name.startswith("loss_")]
        assert values["loss"] == pytest.approx(sum(parts)) and len(parts) == 3 and values["lr"] > 0
    epochs = [values for kind, _, values in (call for call in logger.calls if len(call) == 3) if kind == "epoch"]
    assert [{name: f"{value:.6g}" for name, value in each.items()} for each in epochs] == [
        {name: value for name, value in each.items() if value} for each in read_metrics(run)
    ]
    assert epochs[0]["loss"] == pytest.approx(sum(values["loss"] for _, _, values in steps[:3]) / 3)


@pytest.mark.slow
def test_a_callback_watches_stops_and_resumes(options: TrainOptions, tmp_path: Path) -> None:
    seen: list[EpochResult] = []
    logger = Notebook()
    stopped = train(options, loggers=[logger], on_epoch=lambda result: seen.append(result) or True)  # type: ignore[func-returns-value]
    assert not stopped.finished and stopped.best_epoch == 1
    assert logger.calls[-1] == ("end", False)
    resumed = train(TrainOptions(resume=stopped.run_dir), loggers=[logger], on_epoch=seen.append)
    assert (resumed.run_dir, resumed.finished) == (tmp_path / "run", True)
    assert [result.epoch for result in seen] == [1, 2]
    assert [call[-1] for call in logger.calls if call[0] == "start"] == [0, 1]
    assert [each["epoch"] for each in read_metrics(tmp_path / "run")] == ["1", "2"]


@pytest.mark.slow
def test_a_logger_learns_that_the_run_failed(options: TrainOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = Notebook()

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("yolofpn.training.learner.Learner.add_gradients", fail)
    with pytest.raises(UserError):
        train(options, loggers=[logger])
    assert [call for call in logger.calls if call[0] != "start"] == [("end", False)]


class Failing(Notebook):
    """Raises in one of its methods, or at one of its steps or epochs."""

    def __init__(self, where: object) -> None:
        super().__init__()
        self.where = where

    def start(self, run: RunInfo) -> None:
        super().start(run)
        self.fail("start")

    def log_step(self, step: int, scalars: Mapping[str, float]) -> None:
        super().log_step(step, scalars)
        self.fail(("step", step))

    def log_epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        super().log_epoch(epoch, scalars)
        self.fail(("epoch", epoch))

    def end(self, finished: bool) -> None:
        super().end(finished)
        self.fail("end")

    def fail(self, where: object) -> None:
        if where == self.where:
            raise TimeoutError(where)


class Interrupting(Failing):
    """Presses Ctrl-C there."""

    def fail(self, where: object) -> None:
        if where == self.where:
            signal.raise_signal(signal.SIGINT)


class Killing(Failing):
    """Ends the process there."""

    def fail(self, where: object) -> None:
        if where == self.where:
            raise SystemExit


@pytest.mark.slow
def test_a_logger_that_fails_is_dropped(
    options: TrainOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [("step", 2), ("epoch", 1), ("epoch", 2)]
    first, *failed, last = loggers = [Notebook(), *map(Failing, places), Notebook()]
    train(options, loggers=loggers)
    assert capsys.readouterr().out.count("TimeoutError") == len(places)
    assert read_checkpoint(tmp_path / "run" / "last.pt")["progress"]["finished"]
    assert first.calls == last.calls
    assert [call[0] for call in first.calls].count("step") == 6 and first.calls[-1] == ("end", True)
    for place, failing in zip(places, failed, strict=True):
        assert failing.calls[-2][:2] == place
        assert failing.calls == [*first.calls[: first.calls.index(failing.calls[-2]) + 1], ("end", True)]


@pytest.mark.slow
def test_a_callback_that_fails_in_the_last_epoch_fails_the_run(options: TrainOptions, tmp_path: Path) -> None:
    logger = Notebook()

    def fail(result: EpochResult) -> None:
        if result.epoch == 2:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        train(options, loggers=[logger], on_epoch=fail)
    assert read_checkpoint(tmp_path / "run" / "last.pt")["progress"]["epoch"] == 2
    assert logger.calls[-1] == ("end", False)


@pytest.mark.slow
def test_all_loggers_end_after_the_run_is_closed(
    options: TrainOptions, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolofpn.training.training_run.closing_lines", lambda *_: ["all is closed"])
    loggers = [Notebook(), Failing("end"), Failing("end")]
    with pytest.raises(TimeoutError):
        train(options, loggers=loggers)
    assert capsys.readouterr().out.endswith("all is closed\n")
    assert [call for logger in loggers for call in logger.calls if call[0] == "end"] == [("end", True)] * 3


def test_a_logger_that_does_not_start_is_ended_too(tmp_path: Path) -> None:
    loggers = [Notebook(), Failing("start"), Notebook()]
    run = RunInfo(tmp_path, {"train": {"epochs": 1}})
    with pytest.raises(TimeoutError), logging_run(loggers, run, lambda: True):
        pytest.fail("the run must not begin")
    assert [[call[0] for call in logger.calls] for logger in loggers] == [["start", "end"], ["start", "end"], []]
    assert loggers[0].calls[-1] == loggers[1].calls[-1] == ("end", False)


def test_events_that_cannot_be_written_anew_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []
    monkeypatch.setattr("torch.utils.tensorboard.writer.SummaryWriter.close", lambda self: closed.append(self))
    (tmp_path / "metrics.csv").write_text("epoch,AP\n1,much\n")
    with pytest.raises(ValueError, match="much"), logging_run([TensorBoardLogger()], RunInfo(tmp_path, {}, 1), bool):
        pytest.fail("the run must not begin")
    assert len(closed) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "steps_done"),
    [
        (Interrupting(("step", 4)), 5),  # the next step is the last one, and is saved
        (Killing(("step", 5)), 3),  # saved after the first epoch: steps 4 and 5 come again, as after a kill
    ],
)
def test_a_resumed_run_says_which_step_is_next(options: TrainOptions, first: Failing, steps_done: int) -> None:
    try:
        train(options, loggers=[first])
    except SystemExit:
        assert type(first) is Killing
    assert [call[1] for call in first.calls if call[0] == "step"] == [1, 2, 3, 4, 5]
    logger = Notebook()
    assert train(TrainOptions(resume=options.output), loggers=[logger]).finished
    assert logger.calls[0][-2:] == (steps_done, 1)
    assert [call[1] for call in logger.calls if call[0] == "step"] == list(range(steps_done + 1, 7))
