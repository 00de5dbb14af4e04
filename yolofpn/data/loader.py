"""Data loader: batches for training and evaluation from worker processes."""

from __future__ import annotations

import gc
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from yolofpn.data.sampler import EvalBatchSampler, TrainBatchSampler
from yolofpn.data.samples import Sample
from yolofpn.errors import UserError
from yolofpn.ops.resize import LETTERBOX_FILL, Placement
from yolofpn.structures import Target

SamplerT = TypeVar("SamplerT", bound=TrainBatchSampler | EvalBatchSampler)


@dataclass(frozen=True)
class Padding:
    """Padding of images at the right and bottom.

    Attributes:
        fill: value in 0..255 of each channel.
        divisor: height and width of a batch are multiples of it.
    """

    fill: tuple[float, ...] = (LETTERBOX_FILL, LETTERBOX_FILL, LETTERBOX_FILL)
    divisor: int = 1

    @classmethod
    def for_network(cls, mean: tuple[float, ...], divisor: int) -> Padding:
        """Return the padding that the network normalises to zero, given its ``mean`` (of values in 0..1)."""
        return cls(tuple(255 * value for value in mean), divisor)


@dataclass(frozen=True)
class Batch:
    """A batch of images with their targets.

    Attributes:
        images: [B, N, H, W], N = 3 RGB, uint8 or float32 of the range 0..255.
        targets: of each image, in pixels of the network's input.
        indices: of each image the numbers of the images it is made of, its own first.
        failures: why images could not be read, by their number in the data set.
        originals: evaluation only: of each image the ground truth in the image's own pixels.
        placements: evaluation only: where each image lies in the network's input.
    """

    images: Tensor
    targets: list[Target]
    indices: list[tuple[int, ...]]
    failures: dict[int, str] = field(default_factory=dict)
    originals: list[Target] = field(default_factory=list)
    placements: list[Placement] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def readable(self) -> list[bool]:
        """Return for each image of an evaluation batch whether it was readable."""
        return [indices[0] not in self.failures for indices in self.indices]

    def pin_memory(self) -> Batch:
        """The same batch with its images in page-locked memory; called by torch's DataLoader."""
        return replace(self, images=self.images.pin_memory())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with images and targets on ``device``; the copy of pinned images does not block."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            targets=[target.to(device) for target in self.targets],
        )


def collate(samples: Sequence[Sample], padding: Padding = Padding()) -> Batch:
    """Collate samples to a batch; smaller images are padded, and their targets store the unpadded size."""
    failures: dict[int, str] = {}
    for sample in samples:
        failures.update(sample.failures)
    images = _stack([sample.image for sample in samples], padding)
    return Batch(
        images=images,
        targets=[_with_size(sample, (images.shape[2], images.shape[3])) for sample in samples],
        indices=[sample.indices for sample in samples],
        failures=failures,
        originals=[sample.original for sample in samples if sample.original is not None],
        placements=[sample.placement for sample in samples if sample.placement is not None],
    )


class Loader(Generic[SamplerT]):
    """Iterates over the batches of a sampler; every unreadable image is reported once and never ends the run.

    Attributes:
        samples: makes a sample from a key.
        workers: processes that make samples.
        sampler: says which batches come; ``sampler.start_epoch(...)`` before iterating over a training loader.
        failures: why images could not be read, by their number in the data set.
    """

    def __init__(
        self,
        samples: Dataset[Sample],
        sampler: SamplerT,
        *,
        workers: int = 0,
        pin_memory: bool = False,
        padding: Padding = Padding(),
        start_method: str | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        """Starts no process yet.

        Args:
            samples: makes a sample from a key.
            sampler: makes batches of keys.
            workers: processes that make samples; they live until the loader does not. 0: this process makes them.
            pin_memory: whether images come in page-locked memory, for copies to CUDA devices.
            padding: of images that are smaller than their batch.
            start_method: how processes start: fork, forkserver or spawn; None: as the system prefers.
            report: called with one line per unreadable image; by default it is printed to stderr.
        """
        self.samples = samples
        self.workers = workers
        self.sampler: SamplerT = sampler
        self.failures: dict[int, str] = {}
        self._report = report or _print_to_stderr
        with _without_advice():
            self._batches: DataLoader[Any] = DataLoader(
                samples,
                batch_sampler=sampler,
                num_workers=workers,
                collate_fn=partial(collate, padding=padding),
                pin_memory=pin_memory,
                worker_init_fn=_prepare_worker,
                persistent_workers=workers > 0,
                multiprocessing_context=start_method if workers > 0 else None,
                # Of its own, so that starting over in the middle of an epoch leaves torch's global generator as it is.
                generator=torch.Generator(),
            )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """The sampler's batches.

        Raises:
            UserError: if nothing can be read at all.
        """
        try:
            with _without_advice(), _kept_garbage():
                batches = iter(self._batches)
            for batch in batches:
                self._note(batch)
                yield batch
        except UserError as error:
            # From a worker, torch gives it a traceback as its message, with the line for people at the end.
            line = str(error).rpartition(f"{UserError.__module__}.{UserError.__name__}: ")[2].strip()
            # It holds the iterator, which waits five seconds for its workers once it is collected.
            error.__traceback__ = None
            raise UserError(line) from None

    def _note(self, batch: Batch) -> None:
        for index, reason in batch.failures.items():
            if index not in self.failures:
                self._report(reason)
                self.failures[index] = reason


def _with_size(sample: Sample, batch_size: tuple[int, int]) -> Target:
    size = (sample.image.shape[1], sample.image.shape[2])
    return sample.target if size == batch_size else replace(sample.target, image_size=size)


def _stack(images: Sequence[Tensor], padding: Padding) -> Tensor:
    divisor = padding.divisor
    height, width = (-(-max(image.shape[axis] for image in images) // divisor) * divisor for axis in (1, 2))
    if all(image.shape[1:] == (height, width) for image in images):
        return torch.stack(list(images))
    fill = torch.tensor(padding.fill)
    if not images[0].is_floating_point():
        fill = fill.round()
    batch = fill.to(images[0].dtype).view(1, -1, 1, 1).repeat(len(images), 1, height, width)
    for padded, image in zip(batch, images, strict=True):
        padded[:, : image.shape[1], : image.shape[2]] = image
    return batch


@contextmanager
def _without_advice() -> Iterator[None]:
    """Who asks for more workers than there are processors need not read torch's warnings, which name its own lines."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")
        yield


@contextmanager
def _kept_garbage() -> Iterator[None]:
    """Keep processes forked in this context from freeing inherited objects.

    A forked worker has the objects of its parent but not its threads. Were it to collect, say, a video decoder that the
    parent left in a reference cycle, it would wait for ever for that decoder's threads to end.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _prepare_worker(worker: int) -> None:
    """Initialise a worker: one thread, and Ctrl-C is handled by the main process only."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
