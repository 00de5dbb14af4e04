"""Loggers of training scalars: metrics.csv, TensorBoard events, and custom loggers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from yolofpn.errors import UserError
from yolofpn.extras import is_installed
from yolofpn.files import write_atomically
from yolofpn.tensor_files import encodable_path

COLUMNS = ("epoch", "step", "seconds", "lr", "loss")
METRIC_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
_AXES = {"epoch", "step", "seconds"}
Row = dict[str, str]


@dataclass(frozen=True)
class RunInfo:
    """A training run when it starts or is resumed.

    Attributes:
        run_dir: the run folder.
        settings: the whole config as plain values, such as ``settings["train"]["epochs"]``.
        epochs_done: complete epochs in the checkpoint; the next epoch is the first one logged.
        steps_done: optimiser steps in the checkpoint, which may end within an epoch; the next step is the first one
            logged. Steps and epochs that a killed run logged after its last checkpoint are logged again.
    """

    run_dir: Path
    settings: dict[str, Any]
    epochs_done: int = 0
    steps_done: int = 0


class Logger(Protocol):
    """Receives the scalars of a training run; with several processes, only the main one has loggers."""

    def start(self, run: RunInfo) -> None:
        """The run starts or is resumed."""
        ...

    def log_step(self, step: int, scalars: Mapping[str, float]) -> None:
        """An optimiser step is done.

        Args:
            step: from 1, over all epochs.
            scalars: ``lr``, ``loss`` and its parts ``loss_...``, means over the batches of the step.
        """
        ...

    def log_epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """An epoch is done.

        Args:
            epoch: from 1.
            scalars: ``COLUMNS`` (seconds of training so far; ``loss`` is the mean over the batches), the parts
                ``loss_...``, and ``METRIC_COLUMNS`` in [0, 1] if the model was evaluated; -1 where nothing could be.
        """
        ...

    def end(self, finished: bool) -> None:
        """The run has ended, or a logger's ``start`` raised, even this one's.

        Args:
            finished: False if the run was interrupted or failed.
        """
        ...


class CsvLogger:
    """``metrics.csv``: one row per epoch. A run that is resumed is cut back to what its checkpoint knows."""

    def start(self, run: RunInfo) -> None:
        """Keep the rows of earlier epochs.

        Raises:
            UserError: the folder cannot be written.
        """
        self._path = run.run_dir / "metrics.csv"
        self._rows = _rows_until(run)
        with _write_errors(run.run_dir):
            self._write_all()

    def log_step(self, step: int, scalars: Mapping[str, float]) -> None:
        """Rows are of epochs."""

    def log_epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Write the row of an epoch.

        Raises:
            UserError: the disk is full.
        """
        self._rows.append({name: _number(value) for name, value in scalars.items()})
        with _write_errors(self._path):
            self._write_all()

    def end(self, finished: bool) -> None:
        """Do nothing: every row is already written."""

    def _write_all(self) -> None:
        losses = dict.fromkeys(name for row in self._rows for name in row if name.startswith("loss_"))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, (*COLUMNS, *losses, *METRIC_COLUMNS))
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self._path, text.getvalue().encode(), sync=True)


class TensorBoardLogger:
    """``events/``: the scalars of each epoch for TensorBoard. Those of a run that is resumed are written anew."""

    def __init__(self) -> None:
        self._closing = ExitStack()

    def start(self, run: RunInfo) -> None:
        """Write the rows of ``metrics.csv`` of the epochs before.

        Raises:
            UserError: the folder cannot be written.
        """
        from torch.utils.tensorboard.writer import SummaryWriter

        self._folder = run.run_dir / "events"
        with _write_errors(run.run_dir):
            for old in self._folder.glob("events.out.tfevents.*"):
                old.unlink()
            folder = self._closing.enter_context(encodable_path(run.run_dir))
            self._events = SummaryWriter(str(folder / "events"))
            self._closing.callback(self._events.close)
            for row in _rows_until(run):
                self._add(int(row["epoch"]), {name: float(value) for name, value in row.items() if value})

    def log_step(self, step: int, scalars: Mapping[str, float]) -> None:
        """Events are of epochs."""

    def log_epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Write the events of an epoch.

        Raises:
            UserError: the disk is full.
        """
        with _write_errors(self._folder):
            self._add(epoch, scalars)

    def end(self, finished: bool) -> None:
        """Close the event file."""
        self._closing.close()

    def _add(self, epoch: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            if name not in _AXES:
                group = "val" if name in METRIC_COLUMNS else "train"
                # With the digits of metrics.csv, so that a resumed run has the events of one that was never stopped.
                self._events.add_scalar(f"{group}/{name}", float(_number(value)), epoch)
        self._events.flush()


class ContainedLoggers:
    """Loggers of the user, whose errors do not end the run: the first one is reported, and the logger is dropped.

    Args:
        loggers: started and ended by ``logging_run``, also those that were dropped.
        say: prints a line.
    """

    def __init__(self, loggers: Sequence[Logger], say: Callable[[str], None]) -> None:
        self._active = list(loggers)
        self._say = say

    def log(self, method: Literal["log_step", "log_epoch"], number: int, scalars: Mapping[str, float]) -> None:
        """Call ``method`` of each logger that has not failed before with a step or epoch and its scalars."""
        for logger in tuple(self._active):
            try:
                getattr(logger, method)(number, dict(scalars))
            except Exception as error:  # whatever the user's code, or the service that it calls, may raise
                self._active.remove(logger)
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                self._say(f"warning: {type(logger).__name__}.{method} failed ({reason}): nothing more is logged to it")


@contextmanager
def logging_run(loggers: Sequence[Logger], run: RunInfo, finished: Callable[[], bool]) -> Iterator[None]:
    """Start the loggers, and end each of them in any case, the last one first.

    Args:
        loggers: receive scalars within this context.
        run: for their ``start``.
        finished: whether the run has come to its end; asked only if nothing was raised.
    """
    complete = False

    def end(logger: Logger) -> None:
        logger.end(complete)

    with ExitStack() as ends:
        for logger in loggers:
            ends.callback(end, logger)
            logger.start(run)
        yield
        complete = finished()


def default_loggers() -> list[Logger]:
    """Return the default loggers: ``metrics.csv`` and, if installed, TensorBoard."""
    return [CsvLogger(), TensorBoardLogger()] if is_installed("tensorboard") else [CsvLogger()]


def read_metrics(run_dir: Path) -> list[Row]:
    """The rows of metrics.csv, or none where there is no such file."""
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _rows_until(run: RunInfo) -> list[Row]:
    return [row for row in read_metrics(run.run_dir) if int(row["epoch"]) <= run.epochs_done]


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}): make room on the disk") from None


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
