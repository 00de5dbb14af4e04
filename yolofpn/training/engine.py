"""The training loop. It does not know which detector it trains: a dict of losses is all it sees."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from yolofpn.config import Metadata, TrainConfig
from yolofpn.data.loader import Batch, Loader
from yolofpn.data.sampler import TrainBatchSampler
from yolofpn.errors import UserError
from yolofpn.evaluation.metrics import Metrics
from yolofpn.training.checkpoint import Learner, Progress, save_checkpoint
from yolofpn.training.distributed import Ranks
from yolofpn.training.logger import METRIC_COLUMNS, RunLog
from yolofpn.training.optim import keep_norm_statistics, learning_rate_factor, set_learning_rate
from yolofpn.weights import RUN_WEIGHTS, save_weights


@dataclass
class Trainer:
    """Trains until the last epoch, an early stop or Ctrl-C, and can go on from any checkpoint.

    Attributes:
        learner: model, average, optimiser, scaler.
        network: what is called for the losses: the model, or the same wrapped for several processes.
        config: of the run.
        loader: batches to learn from.
        evaluate: measures the averaged model on the validation split.
        run_dir: where checkpoints and weights go.
        log: one row per epoch; None in processes that do not write.
        metadata: of the weights.
        config_json: the whole config of the run, for the checkpoints.
        overfit: train and evaluate on so many pictures only.
        paths: picture files by index, to name those of a bad batch.
        device: where the model lies.
        dtype: of the network's arithmetic.
        ranks: which of how many processes this is.
        progress: how far the run has come.
        say: prints a line.
    """

    learner: Learner
    network: nn.Module
    config: TrainConfig
    loader: Loader
    evaluate: Callable[[nn.Module], Metrics]
    run_dir: Path
    log: RunLog | None
    metadata: Metadata
    config_json: str
    overfit: int | None
    paths: Sequence[str]
    device: torch.device
    dtype: torch.dtype
    ranks: Ranks
    progress: Progress
    say: Callable[[str], None]
    _stop_requested: bool = False
    _last_save: float = field(default_factory=time.monotonic)

    @property
    def sampler(self) -> TrainBatchSampler:
        """Says which batches an epoch has."""
        assert isinstance(self.loader.sampler, TrainBatchSampler)
        return self.loader.sampler

    @property
    def batches_per_step(self) -> int:
        """Batches whose gradients are added up for one optimiser step; the last step of an epoch may have fewer."""
        global_batch = self.config.batch_size * self.ranks.world_size
        return max(1, round(self.config.nominal_batch_size / global_batch))

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.epochs * -(-self.sampler.batches_per_epoch // self.batches_per_step)

    def run(self) -> bool:
        """Train; whether the run has come to its end (else it was interrupted and can be resumed).

        Raises:
            UserError: a loss is not finite, memory is too small, or nothing can be written.
        """
        self.progress.finished = self.progress.epoch >= self.config.epochs
        with self._stopping_politely():
            while not self.progress.finished:
                self._train_epoch()
                if self._stop_requested:
                    self._save("last.pt")
                    return False
                self._finish_epoch()
        return True

    def _train_epoch(self) -> None:
        """Go through what is left of the epoch."""
        progress = self.progress
        self.sampler.start_epoch(progress.epoch, progress.batch)
        self.learner.model.train()
        keep_norm_statistics(self.learner.model, everywhere=self.config.freeze_norm)
        batches = iter(self.loader)
        start = time.monotonic()
        while group := list(islice(batches, self.batches_per_step)):
            self._step(group)
            progress.batch += len(group)
            progress.seconds += time.monotonic() - start
            start = time.monotonic()
            if self._stop_requested:
                return
            if start - self._last_save > 60 * self.config.checkpoint_minutes:
                self._save("last.pt")

    def _step(self, group: list[Batch]) -> None:
        """One optimiser step from the gradients of one or more batches."""
        learner, progress = self.learner, self.progress
        rate = self.config.optimizer.lr * self._rate_factor()
        set_learning_rate(learner.optimizer, rate)
        learner.optimizer.zero_grad(set_to_none=True)
        losses = self._add_gradients(group)
        self._check_finite(losses, group)
        for name, value in losses.items():
            progress.loss_sums[name] = progress.loss_sums.get(name, 0.0) + value
        if self.config.clip_norm is not None:
            learner.scaler.unscale_(learner.optimizer)
            nn.utils.clip_grad_norm_(learner.model.parameters(), self.config.clip_norm)
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
        if learner.ema:
            learner.ema.update(learner.model)
        progress.step += 1

    def _add_gradients(self, group: list[Batch]) -> dict[str, float]:
        """Backward through each batch; the losses by name, summed over the batches."""
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(group, start=1):
            batch = batch.to(self.device)
            images = batch.images
            if self.config.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            # Gradients of several processes need to meet only once per step.
            alone = isinstance(self.network, DistributedDataParallel) and number < len(group)
            with self.network.no_sync() if alone else nullcontext(), self._explaining_memory():  # type: ignore[operator]
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                    losses: dict[str, Tensor] = self.network(images, batch.targets)
                total = torch.stack(list(losses.values())).sum()
                self.learner.scaler.scale(total / len(group)).backward()  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                sums[name] = sums[name] + loss.detach() if name in sums else loss.detach()
        values = torch.stack(list(sums.values())).tolist()
        return dict(zip(sums, values, strict=True))

    def _rate_factor(self) -> float:
        warmup = min(self.config.warmup_steps, round(self.config.warmup_share * self.total_steps))
        return learning_rate_factor(self.progress.step, self.total_steps, warmup, self.config.schedule)

    def _check_finite(self, losses: dict[str, float], group: list[Batch]) -> None:
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if not wrong:
            return
        names = sorted({self.paths[index] for batch in group for indices in batch.indices for index in indices})
        path = self.run_dir / "bad_batch.txt"
        path.write_text("\n".join(names) + "\n")
        raise UserError(
            f"{wrong[0]} is not finite at epoch {self.progress.epoch + 1}, step {self.progress.step}; the files are "
            f"listed in {path}\ntry a lower train.optimizer.lr, or train.precision=fp32"
        )

    def _finish_epoch(self) -> None:
        progress = self.progress
        batches = max(progress.batch, 1)
        losses = {name: value / batches for name, value in progress.loss_sums.items()}
        progress.epoch += 1
        is_last = progress.epoch == self.config.epochs
        row: dict[str, float | int] = {
            "epoch": progress.epoch,
            "step": progress.step,
            "seconds": progress.seconds,
            "lr": self.config.optimizer.lr * self._rate_factor(),
            "loss": sum(losses.values()),
            **losses,
        }
        if is_last or progress.epoch % self.config.eval_interval == 0:
            row |= self._evaluate()
        progress.batch, progress.loss_sums = 0, {}
        progress.finished |= is_last
        if self.log:
            self.log.add(row)
            self.say(describe_epoch(row, self.config.epochs))
        self._save("last.pt")

    def _evaluate(self) -> dict[str, float]:
        """Measure; keep the weights if they are the best so far; note if it is time to stop."""
        progress = self.progress
        values = self.evaluate(self.averaged).values
        if values["AP"] > progress.best_ap or progress.best_epoch < 0:
            progress.best_ap, progress.best_epoch, progress.worse_evaluations = values["AP"], progress.epoch, 0
            if self.ranks.is_main:
                save_weights(self.run_dir / RUN_WEIGHTS, self.averaged.state_dict(), self.metadata)
                self._save("best.pt")
        else:
            progress.worse_evaluations += 1
            if self.config.patience is not None and progress.worse_evaluations >= self.config.patience:
                progress.finished = True
                self.say(f"stopping early: no better AP in {progress.worse_evaluations} evaluations")
        return {name: value for name, value in values.items() if name in METRIC_COLUMNS}

    @property
    def averaged(self) -> nn.Module:
        """What is evaluated and kept: the moving average, or the model itself where there is none."""
        return self.learner.ema.model if self.learner.ema else self.learner.model

    def _save(self, name: str) -> None:
        self._last_save = time.monotonic()
        if self.ranks.is_main:
            metadata = self.metadata.model_dump_json()
            path = self.run_dir / name
            save_checkpoint(
                path, self.learner, self.progress, metadata=metadata, config=self.config_json, overfit=self.overfit
            )

    @contextmanager
    def _explaining_memory(self) -> Iterator[None]:
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            smaller = max(1, self.config.batch_size // 2)
            raise UserError(
                f"out of memory with batches of {self.config.batch_size}: try --batch-size {smaller} "
                f"(gradients still add up to {self.config.nominal_batch_size} pictures per step)"
            ) from error

    @contextmanager
    def _stopping_politely(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) ends the step that is under way and saves; the second ends at once."""

        def request_stop(number: int, frame: FrameType | None) -> None:
            self._stop_requested = True
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.say("stopping after this step ...")

        before = {number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def describe_epoch(row: Mapping[str, float | int], epochs: int) -> str:
    """One line for people."""
    losses = " ".join(f"{name.removeprefix('loss_')} {row[name]:.3f}" for name in row if name.startswith("loss_"))
    line = f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.3f} ({losses}) lr {row['lr']:.2e}"
    return line + (f"  AP {row['AP']:.3f} AP50 {row['AP50']:.3f}" if "AP" in row else "")
