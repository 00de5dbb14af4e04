"""The loop: when it saves, judges and stops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from tests.data.small_dataset import write_dataset
from tests.training.small import small_config
from yolofpn.config import Config, TrainConfig
from yolofpn.config.config_file import DataSection
from yolofpn.data.loader import Batch
from yolofpn.errors import UserError
from yolofpn.evaluation.metrics import Metrics
from yolofpn.models.build import NativeDetector
from yolofpn.structures import Target
from yolofpn.training.checkpoint import Progress, read_checkpoint
from yolofpn.training.distributed import Ranks
from yolofpn.training.engine import OnEpoch, Trainer, batches_per_step, explaining_memory
from yolofpn.training.epoch_result import EpochResult
from yolofpn.training.learner import Learner
from yolofpn.training.logger import CsvLogger, read_metrics
from yolofpn.training.run_plan import Plan
from yolofpn.training.setup import Setup
from yolofpn.training.splits import Splits, training_loader
from yolofpn.training.validation import Validation


class Counter(nn.Module):
    """One weight that every step lowers; ``losses`` says what the loss of each batch is multiplied with."""

    def __init__(self, losses: Callable[[int], float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))
        self.losses = losses
        self.batches = 0

    def forward(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        self.batches += 1
        return {"loss_one": self.weight.sum() * self.losses(self.batches), "loss_two": torch.tensor(2.0)}


def metrics(ap: float) -> Metrics:
    values = {"AP": ap, "AP50": ap, "AR1": 0.5}
    return Metrics(values, (), 0.25, images=1, seconds=0.0, precision=np.zeros((1, 101)))


class Run:
    """A trainer on six images in batches of two, which evaluates to the given APs."""

    def __init__(
        self, folder: Path, aps: list[float], losses: Callable[[int], float] = lambda batch: 1.0, **train: Any
    ) -> None:
        config = small_config()
        settings = {"nominal_batch_size": 2, "ema_decay": 0.0, "epochs": len(aps), "clip_norm": None} | train
        self.config: Config = config.model_copy(update={"train": config.train.model_copy(update=settings)})
        self.dataset = write_dataset(folder / "images")
        self.folder = folder
        self.model = Counter(losses)
        self.lines: list[str] = []
        self.evaluated: list[float] = []
        self.aps = iter(aps)

    def trainer(self, progress: Progress | None = None, on_epoch: OnEpoch | None = None) -> Trainer:
        progress = progress or Progress()
        optimizer = SGD(self.model.parameters(), lr=1.0)
        model = cast(NativeDetector, self.model)
        return Trainer(
            setup=Setup(
                plan=Plan(self.config),
                splits=Splits(DataSection(source="images"), self.dataset, self.dataset, notes=()),
                model=model,
                loader=training_loader(self.config, self.dataset, Ranks()),
                validation=cast(Validation, self.evaluate),
                device=torch.device("cpu"),
                dtype=torch.float32,
                ranks=Ranks(),
                say=self.lines.append,
            ),
            learner=Learner(model, model, None, optimizer, GradScaler("cpu", enabled=False), torch.device("cpu")),
            run_dir=self.folder,
            progress=progress,
            loggers=[CsvLogger()],
            on_epoch=on_epoch,
        )

    def evaluate(self, model: nn.Module) -> Metrics:
        self.evaluated.append(self.model.weight.item())
        return metrics(next(self.aps))


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.1, 0.3, 0.2, 0.3, 0.25])
    trainer = run.trainer()
    assert trainer.run()
    best = read_checkpoint(tmp_path / "best.pt")
    assert best["model"]["weight"].item() == run.evaluated[3]  # of the two best the later one
    assert (best["progress"]["best_ap"], best["progress"]["best_epoch"]) == (0.3, 4)
    last = read_checkpoint(tmp_path / "last.pt")
    assert last["model"]["weight"].item() == run.evaluated[4]
    assert last["progress"] == {
        **best["progress"],
        **{k: last["progress"][k] for k in ("epoch", "step", "seconds", "evaluation_seconds")},
    } | {
        "worse_evaluations": 3,
        "finished": True,
    }
    assert (last["progress"]["epoch"], last["progress"]["step"]) == (5, 15)
    assert [row["AP"] for row in read_metrics(tmp_path)] == ["0.1", "0.3", "0.2", "0.3", "0.25"]
    assert len([line for line in run.lines if line.startswith("epoch")]) == 5


def test_patience_counts_evaluations(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.1, 0.2, 0.2, 0.1, 0.9], patience=2)
    assert run.trainer().run()
    progress = read_checkpoint(tmp_path / "last.pt")["progress"]
    assert (progress["epoch"], progress["finished"], progress["best_epoch"]) == (4, True, 3)
    assert "stopping early: no better AP in 2 evaluations" in run.lines


@pytest.mark.slow
def test_evaluations_come_at_their_interval_and_at_the_end(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.1, 0.2, 0.3], epochs=5, eval_interval=2)
    run.trainer().run()
    assert [bool(row["AP"]) for row in read_metrics(tmp_path)] == [False, True, False, True, True]


def test_losses_are_means_over_the_batches(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.1], losses=lambda batch: 0.0)
    run.trainer().run()
    (row,) = read_metrics(tmp_path)
    assert (row["loss"], row["loss_one"], row["loss_two"]) == ("2", "0", "2")


def test_a_skipped_step_does_not_move_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, [0.1])
    trainer = run.trainer()
    trainer.learner = replace(trainer.learner, scaler=GradScaler("cpu", init_scale=4.0))
    backward = trainer.learner.add_gradients

    def overflowing(batches: list[Batch]) -> dict[str, Tensor]:
        losses = backward(batches)
        if run.model.batches == 1:
            run.model.weight.grad = torch.full((1, 1), math.inf)
        return losses

    monkeypatch.setattr(Learner, "add_gradients", lambda _, batches: overflowing(batches))
    assert trainer.run()
    assert (trainer.progress.step, trainer.progress.finished) == (2, True)  # of three batches
    assert trainer.learner.scaler.get_scale() == 2.0


def test_the_rate_warms_up_and_falls(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.1] * 4, warmup_steps=100, warmup_share=0.25)  # 3 of 12 steps
    trainer = run.trainer()
    rates = []
    for step in range(12):
        trainer.progress.step = step
        rates.append(trainer.rate / run.config.train.optimizer.lr)
    cosine = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    assert rates == pytest.approx([w * c for w, c in zip([0.25, 0.5, 0.75] + [1.0] * 9, cosine, strict=True)])


@pytest.mark.parametrize(
    ("batch_size", "nominal", "ranks", "batches"), [(2, 64, 1, 32), (16, 64, 2, 2), (64, 16, 1, 1), (24, 64, 1, 3)]
)
def test_gradients_are_added_up_to_the_nominal_batch(batch_size: int, nominal: int, ranks: int, batches: int) -> None:
    assert batches_per_step(TrainConfig(batch_size=batch_size, nominal_batch_size=nominal), ranks) == batches


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_its_files(tmp_path: Path, value: float) -> None:
    run = Run(tmp_path, [0.1, 0.2], losses=lambda batch: value if batch == 5 else 1.0)
    run.model.weight.data += 1
    with pytest.raises(UserError, match=r"loss_one .*epoch 2, step 5"):
        run.trainer().run()
    files = (tmp_path / "bad_batch.txt").read_text().splitlines()
    assert len(files) >= 2 and set(files) <= set(run.dataset.paths)
    last = read_checkpoint(tmp_path / "last.pt")
    assert last["progress"]["epoch"] == 1 and bool(last["model"]["weight"].isfinite())


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.1])
    spoil = lambda gradient: gradient * math.nan if run.model.batches == 2 else gradient  # noqa: E731
    run.model.weight.register_hook(spoil)  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match=r"gradient .*epoch 1, step 2"):
        run.trainer().run()
    assert (tmp_path / "bad_batch.txt").is_file()
    assert bool(run.model.weight.isfinite())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory .* try --batch-size 8"),
        (MemoryError(), "out of memory .* try --batch-size 8"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "--batch-size 8"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "died .* try --workers 0"),
    ],
)
def test_too_little_memory_says_what_to_try(error: Exception, message: str) -> None:
    with pytest.raises(UserError, match=message), explaining_memory(TrainConfig(batch_size=16)):
        raise error


def test_a_batch_of_one_cannot_become_smaller() -> None:
    with pytest.raises(UserError, match="smaller"), explaining_memory(TrainConfig(batch_size=1)):
        raise MemoryError
    with pytest.raises(RuntimeError, match="else"), explaining_memory(TrainConfig()):
        raise RuntimeError("something else")


def test_a_run_continues_from_the_batch_that_it_had_reached(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.1, 0.2])
    run.trainer(Progress(epoch=1, batch=2, step=5, loss_sums={"loss_one": 0.5, "loss_two": 4.0})).run()
    assert run.model.batches == 1  # the third one of three
    assert read_checkpoint(tmp_path / "last.pt")["progress"]["step"] == 6
    assert read_metrics(tmp_path)[-1]["loss_two"] == "2"


def test_the_line_of_an_epoch() -> None:
    losses = {"loss": 3.25, "loss_box": 1.25, "loss_class": 2.0}
    result = EpochResult(2, 10, 8, losses, {}, 0.001, 50, 90, 12.5, -1.0)
    assert str(result) == "epoch 2/10: loss 3.250 (box 1.250 class 2.000) lr 1.00e-03  50 s, 7 min left"
    result = replace(result, epoch=10, metrics={"AP": 0.5, "AP50": 0.75}, seconds=7200)
    assert str(result).endswith("  AP 0.500 AP50 0.750  2.0 h")


def test_who_watches_may_stop_the_run(tmp_path: Path) -> None:
    seen: list[EpochResult] = []

    def watch(result: EpochResult) -> bool:
        seen.append(result)
        assert read_checkpoint(tmp_path / "last.pt")["progress"]["epoch"] == result.epoch
        return result.metrics["AP"] >= 0.3

    run = Run(tmp_path, [0.1, 0.3, 0.2], losses=lambda batch: 0.0)
    trainer = run.trainer(on_epoch=watch)
    assert not trainer.run()
    assert [(each.epoch, each.epochs, each.step, each.best_ap) for each in seen] == [(1, 3, 3, 0.1), (2, 3, 6, 0.3)]
    assert seen[0].losses == {"loss": 2.0, "loss_one": 0.0, "loss_two": 2.0}
    assert seen[0].metrics == {"AP": 0.1, "AP50": 0.1}
    assert seen[0].seconds > 0 and seen[0].images_per_second >= 6 / seen[0].seconds  # the evaluation does not count
    assert run.trainer(trainer.progress, on_epoch=watch).run()  # resumed
    assert [each.epoch for each in seen] == [1, 2, 3]
