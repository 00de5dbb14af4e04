"""``benchmark.py --train``: images per second of training, and what of it the images, the loss and the rest take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarking.machine import peak_memory, reset_peak_memory, synchronize
from yolofpn.data.loader import Batch, Loader, Padding
from yolofpn.data.sampler import TrainBatchSampler
from yolofpn.training.build_trainer import build_learner
from yolofpn.training.distributed import Ranks
from yolofpn.training.engine import batches_per_step, explaining_memory
from yolofpn.training.learner import Learner, Update
from yolofpn.training.optim import keep_norm_statistics
from yolofpn.training.setup import Setup
from yolofpn.training.splits import training_loader
from yolofpn.tuning.rounds import Timing, interleave

IMAGES_PER_TURN = 64
KEPT_IMAGES = 64  # few enough to be kept decoded whatever their size
WARM_UP_SECONDS = 10.0
PREFETCHED = 2  # batches that each worker of torch's DataLoader makes ahead

NETWORK, STEP, TRAINING = "network alone", "step, batch in memory", "training"
LOADER, DECODING, KEPT = "loader", "loader, 1 process, decoding", "loader, 1 process, images kept"


@dataclass(frozen=True)
class TrainingRow:
    """The training speed of one model.

    Attributes:
        images_per_second: medians by what was done; see ``measure_training``.
        best_images_per_second: the same of each one's best turn.
        share_of_network: training's images per second relative to the network's own forward and backward pass.
        loader_share: training's relative to the same step with a batch that is in memory already.
        peak_memory: in MB; see ``peak_memory``.
        first_loss: of the first step, the sum of all losses.
        last_loss: of the last step.
        losses_finite: whether every loss and gradient was a number.
    """

    model: str
    data: str
    device: str
    precision: str
    img_size: tuple[int, int]
    batch_size: int
    batches_per_step: int
    workers: int
    rounds: int
    images_per_second: dict[str, float]
    best_images_per_second: dict[str, float]
    share_of_network: float
    loader_share: float
    peak_memory: dict[str, float]
    first_loss: float
    last_loss: float
    losses_finite: bool

    def to_json(self) -> dict[str, object]:
        """Return the row as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """Format the row as text."""
        height, width = self.img_size
        return (
            f"{self.model} {height}x{width}, batch {self.batch_size}, {self.precision}: "
            f"{self.images_per_second[TRAINING]:.1f} images/s, {self.share_of_network:.0%} of the network alone; loss "
            f"{self.first_loss:.2f} -> {self.last_loss:.2f}" + ("" if self.losses_finite else ", NOT FINITE")
        )


def measure_training(setup: Setup, rounds: int) -> TrainingRow:
    """Let network, step, training and loaders take turns.

    'network alone' is forward and backward of the network on random images, without loss, optimiser and average;
    'step' adds these, with real batches that are in memory; 'training' takes every batch from the loader, as
    ``train.py`` does. 'loader' is the same loader alone; with one process it is what a core can do, once with every
    image decoded anew and once with decoded images kept.

    Raises:
        UserError: if the data set cannot be read, or out of memory.
    """
    config, learner = setup.config, build_learner(setup)
    learner.model.train()
    keep_norm_statistics(learner.model, everywhere=config.train.freeze_norm)
    turns = Turns(learner, batches_per_step(config.train, 1), config.train.batch_size, config.train.optimizer.lr)
    feeds = build_feeds(setup)
    reset_peak_memory(setup.device)
    with explaining_memory(config.train):
        feeds[LOADER].warm_up()
        feeds[KEPT].warm_up()
        group = list(islice(feeds[LOADER].batches, turns.batches_per_step))
        images = torch.randint(0, 256, group[0].images.shape, dtype=torch.uint8, device=setup.device)
        tasks: dict[str, Callable[[], list[float]]] = {
            NETWORK: partial(turns.network, images),
            STEP: partial(turns.step, group),
            TRAINING: partial(turns.training, feeds[LOADER]),
        }
        timings = interleave(tasks | {name: partial(turns.loading, feed) for name, feed in feeds.items()}, rounds)
    return _row(setup, turns, timings, rounds)


class Feed:
    """A loader whose epochs follow each other without end.

    Args:
        loader: of training batches.
        workers: the processes that it has.
    """

    def __init__(self, loader: Loader[TrainBatchSampler], workers: int) -> None:
        self.loader = loader
        self.ahead = PREFETCHED * workers  # batches that are made while others have their turn
        self.batches = self._endless()

    def warm_up(self) -> None:
        """Load an epoch, as far as the time goes: later ones find a small data set decoded in memory."""
        start = time.perf_counter()
        for _ in islice(self.batches, len(self.loader)):
            if time.perf_counter() - start > WARM_UP_SECONDS:
                return

    def _endless(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            self.loader.sampler.start_epoch(epoch)
            yield from self.loader
            epoch += 1


class Turns:
    """One round of all measurements; each returns mean seconds per image.

    Args:
        learner: what trains; it is changed.
        batches_per_step: of an optimiser step.
        batch_size: images of a batch.
        rate: the learning rate after the warm-up, which these few steps do not reach.
    """

    def __init__(self, learner: Learner[Any], batches_per_step: int, batch_size: int, rate: float) -> None:
        self.learner = learner
        self.batches_per_step = batches_per_step
        self.batch_size = batch_size
        self.rate = rate / 100
        self.steps = max(1, round(IMAGES_PER_TURN / (batches_per_step * batch_size)))
        self.losses: list[float] = []
        self.finite = True

    @property
    def batches(self) -> int:
        """Of a turn."""
        return self.steps * self.batches_per_step

    def network(self, images: Tensor) -> list[float]:
        """Forward and backward of the network on ``images`` [B, 3, H, W]."""
        self._network_once(images)
        return self._seconds_per_image(partial(self._network_once, images), self.batches)

    def step(self, group: list[Batch]) -> list[float]:
        """Optimiser steps with batches that are there."""
        self._step(group)
        return self._seconds_per_image(partial(self._step, group), self.steps)

    def training(self, feed: Feed) -> list[float]:
        """Time optimiser steps including data loading, without batches prefetched before the round."""
        self._step(list(islice(feed.batches, max(1, feed.ahead))))
        return self._seconds_per_image(
            lambda: self._step(list(islice(feed.batches, self.batches_per_step))), self.steps
        )

    def loading(self, feed: Feed) -> list[float]:
        """Time data loading alone."""
        for _ in range(feed.ahead):
            next(feed.batches)
        return self._seconds_per_image(partial(next, feed.batches), self.batches)

    def _network_once(self, images: Tensor) -> None:
        learner = self.learner
        learner.optimizer.zero_grad(set_to_none=True)
        if learner.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(learner.device.type, learner.dtype, enabled=learner.dtype != torch.float32):
            maps: Mapping[str, Tensor] = learner.model.dense(images)
        torch.autograd.backward([each.float().square().mean() for each in maps.values()])

    def _step(self, group: list[Batch]) -> None:
        losses = self.learner.add_gradients(group)
        # One number leaves the device per step, as in training.
        self.losses.append(float(torch.stack(list(losses.values())).sum()) / len(group))
        update = self.learner.update(self.rate)
        self.finite = self.finite and update is not Update.NOT_FINITE and math.isfinite(self.losses[-1])

    def _seconds_per_image(self, work: Callable[[], object], times: int) -> list[float]:
        synchronize(self.learner.device)
        start = time.perf_counter()
        for _ in range(times):
            work()
        synchronize(self.learner.device)
        return [(time.perf_counter() - start) / (self.batches * self.batch_size)]


def build_feeds(setup: Setup) -> dict[str, Feed]:
    """The loader that training has, and those of one process."""
    config, dataset = setup.config, setup.splits.train
    few = dataset.subset(range(min(len(dataset), KEPT_IMAGES)))
    one = partial(
        training_loader,
        config,
        ranks=Ranks(),
        workers=1,
        pin_memory=setup.device.type == "cuda",
        padding=Padding.for_network(config.input.mean, setup.model.size_divisor),
    )
    return {
        LOADER: Feed(setup.loader, setup.loader.workers),
        DECODING: Feed(one(dataset, cache_bytes=0), 1),
        KEPT: Feed(one(few), 1),
    }


def _row(setup: Setup, turns: Turns, timings: Mapping[str, Timing], rounds: int) -> TrainingRow:
    config, plan = setup.config, setup.plan
    rates = {name: 1 / timing.median for name, timing in timings.items()}
    return TrainingRow(
        model=plan.name,
        data=Path(config.data.source).name if config.data else "",
        device=str(setup.device),
        precision=str(setup.dtype).removeprefix("torch."),
        img_size=config.input.size,
        batch_size=config.train.batch_size,
        batches_per_step=turns.batches_per_step,
        workers=setup.loader.workers,
        rounds=rounds,
        images_per_second=rates,
        best_images_per_second={name: 1 / timing.best for name, timing in timings.items()},
        share_of_network=rates[TRAINING] / rates[NETWORK],
        loader_share=rates[TRAINING] / rates[STEP],
        peak_memory=peak_memory(setup.device),
        first_loss=turns.losses[0],
        last_loss=turns.losses[-1],
        losses_finite=turns.finite,
    )
