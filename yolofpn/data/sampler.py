"""Batch samplers: batches are pure functions of seed, epoch and batch index.

Nothing here remembers how far a run has come, so a run that is resumed, or fed by other workers, sees the same
batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from yolofpn.data.repeats import draw_counts, samples_of


@dataclass(frozen=True)
class SampleKey:
    """The key from which a worker creates a sample.

    Attributes:
        index: number of the image in the data set.
        epoch: epoch that the sample belongs to, from 0.
        size: (height, width) of the network's input in pixels.
        repeat: how often the epoch has shown the image before; each repeat is augmented differently.
        combine: whether mosaic and mixup are allowed.
    """

    index: int
    epoch: int
    size: tuple[int, int]
    repeat: int = 0
    combine: bool = True


class Draw(IntEnum):
    """Purposes of random numbers; each has its own stream."""

    ORDER = 0
    SIZE = 1
    SAMPLE = 2
    REPEATS = 3


def random_generator(seed: int, purpose: Draw, *position: int) -> np.random.Generator:
    """Return the random generator for one purpose and position, such as (epoch, index), independent of all others.

    Args:
        seed: of the run, not negative.
        purpose: what is drawn.
        position: where in the run, not negative.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *position)))


def multi_scale_sizes(lowest: int = 320, highest: int = 608, step: int = 32) -> tuple[tuple[int, int], ...]:
    """Square network sizes for multi-scale training (YOLOv2, arXiv 1612.08242, section 2: 320, 352, ... 608).

    Raises:
        ValueError: if the step is not positive or there is no size between the limits.
    """
    if step < 1 or not 0 < lowest <= highest:
        raise ValueError(f"no sizes from {lowest} to {highest} in steps of {step}")
    return tuple((side, side) for side in range(lowest, highest + 1, step))


class TrainBatchSampler(Sampler[list[SampleKey]]):
    """Shuffled batches of equal length, the same number of them on every rank.

    The ranks share out one global batch after the other: rank r has its r-th part. An epoch's last global batch is
    filled up with the first samples of that epoch's order, so each image is seen at least once per epoch.

    Attributes:
        samples_per_epoch: images of an epoch with their repeats, before its last batch is filled up.
        epoch: the epoch that iteration gives; set with ``start_epoch``.
        start_batch: the first batch that it gives.
        combine_epochs: epochs from this one on do without mosaic and mixup; None: all epochs have them.
        most_batches: an epoch is at most so many, of images drawn anew each time; None: every image.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        sizes: Sequence[tuple[int, int]],
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        repeat_factors: NDArray[np.float64] | None = None,
        combine_epochs: int | None = None,
        most_batches: int | None = None,
        shards: NDArray[np.int32] | None = None,
        shuffle_shards: int = 1,
    ) -> None:
        """A sampler at the start of epoch 0.

        Args:
            num_samples: images in the data set.
            batch_size: samples per batch and rank.
            sizes: (height, width) in pixels; each batch has one of them, drawn anew.
            seed: of order and sizes, not negative.
            rank: of this process, in 0 .. world_size - 1.
            world_size: number of processes.
            repeat_factors: [N] how often an epoch shows each image on average, 1 or more; None: once.
            combine_epochs: epochs from this one on do without mosaic and mixup; None: all epochs have them.
            most_batches: an epoch is at most so many; None: every image.
            shards: [N] the shard of each image. Then an epoch goes through the shards in random order, of which each
                rank has its own, and mixes the images of so many at a time as ``shuffle_shards`` says.
            shuffle_shards: see there.

        Raises:
            ValueError: if there are no samples or sizes, or a number is out of its range.
        """
        _check(num_samples, batch_size, rank, world_size)
        if num_samples == 0 or not sizes:
            raise ValueError("training needs at least one image and one size")
        factors = np.ones(num_samples) if repeat_factors is None else repeat_factors
        if factors.shape != (num_samples,) or not (factors >= 1).all():
            raise ValueError(f"each of the {num_samples} images needs a repeat factor of at least 1")
        self.samples_per_epoch = samples_of(factors)
        self.batch_size = batch_size
        self.sizes = tuple(sizes)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.combine_epochs = combine_epochs
        self.most_batches = most_batches
        self._repeat_factors = factors
        self._shards = shards
        self._shuffle_shards = shuffle_shards
        self.epoch = 0
        self.start_batch = 0

    @property
    def batches_per_epoch(self) -> int:
        """Batches of a whole epoch on this rank, and on every other."""
        return min(self._all_batches, self.most_batches or self._all_batches)

    @property
    def _all_batches(self) -> int:
        """Number of batches that show every image."""
        return -(-self.samples_per_epoch // (self.batch_size * self.world_size))

    def start_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """The next iteration gives the batches of ``epoch`` from ``start_batch`` on.

        Raises:
            ValueError: if the epoch is negative or has no such batch; its end is allowed, and gives nothing.
        """
        if epoch < 0 or not 0 <= start_batch <= self.batches_per_epoch:
            raise ValueError(f"no batch {start_batch} in epoch {epoch}: an epoch has {self.batches_per_epoch}")
        self.epoch = epoch
        self.start_batch = start_batch

    def __len__(self) -> int:
        return self.batches_per_epoch - self.start_batch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch = self.epoch
        counts = draw_counts(self._repeat_factors, random_generator(self.seed, Draw.REPEATS, epoch))
        index = np.repeat(np.arange(len(counts)), counts)
        repeat = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = self._order(epoch, index)
        combine = self.combine_epochs is None or epoch < self.combine_epochs
        for batch in range(self.start_batch, self.batches_per_epoch):
            size, own = self.size_of(epoch, batch), order[batch, self.rank]
            drawn = zip(index[own].tolist(), repeat[own].tolist(), strict=True)
            yield [SampleKey(image, epoch, size, number, combine) for image, number in drawn]

    def _order(self, epoch: int, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """[batches, ranks, batch size] numbers of samples, whose images are ``index`` [samples]."""
        rng = random_generator(self.seed, Draw.ORDER, epoch)
        if self._shards is None:
            shuffled = rng.permutation(self.samples_per_epoch)
            return np.resize(shuffled, (self._all_batches, self.world_size, self.batch_size))
        turns = rng.permutation(int(self._shards.max()) + 1)  # when each shard's turn is
        group = turns[self._shards[index]] // self._shuffle_shards
        shuffled = np.lexsort((rng.permutation(len(index)), group))
        # A rank has a part of that row, so that it reads few shards besides its own.
        return np.resize(shuffled, (self.world_size, self._all_batches, self.batch_size)).transpose(1, 0, 2)

    def size_of(self, epoch: int, batch: int) -> tuple[int, int]:
        """(height, width) of one batch, the same on all ranks."""
        return self.sizes[int(random_generator(self.seed, Draw.SIZE, epoch, batch).integers(len(self.sizes)))]


class EvalBatchSampler(Sampler[list[SampleKey]]):
    """Yields every image exactly once over all ranks, in order; the last batch may be smaller."""

    def __init__(
        self, num_samples: int, batch_size: int, size: tuple[int, int], *, rank: int = 0, world_size: int = 1
    ) -> None:
        """Rank r has the images r, r + world_size, r + 2 world_size, ...

        Args:
            num_samples: images in the data set.
            batch_size: samples per batch and rank.
            size: (height, width) of the network's input in pixels.
            rank: of this process, in 0 .. world_size - 1.
            world_size: number of processes.

        Raises:
            ValueError: if a number is out of its range.
        """
        _check(num_samples, batch_size, rank, world_size)
        self.indices = range(rank, num_samples, world_size)
        self.batch_size = batch_size
        self.size = size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield [SampleKey(index, 0, self.size) for index in self.indices[start : start + self.batch_size]]


def _check(num_samples: int, batch_size: int, rank: int, world_size: int) -> None:
    if num_samples < 0 or batch_size < 1:
        raise ValueError(f"cannot make batches of {batch_size} from {num_samples} samples")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is not in 0 .. {world_size - 1}")
