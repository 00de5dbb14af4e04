"""The first steps of a run, made on a copy and timed: how fast it is, and in which arithmetic it is faster."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from yolofpn.data.loader import Batch, Loader
from yolofpn.data.sampler import TrainBatchSampler
from yolofpn.training.learner import Learner

LEAST_STEPS = 3
SECONDS = 6.0
CLOSING_SECONDS = 6.0  # plots, and the last files
EVALUATIONS = 5  # of a run that should take a given time, at most
EVALUATION_SHARE = 0.1  # of that time
FEW_EPOCHS = 10  # with fewer, whole epochs would miss the time by too much
TOLERANCE = 0.03


@dataclass(frozen=True)
class Pace:
    """The measured speed of a run.

    Attributes:
        seconds_per_batch: of learning, loading included.
    """

    seconds_per_batch: float


def rehearse(learner: Learner[Any], loader: Loader[TrainBatchSampler], *, seconds: float = SECONDS) -> Pace:
    """Learn for some seconds and time it; afterwards everything is as it was.

    The first step, which starts processes and builds kernels, does not count.

    Args:
        learner: its state is put back.
        loader: of the training split; its sampler is left at the start of epoch 0.
        seconds: how long to go on, for at least ``LEAST_STEPS`` steps.
    """
    sampler = loader.sampler
    before = copy.deepcopy(learner.state())
    sampler.start_epoch(0)
    learner.model.train()
    try:
        durations = list(_durations(learner, _endless(loader), seconds))
    finally:
        learner.restore(before)
        learner.optimizer.zero_grad(set_to_none=True)
        sampler.start_epoch(0)
    return Pace(sum(durations) / len(durations))


def _durations(learner: Learner[Any], batches: Iterator[Batch], seconds: float) -> Iterator[float]:
    """Yield the seconds of each step except the first."""
    end = None
    for number, batch in enumerate(batches):
        if number == 0:
            _step(learner, batch)
            start = time.monotonic()
            end = start + seconds
            continue
        _step(learner, batch)
        now = time.monotonic()
        yield now - start
        start = now
        if number >= LEAST_STEPS and end is not None and now >= end:
            return


def _step(learner: Learner[Any], batch: Batch) -> None:
    learner.add_gradients([batch])
    learner.update(1e-6)
    if learner.device.type == "cuda":
        torch.cuda.synchronize(learner.device)


def _endless(loader: Loader[TrainBatchSampler]) -> Iterator[Batch]:
    """The batches of epoch 0, again and again where it has too few of them."""
    while True:
        loader.sampler.start_epoch(0)
        yield from loader


@dataclass
class TimeBudget:
    """A run that should take a given time.

    Attributes:
        seconds: of the whole run.
        started: when it began, on ``clock``.
        evaluation_seconds: what measuring takes each time, as far as it is known.
        clock: gives the time in seconds.
    """

    seconds: float
    started: float
    evaluation_seconds: float = 0.0
    clock: Callable[[], float] = time.monotonic

    @property
    def evaluations(self) -> int:
        """Return the evaluation interval in epochs that leaves most of the time for training."""
        share = EVALUATION_SHARE * self.seconds
        return max(1, min(EVALUATIONS, int(share / max(self.evaluation_seconds, 1e-3))))

    @property
    def left(self) -> float:
        """Return the remaining seconds, without the final evaluation and plots."""
        return self.seconds - (self.clock() - self.started) - self.evaluation_seconds - CLOSING_SECONDS


def epochs_that_fit(budget: TimeBudget, done: int, planned: int, interval: int, seconds: float) -> int:
    """Return the number of epochs of a run.

    Args:
        budget: of the run.
        done: epochs that have been.
        planned: epochs of the whole run so far, which stand while they miss the end by little.
        interval: epochs between evaluations.
        seconds: of the last epoch, without evaluation.
    """
    evaluations = -(-planned // interval) - done // interval
    left = budget.left - evaluations * budget.evaluation_seconds
    miss = abs(seconds * (planned - done) - left)
    if miss < max(TOLERANCE * budget.seconds, seconds):
        return planned
    return done + max(0, int(left / seconds))


def schedule_for(budget: TimeBudget, pace: Pace, batches: int) -> tuple[int, int | None]:
    """Return the initial length of a run.

    Args:
        budget: of the run.
        pace: of its first steps.
        batches: of a whole epoch.

    Returns:
        The number of epochs, and how many batches each has; None: all of them.
    """
    fit = max(0.0, budget.left - budget.evaluations * budget.evaluation_seconds) / (pace.seconds_per_batch * batches)
    if fit >= FEW_EPOCHS:
        return int(fit), None
    epochs = max(1, math.ceil(fit))
    return epochs, max(1, int(batches * fit / epochs))
