"""The training loop. It does not know which detector it trains: a dict of losses is all it sees."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import torch

from yolofpn.config import TrainConfig
from yolofpn.data.loader import Batch
from yolofpn.data.sampler import TrainBatchSampler
from yolofpn.errors import UserError
from yolofpn.evaluation.metrics import Metrics
from yolofpn.files import RUN_WEIGHTS, write_list
from yolofpn.interrupt import StopRequest
from yolofpn.memory_errors import is_out_of_memory
from yolofpn.models.build import NativeDetector
from yolofpn.text import counted
from yolofpn.training.checkpoint import BEST, LAST, Progress, save_checkpoint
from yolofpn.training.distributed import answer_of_main, from_main, gather, mean_over_ranks, take_from_main
from yolofpn.training.epoch_result import EpochResult
from yolofpn.training.learner import Learner, Update
from yolofpn.training.logger import METRIC_COLUMNS, ContainedLoggers, Logger, RunInfo, logging_run
from yolofpn.training.optim import keep_norm_statistics, learning_rate_factor
from yolofpn.training.random_state import RandomState, random_state
from yolofpn.training.rehearsal import TimeBudget, epochs_that_fit
from yolofpn.training.run_plan import with_epochs
from yolofpn.training.setup import Setup
from yolofpn.training.step_report import StepReport
from yolofpn.weights import save_weights

OnEpoch: TypeAlias = Callable[[EpochResult], bool | None]

EMA_SHARE = 0.03  # of a run's steps that the moving average spans at most


@dataclass
class Trainer:
    """Trains until the last epoch, an early stop or Ctrl-C, and can go on from any checkpoint.

    Attributes:
        setup: the run; its config changes with the number of epochs.
        learner: model, average, optimiser, scaler.
        run_dir: where checkpoints and weights go.
        progress: how far the run has come.
        loggers: receive the scalars; none in processes that do not write.
        user_loggers: receive them too, those of an epoch once its checkpoint is written; one that raises is dropped.
        budget: how long the run should take; epochs are then added or dropped as its speed turns out.
        on_epoch: called after each epoch; if it returns True, the run stops as by Ctrl-C and can be resumed.
    """

    setup: Setup
    learner: Learner[NativeDetector]
    run_dir: Path
    progress: Progress
    loggers: Sequence[Logger]
    user_loggers: Sequence[Logger] = ()
    budget: TimeBudget | None = None
    on_epoch: OnEpoch | None = None
    _stopping: bool = False
    _saving: bool = False
    _random_states: list[RandomState] = field(default_factory=list)
    _last_save: float = field(default_factory=time.monotonic)
    _epoch_start: float = field(default_factory=time.monotonic)
    _images_per_second: float = 0.0

    def __post_init__(self) -> None:
        self.ranks, self.say = self.setup.ranks, self.setup.say
        self._request = StopRequest(announce=self.ranks.is_main)
        self._contained = ContainedLoggers(self.user_loggers, self.say)
        self._set_average()
        self._report = StepReport(self.say, sys.stderr if self.ranks.is_main else None)

    @property
    def config(self) -> TrainConfig:
        """Settings of the training loop."""
        return self.setup.config.train

    @property
    def sampler(self) -> TrainBatchSampler:
        """Says which batches an epoch has."""
        return self.setup.loader.sampler

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of a whole epoch; the last one may be of fewer batches."""
        return -(-self.sampler.batches_per_epoch // batches_per_step(self.config, self.ranks.world_size))

    @property
    def rate(self) -> float:
        """The learning rate of the step that comes next."""
        total = self.config.epochs * self.steps_per_epoch
        warmup = min(self.config.warmup_steps, round(self.config.warmup_share * total))
        return self.config.optimizer.lr * learning_rate_factor(self.progress.step, total, warmup, self.config.schedule)

    def run(self, close: Callable[[], None] | None = None) -> bool:
        """Train; whether the run has come to its end (else it was interrupted and can be resumed).

        Args:
            close: called after the training, before the loggers' ``end``, which may raise.

        Raises:
            UserError: a loss is not finite, memory is too small, or nothing can be written.
        """
        progress = self.progress
        progress.finished = progress.epoch >= self.config.epochs
        run = RunInfo(self.run_dir, self.setup.config.model_dump(mode="json"), progress.epoch, progress.step)
        with logging_run((*self.loggers, *self.user_loggers), run, lambda: progress.finished):
            self._train()
            if close is not None:
                close()
        return progress.finished

    def _train(self) -> None:
        """Epoch after epoch, until the run has come to its end or someone wants to stop."""
        progress = self.progress
        with self._request.listening(), explaining_memory(self.config):
            self._gather_random_states()
            if progress.step == 0:
                self._save(LAST)  # from here on the run can be killed and resumed
            while not progress.finished:
                self._train_epoch()
                if self._stopping:
                    break
                self._keep_to_budget()
                try:
                    with self._request.raising():
                        metrics = self._evaluate()
                except KeyboardInterrupt:
                    break
                self._end_epoch(metrics)
                if self._stopping:
                    break
            if not progress.finished:
                self._save(LAST)

    def _train_epoch(self) -> None:
        """Go through what is left of the epoch."""
        progress = self.progress
        self.sampler.start_epoch(progress.epoch, progress.batch)
        self.learner.model.train()
        keep_norm_statistics(self.learner.model, everywhere=self.config.freeze_norm)
        batches = iter(self.setup.loader)
        group_size = batches_per_step(self.config, self.ranks.world_size)
        self._epoch_start = start = time.monotonic()
        self._report.start(progress.epoch + 1, self.config.epochs, self.steps_per_epoch, progress.batch // group_size)
        with closing(self._report):
            self._take_steps(batches, group_size, start)
        self._gather_random_states()

    def _take_steps(self, batches: Iterator[Batch], group_size: int, start: float) -> None:
        """Step after step until the epoch ends or someone wants to stop."""
        progress, begin, done = self.progress, start, 0
        while group := list(islice(batches, group_size)):
            self._step(group)
            progress.batch += len(group)
            progress.seconds += time.monotonic() - start
            start = time.monotonic()
            images = sum(len(batch) for batch in group) * self.ranks.world_size
            done += images
            self._images_per_second = done / max(start - begin, 1e-9)
            self._report.step(images, {name: value / progress.batch for name, value in progress.loss_sums.items()})
            if self._stopping:
                return
            if self._saving:
                self._gather_random_states()
                self._save(LAST)

    def _step(self, group: list[Batch]) -> None:
        """Do an optimiser step with the gradients of one or more batches."""
        progress = self.progress
        self.learner.note_progress(progress.step / max(1, self.config.epochs * self.steps_per_epoch))
        losses = self.learner.add_gradients(group)
        due = time.monotonic() - self._last_save > 60 * self.config.checkpoint_minutes
        wishes = torch.tensor([float(self._request.requested), float(due)], device=self.learner.device)
        # One message for all: whether any process wants to stop or to save, or has a loss that is not finite.
        *means, stop, save = mean_over_ranks(torch.cat([torch.stack(list(losses.values())), wishes])).tolist()
        for name, value in zip(losses, means, strict=True):
            if not math.isfinite(value):
                raise self._not_finite(name, group)
            progress.loss_sums[name] = progress.loss_sums.get(name, 0.0) + value
        update = self.learner.update(rate := self.rate)
        if update is Update.NOT_FINITE:
            raise self._not_finite("the gradient", group)
        if update is Update.DONE:  # a skipped step does not move the schedule either
            progress.step += 1
            parts = {name: value / len(group) for name, value in zip(losses, means, strict=True)}
            scalars = {"lr": rate, "loss": sum(parts.values()), **parts}
            for logger in self.loggers:
                logger.log_step(progress.step, scalars)
            self._contained.log("log_step", progress.step, scalars)
        self._stopping, self._saving = stop > 0, save > 0

    def _not_finite(self, what: str, group: list[Batch]) -> UserError:
        """Write the files of the batch of all processes, and return the error message."""
        paths = self.setup.splits.train.paths
        own = {paths[index] for batch in group for indices in batch.indices for index in indices}
        names = sorted(set().union(*gather(own)))
        path = self.run_dir / "bad_batch.txt"
        if self.ranks.is_main:
            write_list(path, names)
        return UserError(
            f"{what} is not finite at epoch {self.progress.epoch + 1}, step {self.progress.step + 1}; "
            f"the {len(names)} files of this step are listed in {path}\n"
            "look at them, and try a lower train.optimizer.lr or train.precision=fp32"
        )

    def _evaluate(self) -> Metrics | None:
        """Measure the averaged model, if it is time to."""
        epoch = self.progress.epoch + 1
        if epoch < self.config.epochs and epoch % self.config.eval_interval:
            return None
        take_from_main(self.learner.averaged)
        start = time.monotonic()
        metrics = self.setup.validation(self.learner.averaged)
        self.progress.evaluation_seconds += time.monotonic() - start
        if self.budget:
            self.budget.evaluation_seconds = time.monotonic() - start
        return metrics

    def _keep_to_budget(self) -> None:
        """After an epoch: change the number of epochs if the run would take too long, or could take longer."""
        if self.budget is None:
            return
        done = self.progress.epoch + 1
        seconds = time.monotonic() - self._epoch_start
        epochs = from_main(epochs_that_fit(self.budget, done, self.config.epochs, self.config.eval_interval, seconds))
        if epochs != self.config.epochs:
            self.say(f"time: {counted(epochs, 'epoch')} fit, not {self.config.epochs}")
            self.set_epochs(epochs)

    def set_epochs(self, epochs: int, **changes: int | None) -> None:
        """Make the run so long; ``changes`` are other values of the section train."""
        config = with_epochs(self.setup.config, epochs, **changes)
        self.setup = self.setup.with_config(config)
        self.sampler.combine_epochs = max(0, epochs - config.augment.close_epochs)
        self.sampler.most_batches = config.train.epoch_batches
        self._set_average()

    def _set_average(self) -> None:
        """Shorten the EMA's time constant to a fixed share of the run, if that is less than in the config."""
        if self.learner.ema is not None:
            steps = max(2.0, EMA_SHARE * self.config.epochs * self.steps_per_epoch)
            self.learner.ema.decay = min(self.config.ema_decay, 1 - 1 / steps)

    def _end_epoch(self, metrics: Metrics | None) -> None:
        """Judge, write down, save."""
        progress = self.progress
        self._gather_random_states()
        losses = {name: value / self.sampler.batches_per_epoch for name, value in progress.loss_sums.items()}
        progress.epoch, progress.batch, progress.loss_sums = progress.epoch + 1, 0, {}
        progress.finished = progress.epoch == self.config.epochs
        measured = {}
        if metrics is not None:
            measured = {name: value for name, value in metrics.values.items() if name in METRIC_COLUMNS}
            self._judge(metrics.values["AP"])
        result = EpochResult(
            epoch=progress.epoch,
            epochs=self.config.epochs,
            step=progress.step,
            losses={"loss": sum(losses.values()), **losses},
            metrics=measured,
            learning_rate=self.learner.optimizer.param_groups[0]["lr"],
            seconds=time.monotonic() - self._epoch_start,
            run_seconds=progress.seconds,
            images_per_second=self._images_per_second,
            best_ap=progress.best_ap,
        )
        for logger in self.loggers:
            logger.log_epoch(result.epoch, result.scalars())
        self.say(str(result))
        self._save(LAST)
        self._contained.log("log_epoch", result.epoch, result.scalars())
        self._stopping = answer_of_main(lambda: bool(self.on_epoch is not None and self.on_epoch(result)))

    def _judge(self, ap: float) -> None:
        """Save the weights if they are the best so far; set the stop flag if there is no improvement."""
        progress, patience = self.progress, self.config.patience
        better = ap > progress.best_ap or progress.best_epoch < 0
        progress.worse_evaluations = 0 if better else progress.worse_evaluations + 1
        if better or ap == progress.best_ap:  # of equals the one that has learnt longer
            progress.best_ap, progress.best_epoch = ap, progress.epoch
            if self.ranks.is_main:
                save_weights(self.run_dir / RUN_WEIGHTS, self.learner.averaged.state_dict(), self.setup.metadata)
            self._save(BEST)
        if patience is not None and progress.worse_evaluations >= patience:
            progress.finished = True
            self.say(f"stopping early: no better AP in {patience} evaluations")

    def _save(self, name: str) -> None:
        self._last_save = time.monotonic()
        if self.ranks.is_main:
            save_checkpoint(self.run_dir / name, self.learner, self.progress, self.setup.stored, self._random_states)

    def _gather_random_states(self) -> None:
        """Of all processes, which meet here; a run that is interrupted while it evaluates saves what is known."""
        self._random_states = gather(random_state(self.learner.device))


def batches_per_step(config: TrainConfig, world_size: int) -> int:
    """Number of gradient accumulation steps."""
    return max(1, round(config.nominal_batch_size / (config.batch_size * world_size)))


@contextmanager
def explaining_memory(config: TrainConfig) -> Iterator[None]:
    """Turn the many errors of too little memory into one that says what to try.

    Raises:
        UserError: memory is too small.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = next(iter(str(error).splitlines()), "")
        if is_out_of_memory(error):
            smaller = config.batch_size // 2
            remedy = f"--batch-size {smaller}" if smaller else "a smaller --img-size"
            raise UserError(
                f"out of memory with batches of {config.batch_size}: try {remedy} "
                f"(gradients still add up to {config.nominal_batch_size} images per step)"
            ) from error
        if reason.startswith("DataLoader worker"):
            raise UserError(
                f"a data loading process died ({reason}), often because memory ran out: try --workers 0"
            ) from error
        raise
