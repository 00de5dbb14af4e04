"""A run that is killed, at whatever moment, and goes on, ends as the one that was never killed."""

from __future__ import annotations

import csv
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.commands import Fault, train
from tests.training.small import make_dark_rare, write_cfg, write_images

pytestmark = pytest.mark.slow

OFTEN = "train.checkpoint_minutes=1e-9"  # a checkpoint after every step
BATCH = ("yolofpn.data.loader", "Batch.to")
FSYNC = ("os", "fsync")
EVALUATION = ("yolofpn.training.validation", "collect")
MERGE = ("yolofpn.evaluation.metrics", "DetectionMetrics.merge")
LOG = ("yolofpn.training.logger", "CsvLogger.log_epoch")
EVENTS = ("yolofpn.training.logger", "TensorBoardLogger.log_epoch")

# With 8 images: two epochs of two steps of two batches. Each run goes on where the one before it was ended.
FAULTS = (
    Fault(BATCH, 2),  # between the two batches of the very first step
    Fault(BATCH, 4),  # between those of a later step of the first epoch
    Fault(FSYNC, 2),  # a checkpoint has been written and not yet got its name
    Fault(EVALUATION, 1, after=True),  # the epoch is evaluated, nothing of it is written
    Fault(LOG, 1),  # best.pt is written, metrics.csv and last.pt are not
    Fault(BATCH, 1, signal=signal.SIGINT),  # this signal and the next but one leave time to save what is done
    Fault(EVENTS, 1, after=True),  # metrics.csv and the events know an epoch that last.pt does not
    Fault(MERGE, 1, signal=signal.SIGTERM),
)
# With 12 images: epochs of four steps of seven batches, the last of one image.
SCALER_WORKER_REPEATS = (
    "train.optimizer={type: adamw}",
    "train.ema_decay=0",
    "train.precision=fp16",
    "train.workers=1",
    "train.multi_scale={lowest: 32, highest: 64}",
    "train.repeat_thresh=0.6",
)
FEWER_FAULTS = (Fault(BATCH, 4), Fault(EVALUATION, 1, after=True))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_cfg(tmp_path)
    return tmp_path


def begin(run: Path, overrides: Sequence[str] = ()) -> list[str]:
    flags = ["--cfg", "small.yaml", "--data", "data/data.yaml", "--output", str(run), "--device", "cpu"]
    return [*flags, OFTEN, *overrides]


def test_kills_change_nothing(files: Path) -> None:
    whole, killed = files / "whole", files / "killed"
    write_images(files / "data", 8)
    outcome = train(begin(whole), files)
    assert outcome.code == 0, outcome.output
    end_again_and_again(files, killed, (), FAULTS)
    assert_same_run(whole, killed)
    assert [row["epoch"] for row in rows(killed)] == ["1", "2"]
    assert [step for step, _ in scalars(killed)["train/loss"]] == [1, 2]


def test_kills_change_nothing_with_scaler_workers_sizes_and_repeated_images(files: Path) -> None:
    whole, killed = files / "whole", files / "killed"
    write_images(files / "data", 12)
    make_dark_rare(files / "data")
    outcome = train(begin(whole, SCALER_WORKER_REPEATS), files)  # sqrt(.6 * 12) = 2.68
    assert outcome.code == 0 and "repeats: 14 samples per epoch of 12 images" in outcome.output
    end_again_and_again(files, killed, SCALER_WORKER_REPEATS, FEWER_FAULTS)
    assert_same_run(whole, killed)
    first, second = (int(row["step"]) for row in rows(killed))
    assert second - first == 4  # the scaler skips some of the first four
    assert load(killed / "last.pt")["scaler"]["scale"] > 0


def end_again_and_again(files: Path, run: Path, overrides: Sequence[str], faults: Sequence[Fault]) -> None:
    for number, fault in enumerate(faults):
        outcome = train(begin(run, overrides) if number == 0 else ["--resume", str(run)], files, fault)
        if fault.signal == signal.SIGKILL:
            assert outcome.code == -signal.SIGKILL, outcome.output
        else:
            assert outcome.code == 1 and "Traceback" not in outcome.output
            assert outcome.output.splitlines()[-1] == f"python train.py --resume {run}"
    outcome = train(["--resume", str(run)], files)
    assert outcome.code == 0, outcome.output


def assert_same_run(one: Path, other: Path) -> None:
    assert_equal(load(one / "last.pt"), load(other / "last.pt"))
    assert_equal(load(one / "best.pt"), load(other / "best.pt"))
    assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    assert rows(one) == rows(other)
    assert scalars(one) == scalars(other)


def load(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    for name in ("seconds", "evaluation_seconds"):
        state["progress"].pop(name)
    return state


def assert_equal(first: Any, second: Any, place: str = "") -> None:
    assert type(first) is type(second), place
    if isinstance(first, dict):
        assert first.keys() == second.keys(), place
        for key in first:
            assert_equal(first[key], second[key], f"{place}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), place
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_equal(one, other, f"{place}.{index}")
    elif isinstance(first, Tensor):
        assert first.dtype == second.dtype and torch.equal(first, second), place
    else:
        assert first == second, place


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    for row in found:
        del row["seconds"]
    return found


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

    events = event_accumulator.EventAccumulator(str(run / "events"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
