"""One set of threads per processor, not one per library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch

from yolofpn.graphs.backend import Backend
from yolofpn.graphs.libraries import num_threads


def share_processors(backend: Backend, device: torch.device) -> None:
    """Let the network's library have the processors: what works beside it does so in one thread each.

    For programs, such as our doors: these are settings of the whole process. OMP_NUM_THREADS bounds all of them.

    Args:
        backend: what runs the network.
        device: where.
    """
    beside = 1 if device.type == "cpu" else num_threads()
    cv2.setNumThreads(beside)
    if backend.name != "torch":
        torch.set_num_threads(1)


@contextmanager
def sharing_processors(backend: Backend, device: torch.device) -> Iterator[None]:
    """As ``share_processors`` for a while, for those who run several backends in turns."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    share_processors(backend, device)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
