"""The candidates of a comparison: weights with a backend, precision, image size and batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Protocol

import torch
from torch import nn

from benchmarking.machine import synchronize
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.predictor_options import Workload
from yolofpn.models.layer_summary import layer_rows
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.runtimes.backend import Backend, Batch, Wait
from yolofpn.runtimes.timing import seconds_per_pass
from yolofpn.structures import Detections, Image
from yolofpn.types import RawMaps

PRE, NETWORK, POST = "pre-process", "network", "post-process"


@dataclass(frozen=True)
class TimedDetections:
    """The detections of a batch of images, and the seconds of each stage."""

    detections: list[Detections]
    seconds: dict[str, float]


class Candidate(Protocol):
    """Something that detects, stage by stage."""

    @property
    def weights(self) -> str:
        """The name of the weights as given."""
        ...

    @property
    def backend(self) -> str:
        """The name of the backend."""
        ...

    @property
    def precision(self) -> str:
        """The precision of the network."""
        ...

    @property
    def img_size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        ...

    @property
    def batch_size(self) -> int:
        """Images of a pass."""
        ...

    @property
    def predictor(self) -> Predictor | None:
        """Ours; None for a baseline."""
        ...

    @property
    def workload(self) -> Workload:
        """The workload it is optimised for."""
        ...

    @property
    def is_random(self) -> bool:
        """Whether its weights are random, so that it has no AP."""
        ...

    def detect(self, images: Sequence[Image]) -> TimedDetections:
        """Detect in one batch and time each stage."""
        ...

    def network_passes(self, count: int) -> float:
        """Return the seconds of each of ``count`` forward passes with the images of the last ``detect``."""
        ...


class OurCandidate:
    """A predictor, timed from within: its backend tells when images reach it and when their maps are there.

    Args:
        weights: what they are called.
        predictor: is changed, its backend is wrapped.
        batch_size: images of a pass.
        darknet_file: the ``.weights`` file that the numbers come from, if it is one.
        workload: what its backend got ready for.
        is_random: the weights were made up for a cfg, and find nothing.
        compiled: by torch.compile.
    """

    def __init__(
        self,
        weights: str,
        predictor: Predictor,
        batch_size: int = 1,
        *,
        darknet_file: Path | None = None,
        workload: Workload = "many",
        is_random: bool = False,
        compiled: bool = False,
    ) -> None:
        self.darknet_file = darknet_file
        self.weights = weights
        self.batch_size = batch_size
        self.img_size = predictor.img_size
        self.is_random = is_random
        self.workload = workload
        self.own_predictor = predictor
        self._batch: Batch
        self._clock = ClockedBackend(predictor.backend, lambda: synchronize(torch.device(str(predictor.device))))
        self.backend = self._clock.name + (" compiled" if compiled else "")
        self.precision = self._clock.precision
        predictor.backend = self._clock

    @property
    def predictor(self) -> Predictor | None:
        """See ``own_predictor``."""
        return self.own_predictor

    def detect(self, images: Sequence[Image]) -> TimedDetections:
        """Detect in one batch and time each stage."""
        start = time.perf_counter()
        found = self.own_predictor.predict(images)
        end = time.perf_counter()
        self._batch = self._clock.batch  # runs end to end in between hand in others, down to a single image
        begun, done = self._clock.begun, self._clock.done
        return TimedDetections(found, {PRE: begun - start, NETWORK: done - begun, POST: end - done})

    def network_passes(self, count: int) -> float:
        """Time forward passes with several requests in flight."""
        return seconds_per_pass(self._clock.backend, self._batch, count)

    def proposals(self) -> float | None:
        """Regions that the second stage looks at in each image of the last ``detect``; None where there is none."""
        detector = self.own_predictor.postprocessor
        if not isinstance(detector, FasterRCNN):
            return None
        batch = self._batch
        with torch.inference_mode():
            found = detector.propose(
                self._clock.backend.start(batch)(), [(batch.shape[2], batch.shape[3])] * len(batch)
            )
        return fmean(len(boxes) for boxes, _ in found)


class ClockedBackend:
    """A backend that notes when it is handed a batch and when the batch's maps are there.

    Args:
        backend: does the work.
        synchronize: waits for the device.

    Attributes:
        batch: the last one.
        begun: when it came, on time.perf_counter's clock.
        done: when its maps were there.
    """

    def __init__(self, backend: Backend, synchronize: Callable[[], None]) -> None:
        self.backend = backend
        self.batch: Batch
        self.begun = self.done = 0.0
        self._synchronize = synchronize

    @property
    def name(self) -> str:
        """See ``Backend``."""
        return self.backend.name

    @property
    def precision(self) -> str:
        """See ``Backend``."""
        return self.backend.precision

    @property
    def slots(self) -> int:
        """See ``Backend``."""
        return self.backend.slots

    def start(self, batch: Batch) -> Wait:
        """See ``Backend``."""
        self.batch = batch
        self.begun = time.perf_counter()
        wait = self.backend.start(batch)

        def clocked() -> RawMaps:
            maps = wait()
            self._synchronize()
            self.done = time.perf_counter()
            return maps

        return clocked


def gflop(predictor: Predictor) -> float | None:
    """Billions of operations of one image in the network's dense part; None for a graph file, which hides them."""
    detector = predictor.detector
    if not isinstance(detector, nn.Module):
        return None
    return sum(row.gflop for row in layer_rows(detector, detector.dense, predictor.img_size))
