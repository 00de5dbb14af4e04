from __future__ import annotations

import time

import pytest
import torch

from tests.runtimes.fakes import MeanBackend, shades
from yolofpn.runtimes.backend import Batch, Wait
from yolofpn.runtimes.timing import seconds_per_pass
from yolofpn.types import RawMaps

PASS = 0.02  # seconds


class TwoAtATime(MeanBackend):
    """As a library with two streams: each takes ``PASS`` for a batch, and the third batch waits for the first."""

    slots = 3

    def __init__(self) -> None:
        super().__init__()
        self.free = [0.0, 0.0]

    def start(self, batch: Batch) -> Wait:
        finish = super().start(batch)
        done = max(min(self.free), time.perf_counter()) + PASS
        self.free[self.free.index(min(self.free))] = done

        def wait() -> RawMaps:
            time.sleep(max(0.0, done - time.perf_counter()))
            return finish()

        return wait


@pytest.mark.parametrize("passes", [4, 7])
def test_neither_filling_nor_emptying_the_queue_counts(passes: int) -> None:
    """Counted from the first start to the last end, four passes would take 2 x PASS / 3 each and more."""
    measured = seconds_per_pass(TwoAtATime(), shades(1), passes)
    waves = {4: 2 / 4, 7: 3.5 / 7}[passes]
    assert measured == pytest.approx(waves * PASS, rel=0.25)


def test_all_that_was_started_is_waited_for_and_its_numbers_are_read() -> None:
    read: list[int] = []

    class Queued(torch.Tensor):
        def flatten(self, *_: object) -> torch.Tensor:
            read.append(len(self))
            return torch.zeros(1)

    class Queue(MeanBackend):
        def start(self, batch: Batch) -> Wait:
            maps = super().start(batch)()
            return lambda: {name: raw.as_subclass(Queued) for name, raw in maps.items()}

    backend = Queue()
    assert seconds_per_pass(backend, shades(1), 5) > 0
    assert len(read) == len(backend.batches) == 5 + 2 * backend.slots
