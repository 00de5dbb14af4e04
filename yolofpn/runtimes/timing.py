"""Times the batches of a backend under full load."""

from __future__ import annotations

import time
from collections import deque

from yolofpn.runtimes.backend import Backend, Batch, Wait


def seconds_per_pass(backend: Backend, batch: Batch, passes: int) -> float:
    """Return the seconds of a forward pass with several requests in flight, without filling and emptying the queue.

    Args:
        backend: what runs the network.
        batch: [B, 3, H, W], the same for each pass.
        passes: how many are timed; some more run before and after them.
    """
    in_flight = deque(backend.start(batch) for _ in range(backend.slots))
    for _ in range(backend.slots):
        _read(in_flight.popleft())
        in_flight.append(backend.start(batch))
    start = time.perf_counter()
    for _ in range(passes):
        _read(in_flight.popleft())
        in_flight.append(backend.start(batch))
    seconds = (time.perf_counter() - start) / passes
    for wait in in_flight:
        _read(wait)
    return seconds


def _read(wait: Wait) -> None:
    first, *_ = wait().values()
    first.flatten()[0].item()  # a GPU is done only when a number can be read
