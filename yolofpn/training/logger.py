"""What a run writes down about itself: metrics.csv, and the same numbers as TensorBoard events."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from yolofpn.errors import UserError
from yolofpn.files import write_atomically
from yolofpn.tensor_files import encodable_path

COLUMNS = ("epoch", "step", "seconds", "lr", "loss")
METRIC_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
_AXES = {"epoch", "step", "seconds"}
Row = dict[str, str]


class RunLog:
    """One row per epoch; a run that goes on is cut back to what its checkpoint knows.

    Args:
        run_dir: where metrics.csv and events/ are.
        epochs_done: rows of later epochs are dropped.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, run_dir: Path, epochs_done: int) -> None:
        self._path = run_dir / "metrics.csv"
        self._closing = ExitStack()
        self.rows = [row for row in read_metrics(run_dir) if int(row["epoch"]) <= epochs_done]
        with _write_errors(run_dir):
            self._write_all()
            # The events repeat the rows, so they are made anew from these instead of being cut.
            for old in (run_dir / "events").glob("events.out.tfevents.*"):
                old.unlink()
            folder = self._closing.enter_context(encodable_path(run_dir))
            self._events = SummaryWriter(str(folder / "events"))
            self._add_events(*self.rows)

    def add(self, row: Mapping[str, float | int]) -> None:
        """Write the row of an epoch: of ``COLUMNS``, losses ("loss_..."), and ``METRIC_COLUMNS`` if it was evaluated.

        Raises:
            UserError: the disk is full.
        """
        self.rows.append({name: _number(value) for name, value in row.items()})
        with _write_errors(self._path):
            self._write_all()
            self._add_events(self.rows[-1])

    def close(self) -> None:
        """Finish the event file."""
        self._events.close()
        self._closing.close()

    def _write_all(self) -> None:
        losses = dict.fromkeys(name for row in self.rows for name in row if name.startswith("loss_"))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, (*COLUMNS, *losses, *METRIC_COLUMNS))
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self._path, text.getvalue().encode(), sync=True)

    def _add_events(self, *rows: Row) -> None:
        for row in rows:
            for name, value in row.items():
                if name not in _AXES and value:
                    group = "val" if name in METRIC_COLUMNS else "train"
                    self._events.add_scalar(f"{group}/{name}", float(value), int(row["epoch"]))
        self._events.flush()


def read_metrics(run_dir: Path) -> list[Row]:
    """The rows of metrics.csv, or none where there is no such file."""
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}): make room on the disk") from None


def _number(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
